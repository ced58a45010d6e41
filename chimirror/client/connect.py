"""chimirror-connect(1): a remote process as if it were local.

Reads the command line, and turns what became of the session into what a process
can say: a status, a line on stderr, death by a signal. Knows no protocol. What
costs time to import is imported inside, after Ctrl-C does what a shell expects.
"""

from __future__ import annotations

import os
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

USAGE = """\
Join standard input, output and error to those of a remote process.

Usage:
  chimirror-connect [options] [--header FIELD]... [--] URL
  chimirror-connect --help
  chimirror-connect --version

URL is ws://HOST[:PORT][/PATH], wss://... or ws+unix:SOCKET[:/PATH].

Options:
  --header FIELD           Send this field, NAME:VALUE, with the request;
                           repeatable.
  --origin ORIGIN          Send this Origin, as the page of a browser would.
  --ca FILE                Trust the authorities in this PEM file, and no others.
  --connect-timeout TIME   Time for the session to open. [default: 10]
  --ping-interval TIME     Ask a silent server for a sign of life this often.
                           [default: 20]
  --ping-timeout TIME      Time for that sign to arrive. [default: 20]
  --help                   Print this text and exit.
  --version                Print the version and exit.

See chimirror-connect(1).
"""
SYNOPSIS = "Usage: chimirror-connect [options]... [--] URL"
VALUED = (
    "--header",
    "--origin",
    "--ca",
    "--connect-timeout",
    "--ping-interval",
    "--ping-timeout",
)
OPTIONS = (*VALUED, "--help", "--version")

# These make the request a handshake, or have an option of their own.
RESERVED = {
    "connection": "it belongs to the handshake",
    "content-length": "a handshake has no body",
    "origin": "use --origin",
    "transfer-encoding": "a handshake has no body",
    "upgrade": "it belongs to the handshake",
}
TOKEN = frozenset("!#$%&'*+-.^_`|~")  # RFC 9110, 5.6.2, beside letters and digits


def main(argv: Sequence[str] | None = None) -> int:
    """The program.

    Returns:
        The exit status: the remote one, 64 for usage, 255 for failures of our own.
    """
    # Until there is a session that could be told of it, Ctrl-C kills.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from .local import occupy_standard_descriptors
    from .texts import OWN_FAILURE, Failure, Killed, UsageError, say

    occupy_standard_descriptors()
    try:
        return _run(sys.argv[1:] if argv is None else argv)
    except UsageError as error:
        say(f"{error}\n{SYNOPSIS}")
        return os.EX_USAGE
    except Failure as error:
        say(str(error))
        return OWN_FAILURE
    except Killed as end:
        return _die(end.signum)


def _run(argv: Sequence[str]) -> int:
    given = _arguments(argv)
    if given["--help"]:
        return _show(USAGE)
    if given["--version"]:
        from chimirror import __version__

        return _show(f"chimirror-connect {__version__}\n")

    from . import dial, session, stdio, url
    from .texts import UsageError

    try:
        fields = [_field(text) for text in given["--header"]]
        times = _times(given)
    except ValueError as error:
        raise UsageError(str(error)) from None
    target = url.parse(given["URL"])
    if given["--ca"] is not None and not target.uri.secure:
        raise UsageError("--ca: only a wss:// URL has certificates to judge")
    channel = dial.dial(
        target,
        stdio.SUBPROTOCOL,
        headers=fields,
        origin=given["--origin"],
        ca=given["--ca"],
        timeout=times[0],
    )
    return session.Session(channel, times[1], times[2]).run()


def _arguments(argv: Sequence[str]) -> dict[str, Any]:
    """What docopt reads in the command line; abbreviations are refused."""
    from docopt import DocoptExit, DocoptLanguageError, docopt

    from .texts import UsageError

    _known_only(argv)
    try:
        return dict(docopt(USAGE, list(argv), default_help=False, options_first=True))
    except (DocoptExit, DocoptLanguageError):
        rest = _known_only(argv)
        if len(rest) > 1:
            raise UsageError("one URL, please, and options before it") from None
        raise UsageError("no URL; write ws://HOST:PORT/ to say where to go") from None


def _known_only(argv: Sequence[str]) -> Sequence[str]:
    """Refuse options that docopt would guess at; return what follows the options."""
    from .texts import UsageError, safe

    seen: set[str] = set()
    position = 0
    while position < len(argv) and argv[position][:1] == "-" != argv[position]:
        name, equals, _ = argv[position].partition("=")
        position += 1
        if name == "--":
            break
        if name not in OPTIONS:
            raise UsageError(f"{safe(name)} is not an option; --help lists them")
        if name in seen and name != "--header":
            raise UsageError(f"{name} is given twice; give it once")
        seen.add(name)
        if name in VALUED and not equals:
            if position == len(argv):
                raise UsageError(f"{name} needs a value")
            position += 1
        elif name not in VALUED and equals:
            raise UsageError(f"{name} takes no value")
    return argv[position:]


def _times(given: dict[str, Any]) -> tuple[float, float | None, float]:
    from chimirror import units

    name = ""
    try:
        name = "--connect-timeout"
        connect = units.deadline(given[name])
        name = "--ping-interval"
        interval = units.timeout(given[name])
        name = "--ping-timeout"
        return connect, interval, units.deadline(given[name])
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _field(text: str) -> tuple[str, str]:
    """A field of the request, from `NAME:VALUE`; the value's bytes as they are."""
    name, colon, value = text.partition(":")
    value = value.strip(" \t")
    token = name and all(c.isascii() and (c.isalnum() or c in TOKEN) for c in name)
    if not colon or not token:
        raise ValueError("--header: write NAME:VALUE, such as Authorization:Bearer-X")
    if any((ord(c) < 32 and c != "\t") or ord(c) == 127 for c in value):
        raise ValueError(f"--header {name}: a value holds no control characters")
    reserved = RESERVED.get(name.lower())
    if name.lower().startswith("sec-websocket-"):
        reserved = "it belongs to the handshake"
    if reserved:
        raise ValueError(f"--header {name}: cannot be set; {reserved}")
    # The library writes latin-1: what the user typed goes out byte by byte.
    return name, value.encode("utf-8", "surrogateescape").decode("latin-1")


def _show(text: str) -> int:
    from .texts import Failure

    try:
        os.write(1, text.encode())
    except OSError as error:
        raise Failure(f"cannot write standard output: {error.strerror}") from None
    return os.EX_OK


def _die(number: int) -> int:
    """End as a process does that the signal has killed: shells look at that."""
    if number != signal.SIGQUIT:  # whose core dump would be the interpreter's
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    return 128 + number


if __name__ == "__main__":
    sys.exit(main())
