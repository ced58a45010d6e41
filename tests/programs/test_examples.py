"""Tests every example that is served by name, in one session each of a real server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from example_apps import (
    EXAMPLES,
    LINE,
    application_files,
    chats,
    examples_directory,
    service,
)
from pty_session import PtyClient
from serve import Service
from websocket_peer import Closed, Peer, stdin

__all__ = ["chats", "examples_directory", "service"]  # fixtures

# Clients, which are no applications.
APART = {"vault_client"}
ANOTHER = b"Shall we play again?"


def opened(service: Service, name: str, framing: str) -> Peer:
    peer = Peer(service.connect())
    assert peer.open(f"/{name}", framing=framing).status == 101
    return peer


def answers(service: Service, name: str, *asked: str) -> list[bytes | Closed]:
    """Return the messages received with `lines`, one for each message sent."""
    with opened(service, name, "lines") as peer:
        peer.send(*(line.encode() for line in asked))
        return [peer.receive() for _ in asked]


def told(answer: bytes | Closed) -> Any:
    """Decode a message of JSON."""
    assert isinstance(answer, bytes)
    return json.loads(answer)


def test_every_program_is_served_by_name() -> None:
    programs = {".py", ".sh", ".js", ".c", ".cob"}
    served = {file.stem for file in application_files(EXAMPLES)}
    there = {file.stem for file in EXAMPLES.iterdir() if file.suffix in programs}
    assert there - APART <= served


def test_animals(service: Service) -> None:
    with opened(service, "animals", "lines") as peer:
        peer.send(b"yes", b"yes", b"no")
        said = [peer.receive() for _ in range(6)]
        assert said[2:] == [b"Is it a fish?", b"I knew it!", ANOTHER, b"Goodbye."]
        assert peer.receive() == (1000, "exit 0")


def test_chat(service: Service) -> None:
    with (
        opened(service, "chat", "lines") as ada,
        opened(service, "chat_terminal", "stdio") as terminal,
    ):
        ada.send(b"ada")
        await_line(ada, b"help lists the commands.")
        terminal.message()  # the id of the session
        bob = PtyClient(terminal, service.pid)
        bob.expect("name: ")
        bob.type("bob\r")
        bob.expect("help lists")
        bob.type("start_chat ada\r")
        await_line(ada, b"bob asks to chat with you: answer yes or no within 30 s.")
        ada.send(b"yes")
        bob.expect("You are in a chat with ada")
        bob.type("message hello\r")
        await_line(ada, b"<bob> hello")
        ada.send(b"message hello, too", b"disconnect")
        bob.expect("<ada> hello, too")
        bob.expect("ada has disconnected")
        await_line(ada, b"You have disconnected.")
        assert ada.receive() == (1000, "exit 0")
        bob.type("\x04")
        assert bob.transcript().closed == (1000, "exit 0")


def await_line(peer: Peer, line: bytes) -> None:
    while (said := peer.receive()) != line:
        assert not isinstance(said, Closed), said


def test_mcp_server(service: Service) -> None:
    ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    with opened(service, "mcp_server", "lines") as peer:
        peer.send(ping)
        assert told(peer.receive()) == {"jsonrpc": "2.0", "id": 1, "result": {}}


def test_factor(service: Service) -> None:
    said = answers(service, "factor", "360", "97", "1", "18446744073709551615", "-4")
    assert said[:4] == [
        b"[2,2,2,3,3,5]",
        b"[97]",
        b"[]",
        b"[3,5,17,257,641,65537,6700417]",
    ]
    assert "error" in told(said[4])


def test_factor_line_by_line(service: Service) -> None:
    """Each answer arrives before the next question is sent: nothing is buffered."""
    with opened(service, "factor", "lines") as peer:
        for number in (6, 35):
            peer.send(str(number).encode())
            assert peer.receive() in (b"[2,3]", b"[5,7]")


def test_ledger(service: Service) -> None:
    with opened(service, "ledger", "lines") as peer:
        for asked, answer in (
            (b"deposit 12.50", b"balance 12.50"),
            (b"withdraw 3", b"balance 9.50"),
            (b"withdraw 100", b"refused: the account has not so much"),
            (b"deposit much", b"refused: an amount above zero is needed"),
            (b"Balance", b"balance 9.50"),
            (b"hello", b"say deposit, withdraw or balance"),
        ):
            peer.send(asked)
            assert peer.receive() == answer


def test_orders(service: Service) -> None:
    """The client talks to the target. The answers come from its server."""
    asked = "3 apple", "5 melon", "1 plum", "total"
    assert answers(service, "orders", *asked) == [
        b"3 apple 1.05",
        b"refused: only 2 melon left",
        b"refused: no plum here",
        b"total 1.05",
    ]


def test_tally(service: Service) -> None:
    *_, last, wrong = answers(service, "tally", "3", "4.5", "-1", "three")
    sums = told(last)
    assert (sums["count"], sums["least"], sums["most"]) == (3, -1, 4.5)
    assert sums["mean"] == pytest.approx(6.5 / 3)
    assert told(wrong) == {"error": "not a number: three"}


def test_unroll(service: Service) -> None:
    many = "i < 222; ++i) { for (j = 0; j < 45; ++j) { print -9223372036854775807; } }"
    asked = "for (i = 0; i < 3; ++i) { print i; }", "print 1;\tprint x;"
    found = map(told, answers(service, "unroll", *asked, f"for (i = 0; {many}"))
    printed, wrong, long = found
    assert printed["printed"] == [0, 1, 2]
    assert (wrong["line"], wrong["column"]) == (1, 16)
    assert long["printed"] == [-(2**63) + 1] * (222 * 45)


def test_vault(service: Service) -> None:
    asked = '["set","mail","my secret"]', "get mail", "get nothing", "keyset", "dance"
    *kept, wrong = map(told, answers(service, "vault", *asked))
    assert kept == [True, "my secret", None, ["mail"]]
    assert "error" in wrong


def test_repl(service: Service) -> None:
    with opened(service, "repl", "stdio") as peer:
        peer.message()
        peer.send(stdin(b"print(6 * 7)\n"))
        assert peer.output(3) == b"42\n"
        peer.send(stdin(b"raise SystemExit(3)\n"))
        story = peer.transcript()
    assert story.messages == [{"type": "exit", "code": 3}]
    assert story.closed == (1011, "exit 3")


def test_pylsp(service: Service) -> None:
    ask = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {}}
    with opened(service, "pylsp", "lsp") as peer:
        peer.send(ask)
        assert told(peer.receive())["result"]["serverInfo"]["name"] == "pylsp"


def test_log(service: Service, tmp_path: Path) -> None:
    """First the existing lines, then the added ones."""
    with opened(service, "log", "lines") as peer:
        assert peer.receive() == LINE.encode()
        with (tmp_path / "log").open("a") as log:
            log.write("another\n")
        assert peer.receive() == b"another"
        peer.send(b"nobody listens")
        assert isinstance(end := peer.receive(), Closed)
        assert end.code == 1008


def test_monitor(service: Service) -> None:
    with opened(service, "monitor", "lines") as peer:
        first, second = (told(peer.receive()) for _ in range(2))
    assert 0 < first["memory"]["available"] < first["memory"]["total"]
    assert second["uptime"] >= first["uptime"]
    assert len(first["load"]) == 3
