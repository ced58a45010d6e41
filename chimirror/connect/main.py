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
    import ssl
    from collections.abc import Sequence
    from typing import Any

    from chimirror.client.framing import Framing
    from chimirror.client.opening import Plan

    from .terminal import Terminal

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
OPTIONS = (*VALUED, "--pty", "--help", "--version")


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

    from chimirror.client import framing, opening, url

    from .texts import UsageError

    try:
        target = url.parse(given["URL"])
        if given["--ca"] is not None and not target.uri.secure:
            raise ValueError("--ca: only a wss:// URL has certificates to judge")
        plan = opening.Plan(
            target,
            headers=[_field(text) for text in given["--header"]],
            origin=given["--origin"],
            ssl=_trusting(given["--ca"]),
            **_times(given),
        )
    except ValueError as error:
        raise UsageError(str(error)) from None
    terminal = _terminal() if given["--pty"] else None
    return _join(plan, framing.create("stdio"), terminal)


def _terminal() -> Terminal:
    from .terminal import Terminal
    from .texts import UsageError

    try:
        return Terminal(0)
    except OSError:
        raise UsageError("--pty: standard input is no terminal; leave it out") from None


def _join(plan: Plan, framing: Framing, terminal: Terminal | None) -> int:
    from chimirror.client import ConnectTimeout, Error, Refused, Untrusted
    from chimirror.client.blocking import start

    from .joined import Joined
    from .texts import Failure

    try:
        # A server need not have said anything before our input may come.
        session = start(plan, framing, greeted=terminal is not None)
    except Error as error:
        text = str(error)
        if isinstance(error, ConnectTimeout):
            text += " (--connect-timeout gives it longer)"
        elif isinstance(error, Untrusted):
            text += "; if it is your own, name its authority with --ca FILE"
        elif isinstance(error, Refused) and error.status == 401:
            text += "; log in with --header Authorization:..."
        raise Failure(text) from None
    if terminal is None:
        return Joined(session).run()
    if not session.pty:
        session.abort()
        raise Failure("there is no terminal at the other end; leave --pty out")
    from .screen import Screen

    return Screen(session, terminal).run()


def _trusting(ca: str | None) -> ssl.SSLContext | None:
    """The TLS that trusts the authorities of this file alone."""
    if ca is None:
        return None
    import ssl

    from chimirror.client.texts import safe

    from .texts import Failure

    try:
        context = ssl.create_default_context(cafile=ca)
    except ssl.SSLError:
        raise Failure(
            f"cannot use --ca {safe(ca)}: it holds no PEM certificate"
        ) from None
    except OSError as error:
        raise Failure(f"cannot read --ca {safe(ca)}: {error.strerror}") from None
    context.set_alpn_protocols(["http/1.1"])
    return context


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
    from chimirror.client.texts import safe

    from .texts import UsageError

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


def _times(given: dict[str, Any]) -> dict[str, Any]:
    from chimirror import units

    name = ""
    try:
        name = "--connect-timeout"
        timeout = units.deadline(given[name])
        name = "--ping-interval"
        interval = units.timeout(given[name])
        name = "--ping-timeout"
        patience = units.deadline(given[name])
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    return {"timeout": timeout, "ping_interval": interval, "ping_timeout": patience}


def _field(text: str) -> tuple[str, str]:
    """A field of the request, from `NAME:VALUE`."""
    from chimirror.client import opening

    name, colon, value = text.partition(":")
    if not colon or not opening.is_token(name):
        raise ValueError("--header: write NAME:VALUE, such as Authorization:Bearer-X")
    if name.lower() == "origin":
        raise ValueError("--header Origin: cannot be set; use --origin")
    try:
        opening.field(name, value)
    except ValueError as error:
        raise ValueError(f"--{error}") from None
    return name, value


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
