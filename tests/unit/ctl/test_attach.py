"""What attach prints: escaped on a terminal, as it came elsewhere."""

from __future__ import annotations

from base64 import b64encode

import pytest

from chimirror.ctl.commands.attach import JSONPrinter, OutputPrinter
from chimirror.ctl.json_fields import Malformed
from fake_host import Screen

PROMPT = b"\x1b[31mred\r\nna\xc3"  # ends within a character
REST = b"\xafve\xff\rtwo\tlines\n\x9b2J$ "


def piece(data: bytes, stream: str = "stdout") -> dict[str, object]:
    return {"stream": stream, "payload": b64encode(data).decode()}


def test_a_terminal_gets_no_control_character(
    capfd: pytest.CaptureFixture[str],
) -> None:
    stdout, stderr = Screen(80), Screen(80)
    printer = OutputPrinter(stdout, stderr, raw=False)
    printer.print_output(piece(PROMPT))
    printer.print_output(piece(b"\x1b]0;title\x07", "stderr"))
    printer.print_output(piece(REST))
    printer.print_skipped(123456)
    printer.print_output(piece(b"\xc3"))
    end = {"exit": "exit 3", "reason": "client close 1000"}
    printer.print_ended("session abc", end)
    assert stdout.text == (
        "\\x1b[31mred\nnaïve\\xff\ntwo\tlines\n\\x9b2J$ \n"  # the line is ended first
        "\\xc3\n"
    )
    assert stderr.text == "\\x1b]0;title\\x07\n"
    assert capfd.readouterr().err == (
        "chimirror-ctl: ... 123456 bytes skipped\n"
        "chimirror-ctl: session abc ended: client close 1000 (application: exit 3)\n"
    )


@pytest.mark.parametrize(("width", "raw"), [(80, True), (0, False)])
def test_raw_output(
    width: int, capfdbinary: pytest.CaptureFixture[bytes], *, raw: bool
) -> None:
    screen = Screen(width)  # which writes bytes to the real standard output
    printer = OutputPrinter(screen, screen, raw=raw)
    printer.print_output(piece(PROMPT))
    printer.print_output(piece(REST, "stderr"))
    printer.print_ended("session abc", {"exit": "", "reason": "\x1bgone"})
    assert capfdbinary.readouterr() == (
        PROMPT + REST,
        b"chimirror-ctl: session abc ended: \\x1bgone\n",
    )


def test_json() -> None:
    screen = Screen()
    printer = JSONPrinter(screen)
    printer.print_output(piece(b"hi\n"))
    printer.print_skipped(123456)
    printer.print_ended("session abc", {"exit": "exit 0", "reason": "\x7f"})
    assert screen.text == (
        '{"type":"stdout","payload":"aGkK"}\n'
        '{"type":"skipped","bytes":123456}\n'
        '{"type":"ended","exit":"exit 0","reason":"\\u007f"}\n'
    )


def test_output_that_no_server_sends() -> None:
    printer = OutputPrinter(Screen(), Screen(), raw=True)
    for stream, payload in (("stdlog", "eA=="), ("stdout", "é"), ("stdout", 1)):
        with pytest.raises(Malformed):
            printer.print_output({"stream": stream, "payload": payload})
