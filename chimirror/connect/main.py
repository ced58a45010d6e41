"""chimirror-connect(1): runs a remote process as if it were local.

Reads the command line. Converts the end of the session to an exit status, a message on
stderr or death by a signal. Knows nothing of the protocol. Slow imports are inside
functions, after Ctrl-C has the effect that a shell expects.
"""

from __future__ import annotations

import os
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence
    from typing import Any

    from chimirror.client.framing import Framing
    from chimirror.client.handshake import ConnectionParams
    from chimirror.connect.tty import LocalTerminal

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
  --pty                    Join the terminal of the remote process to this one.
  --connect-timeout TIME   Time for the session to open. [default: 10]
  --ping-interval TIME     Ask a silent server for a sign of life this often.
                           [default: 20]
  --ping-timeout TIME      Time for that sign to arrive. [default: 20]
  --help, -h               Print this text and exit.
  --version                Print the version and exit.

See chimirror-connect(1).
"""
SYNOPSIS = "Usage: chimirror-connect [options]... [--] URL"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program.

    Returns:
        The exit status: that of the remote process, 64 for a wrong command line, 255
            for
        a failure of the client.
    """
    # Before there is a session that could receive SIGINT, Ctrl-C kills the client.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from chimirror.connect.errors import (
        EXIT_FAILURE,
        ConnectError,
        KilledBySignal,
        UsageError,
        print_error,
    )
    from chimirror.connect.local_io import open_standard_fds

    open_standard_fds()
    try:
        return _run(sys.argv[1:] if argv is None else argv)
    except UsageError as error:
        print_error(f"{error}\n{SYNOPSIS}")
        return os.EX_USAGE
    except ConnectError as error:
        print_error(str(error))
        return EXIT_FAILURE
    except KilledBySignal as end:
        return _kill_self(end.signum)


def _run(argv: Sequence[str]) -> int:
    given = _arguments(argv)
    if given["--help"]:
        return _print(USAGE)
    if given["--version"]:
        from chimirror import __version__

        return _print(f"chimirror-connect {__version__}\n")

    from chimirror.client import framing, handshake, url
    from chimirror.connect.errors import UsageError

    try:
        target = url.parse(given["URL"])
        if given["--ca"] is not None and not target.uri.secure:
            raise ValueError("--ca: only wss:// URLs use certificates")
        params = handshake.ConnectionParams(
            target,
            headers=[_field(text) for text in given["--header"]],
            origin=given["--origin"],
            ssl=_ssl_context(given["--ca"]),
            **_timeouts(given),
        )
    except ValueError as error:
        raise UsageError(str(error)) from None
    terminal = _local_terminal() if given["--pty"] else None
    return _relay(params, framing.create("stdio"), terminal)


def _local_terminal() -> LocalTerminal:
    from chimirror.connect.errors import UsageError
    from chimirror.connect.tty import LocalTerminal

    try:
        return LocalTerminal(0)
    except OSError:
        raise UsageError("--pty: standard input is not a terminal; omit it") from None


def _relay(
    params: ConnectionParams, framing: Framing, terminal: LocalTerminal | None
) -> int:
    from chimirror.client import ConnectTimeout, Error, Refused, Untrusted
    from chimirror.client.blocking import start
    from chimirror.connect.errors import ConnectError
    from chimirror.connect.stdio_relay import StdioRelay

    try:
        # Without a terminal, input may be sent before the first message of the server.
        session = start([params], framing, await_first_message=terminal is not None)
    except Error as error:
        text = str(error)
        if isinstance(error, ConnectTimeout):
            text += " (set a longer --connect-timeout)"
        elif isinstance(error, Untrusted):
            text += "; if it is your own, name its authority with --ca FILE"
        elif isinstance(error, Refused) and error.status == 401:
            text += "; log in with --header Authorization:..."
        raise ConnectError(text) from None
    if terminal is None:
        return StdioRelay(session).run()
    if not session.pty:
        session.abort()
        raise ConnectError("the remote process has no terminal; omit --pty")
    from chimirror.connect.terminal_relay import TerminalRelay

    return TerminalRelay(session, terminal).run()


def _ssl_context(ca: str | None) -> ssl.SSLContext | None:
    """Create a TLS context that trusts only the authorities in this file."""
    if ca is None:
        return None
    import ssl

    from chimirror.connect.errors import ConnectError
    from chimirror.text import escape_line

    try:
        context = ssl.create_default_context(cafile=ca)
    except ssl.SSLError:
        raise ConnectError(
            f"cannot use --ca {escape_line(ca)}: it holds no PEM certificate"
        ) from None
    except OSError as error:
        raise ConnectError(
            f"cannot read --ca {escape_line(ca)}: {error.strerror}"
        ) from None
    context.set_alpn_protocols(["http/1.1"])
    return context


def _arguments(argv: Sequence[str]) -> dict[str, Any]:
    """Read the command line with docopt. Abbreviated options are refused."""
    from docopt import DocoptExit, DocoptLanguageError, docopt

    from chimirror.config import parser, usage
    from chimirror.connect.errors import UsageError
    from chimirror.text import escape_line

    table, short = usage.read_options(USAGE)
    try:
        words, _ = parser.scan(table, argv, short=short)
        return dict(docopt(USAGE, list(argv), default_help=False, options_first=True))
    except parser.ScanError as error:
        raise UsageError(escape_line(parser.explain(error, table))) from None
    except (DocoptExit, DocoptLanguageError):
        if len(words) > 1:
            raise UsageError("write one URL, and options before it") from None
        raise UsageError("no URL; write ws://HOST:PORT/") from None


def _timeouts(given: dict[str, Any]) -> dict[str, Any]:
    from chimirror.config import quantities

    name = ""
    try:
        name = "--connect-timeout"
        timeout = quantities.parse_deadline(given[name])
        name = "--ping-interval"
        ping_interval = quantities.parse_timeout(given[name])
        name = "--ping-timeout"
        ping_timeout = quantities.parse_deadline(given[name])
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    return {
        "timeout": timeout,
        "ping_interval": ping_interval,
        "ping_timeout": ping_timeout,
    }


def _field(text: str) -> tuple[str, str]:
    """Parse a header field, `NAME:VALUE`."""
    from chimirror.client import handshake

    name, colon, value = text.partition(":")
    if not colon or not handshake.is_token(name):
        raise ValueError("--header: write NAME:VALUE, such as Authorization:Bearer-X")
    if name.lower() == "origin":
        raise ValueError("--header Origin: cannot be set; use --origin")
    try:
        handshake.field_value(name, value)
    except ValueError as error:
        raise ValueError(f"--{error}") from None
    return name, value


def _print(text: str) -> int:
    from chimirror.connect.errors import ConnectError

    try:
        os.write(1, text.encode())
    except OSError as error:
        raise ConnectError(f"cannot write standard output: {error.strerror}") from None
    return os.EX_OK


def _kill_self(number: int) -> int:
    """End as if the signal had killed this process, which shells check."""
    if number != signal.SIGQUIT:  # a core dump would be that of the interpreter
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    return 128 + number


if __name__ == "__main__":
    sys.exit(main())
