"""The verb that follows the output of a session: attach.

The output comes as notifications of the control socket (chimirror-protocol(7)). On a
terminal its control characters are escaped, elsewhere it is written as it came.
"""

from __future__ import annotations

import os
from codecs import getincrementaldecoder
from io import IncrementalNewlineDecoder

from chimirror.ctl import json_fields
from chimirror.ctl.commands.control import authorized_client
from chimirror.ctl.json_fields import Malformed
from chimirror.ctl.messages import CommandError, warn
from chimirror.ctl.output import OutputWriter
from chimirror.framing.json_framing import decode_base64
from chimirror.text import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.ctl.json_fields import Object
    from chimirror.ctl.paths import HostPaths
    from chimirror.ctl.usage import CommandLine


def attach(given: CommandLine, host: HostPaths, output: OutputWriter) -> int:
    """Follow the output of a session to its end."""
    (text,) = given.ids
    printer: JSONPrinter | OutputPrinter = JSONPrinter(output)
    if "--json" not in given:
        printer = OutputPrinter(output, OutputWriter(2), raw="--raw" in given)
    with authorized_client(host, text) as (session, client):
        client.request("attach")
        warn(f"attached to {session.name}; Ctrl-C detaches")
        for method, params in client.notifications():
            with client.reading():
                if method == "output":
                    printer.print_output(params)
                elif method == "skipped":
                    printer.print_skipped(json_fields.count(params, "bytes"))
                elif method == "ended":
                    printer.print_ended(session.name, params)
                    return os.EX_OK
    lost = f"{session.name}: its bridge or worker has closed the connection"
    raise CommandError(os.EX_TEMPFAIL, lost)


class JSONPrinter:
    """Prints one JSON object a line, output in the form in which clients get it."""

    def __init__(self, output: OutputWriter) -> None:
        self._output = output

    def print_output(self, params: Object) -> None:
        """Print a piece of output."""
        stream = json_fields.text(params, "stream")
        payload = json_fields.text(params, "payload")
        self._output.json({"type": stream, "payload": payload})

    def print_skipped(self, size: int) -> None:
        """Print the number of bytes that were skipped."""
        self._output.json({"type": "skipped", "bytes": size})

    def print_ended(self, _name: str, params: Object) -> None:
        """Print how the session has ended."""
        names = ("exit", "reason")
        texts = {name: json_fields.text(params, name) for name in names}
        self._output.json({"type": "ended", **texts})


class OutputPrinter:
    """Prints the output of both streams where they belong.

    Args:
        stdout, stderr: one for each stream.
        raw: do not escape control characters on a terminal either.
    """

    def __init__(
        self, stdout: OutputWriter, stderr: OutputWriter, *, raw: bool
    ) -> None:
        self._writers: dict[str, OutputWriter] = {"stdout": stdout, "stderr": stderr}
        self._texts = {
            stream: TerminalText()
            for stream, writer in self._writers.items()
            if writer.width and not raw
        }

    def print_output(self, params: Object) -> None:
        """Print a piece of output."""
        stream = json_fields.text(params, "stream")
        if stream not in self._writers:
            raise Malformed(f"output of an unknown stream {stream}")
        try:
            data = decode_base64(json_fields.text(params, "payload"))
        except ValueError as error:
            raise Malformed(f"output that cannot be decoded: {error}") from None
        if stream in self._texts:
            self._writers[stream].write(self._texts[stream].add(data))
        else:
            self._writers[stream].write_bytes(data)

    def print_skipped(self, size: int) -> None:
        """Print the number of bytes that were skipped."""
        self._finish_lines()
        warn(f"... {size} bytes skipped")

    def print_ended(self, name: str, params: Object) -> None:
        """Print how the session has ended."""
        self._finish_lines()
        exit_text = json_fields.text(params, "exit")
        reason = json_fields.text(params, "reason")
        if exit_text not in ("", reason):
            reason = f"{reason} (application: {exit_text})"
        warn(f"{name} ended: {reason}")

    def _finish_lines(self) -> None:
        """End unfinished lines on a terminal, before a line of this program."""
        for stream, text in self._texts.items():
            self._writers[stream].write(text.finish())


class TerminalText:
    """Output of one stream as text that cannot move the cursor of a terminal.

    Each kind of line end becomes a line feed. Characters may be cut by chunks.
    """

    def __init__(self) -> None:
        self._decoder = IncrementalNewlineDecoder(
            getincrementaldecoder("utf-8")("surrogateescape"), translate=True
        )
        self._is_in_line = False

    def add(self, data: bytes, *, final: bool = False) -> str:
        """Return the text of the next output."""
        text = self._decoder.decode(data, final)
        if text:
            self._is_in_line = not text.endswith("\n")
        return printable(text.encode("utf-8", "surrogateescape"), "\n")

    def finish(self) -> str:
        """Return the end of the current line."""
        rest = self.add(b"", final=True)
        if not self._is_in_line:
            return rest
        self._is_in_line = False
        return rest + "\n"
