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
    from collections.abc import Sequence
    from typing import Any

    from chimirror.client.handshake import ConnectionParams
    from chimirror.client.tls_settings import TLSSettings
    from chimirror.client.url import Target
    from chimirror.connect.login import Login
    from chimirror.connect.opening import Opened
    from chimirror.connect.tty import LocalTerminal

USAGE = """\
Join standard input, output and error to those of a remote process.

Usage:
  chimirror-connect [options] [--header FIELD]... [--] URL...
  chimirror-connect --help
  chimirror-connect --version

URL is ws://HOST[:PORT][/PATH], wss://... or ws+unix:SOCKET[:/PATH]. If there is no
connection to a URL, or its server is not available, the next one is tried.

Options:
  --framing NAME           Speak stdio, json, lines or lsp. Without it, the best
                           of these that the server serves.
  --subprotocol NAME       Ask for this name of the server for a framing, such as
                           mcp.
  --list                   Print the applications of the server and exit.
  --pty                    Join the terminal of the remote process to this one, or
                           fail. Without it, they are joined if both exist.
  --no-pty                 Do not join them.
  --linger TIME            End a session that has been quiet for this long since
                           the end of input, if it does not end by itself.
                           [default: 5]
  --header FIELD           Send this field, NAME:VALUE, with the request;
                           repeatable.
  --token-file FILE        Log in with the token in this file, which is read for
                           each connection.
  --netrc-file FILE        Log in with the user and password that this file has
                           for the host, as for curl.
  --origin ORIGIN          Send this Origin, as the page of a browser would.
  --ca FILE                Trust the authorities in this PEM file, and no others.
  --cert FILE              Show the server the certificate in this PEM file.
  --key FILE               The key of that certificate, if it is in another file.
  --connect-timeout TIME   Time for the session to open. [default: 10]
  --ping-interval TIME     Ask a silent server for a sign of life this often.
                           [default: 20]
  --ping-timeout TIME      Time for that sign to arrive. [default: 20]
  --verbose, -v            Show each step of the connection on standard error.
  --help, -h               Print this text and exit.
  --version                Print the version and exit.

See chimirror-connect(1).
"""
SYNOPSIS = "Usage: chimirror-connect [options]... [--] URL..."


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program.

    Returns:
        The exit status: that of the remote process, 64 for a wrong command line, 255
        for a failure of the client.
    """
    # Before there is a session that could receive SIGINT, Ctrl-C kills the client.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from chimirror.connect.errors import (
        EXIT_FAILURE,
        ConnectError,
        KilledBySignal,
        NameMissing,
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
    except NameMissing as error:
        print_error(str(error).rstrip())
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

    from chimirror.connect import login, opening, tls_options
    from chimirror.connect.errors import UsageError

    try:
        framing_name, subprotocol = _framing(given)
        linger = _time(given, "--linger", "parse_timeout")
        targets = [_target(each) for each in given["URL"]]
        tls_options.check(given, targets)
        fields = [_field(text) for text in given["--header"]]
        terminal = None if given["--list"] else _local_terminal(given)
        settings = tls_options.settings(given)
        servers = [
            _params(given, each, own, settings, terminal)
            for each, own in zip(
                targets, login.logins(given, fields, targets), strict=True
            )
        ]
    except ValueError as error:
        raise UsageError(str(error)) from None
    if given["--list"]:
        return _print(opening.list_applications(servers))
    opened = opening.open_session(
        servers,
        framing_name,
        subprotocol,
        await_first_message=terminal is not None or given["--verbose"],
    )
    return _relay(opened, terminal, linger, given)


def _relay(
    opened: Opened,
    terminal: LocalTerminal | None,
    linger: float | None,
    given: dict[str, Any],
) -> int:
    """Join the session to the local streams, in the way that both sides allow."""
    from chimirror.connect.errors import ConnectError

    session, framing = opened
    if terminal is not None and session.pty:
        from chimirror.connect.terminal_relay import TerminalRelay

        return TerminalRelay(session, terminal).run()
    if given["--pty"]:
        session.abort()
        raise ConnectError("the remote process has no terminal; omit --pty")
    if framing.has_session_messages:
        from chimirror.connect.stdio_relay import StdioRelay

        return StdioRelay(session, linger, notes_terminal=not given["--no-pty"]).run()
    from chimirror.connect.text_relay import TextRelay

    return TextRelay(session, framing, linger).run()


def _params(
    given: dict[str, Any],
    target: Target,
    login: Login,
    settings: TLSSettings,
    terminal: LocalTerminal | None,
) -> ConnectionParams:
    """Make the parameters of the connection.

    Raises:
        ValueError: An option is wrong.
    """
    from chimirror.client.handshake import ConnectionParams
    from chimirror.connect.errors import print_error
    from chimirror.connect.text_framings import MAX_MESSAGE

    params = ConnectionParams(
        target,
        headers=login.headers,
        token=login.token,
        origin=given["--origin"],
        tls=settings,
        timeout=_time(given, "--connect-timeout", "parse_deadline"),
        ping_interval=_time(given, "--ping-interval", "parse_timeout"),
        ping_timeout=_time(given, "--ping-timeout", "parse_deadline"),
        max_message=MAX_MESSAGE,
        size=None if terminal is None else terminal.size,
    )
    if given["--verbose"]:
        params.trace = print_error
    return params


def _target(text: str) -> Target:
    from chimirror.client import url

    if text.startswith("-"):
        raise ValueError("write options before the URL")
    return url.parse(text)


def _framing(given: dict[str, Any]) -> tuple[str | None, str | None]:
    """Return the values of --framing and --subprotocol, which are checked."""
    from chimirror.client.framing import NAMES
    from chimirror.connect.offers import is_name
    from chimirror.text import escape_line

    framing_name, subprotocol = given["--framing"], given["--subprotocol"]
    if framing_name is not None and framing_name not in NAMES:
        shown = escape_line(framing_name, 64)
        raise ValueError(f'--framing: "{shown}" is not {", ".join(NAMES)}')
    if subprotocol is not None and not is_name(subprotocol):
        raise ValueError("--subprotocol: write a name without spaces, such as mcp")
    return framing_name, subprotocol


def _local_terminal(given: dict[str, Any]) -> LocalTerminal | None:
    """Return the terminal on standard input, None if it is not to be joined."""
    from chimirror.connect.errors import UsageError

    if given["--pty"] and given["--no-pty"]:
        raise UsageError("--pty and --no-pty: write one of them")
    if given["--no-pty"] or not (given["--pty"] or (os.isatty(0) and os.isatty(1))):
        return None
    from chimirror.connect.tty import LocalTerminal

    try:
        return LocalTerminal(0)
    except OSError:
        raise UsageError("--pty: standard input is not a terminal; omit it") from None


def _arguments(argv: Sequence[str]) -> dict[str, Any]:
    """Read the command line with docopt. Abbreviated options are refused."""
    from docopt import DocoptExit, DocoptLanguageError, docopt

    from chimirror.config import parser, usage
    from chimirror.connect.errors import UsageError
    from chimirror.text import escape_line

    table, short = usage.read_options(USAGE)
    try:
        parser.scan(table, argv, short=short)
        return dict(docopt(USAGE, list(argv), default_help=False, options_first=True))
    except parser.ScanError as error:
        raise UsageError(escape_line(parser.explain(error, table))) from None
    except (DocoptExit, DocoptLanguageError):
        raise UsageError("no URL; write ws://HOST:PORT/") from None


def _time(given: dict[str, Any], name: str, reader: str) -> Any:
    """Read the time of an option with a function of `quantities`."""
    from chimirror.config import quantities

    try:
        return getattr(quantities, reader)(given[name])
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


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
