"""chimirror-ctl(1): one verb, one function; a fault is one line and a status."""

from __future__ import annotations

import os
import signal
import sys

from chimirror import __version__
from chimirror.ctl import (
    adding,
    check,
    ending,
    history,
    limit,
    limits,
    listing,
    log,
    manifest,
    steer,
    usage,
)
from chimirror.ctl.failure import Failure, say
from chimirror.ctl.host import this_host
from chimirror.ctl.table import Output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from chimirror.ctl.host import Host
    from chimirror.ctl.usage import Given

    Verb = Callable[[Given, Host, Output], int]

VERBS: dict[str, Verb] = {
    "sessions": listing.sessions,
    "show": listing.show,
    "log": log.log,
    "history": history.history,
    "stats": history.stats,
    "close": ending.close,
    "kill": ending.kill,
    "pause": steer.pause,
    "resume": steer.resume,
    "call": steer.call,
    "limits": limits.limits,
    "limit": limit.limit,
    "drain": ending.drain,
    "check": check.check,
    "manifest": manifest.manifest,
    "add": adding.add,
    "remove": adding.remove,
}


def main() -> int:
    """The program.

    Returns:
        The exit status: sysexits(3).
    """
    try:
        return run(sys.argv[1:], this_host(), Output())
    except Failure as failure:
        say(str(failure))
        return failure.status
    except KeyboardInterrupt:
        return _die(signal.SIGINT)
    except BrokenPipeError:
        return _die(signal.SIGPIPE)
    except PermissionError as error:
        say(f"{error.filename}: permission denied; ask as root")
        return os.EX_NOPERM
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        say(f"{where}{error.strerror or error}")
        return os.EX_OSERR


def run(argv: Sequence[str], host: Host, output: Output) -> int:
    """Do what a command line asks for."""
    given = usage.parse(argv)
    if given.verb == "--help":
        output.write(usage.USAGE)
        return os.EX_OK
    if given.verb == "--version":
        output.write(f"chimirror-ctl {__version__}\n")
        return os.EX_OK
    return VERBS[given.verb](given, host, output)


def _die(number: int) -> int:
    """End as a process does that the signal has killed: shells look at that."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    return 128 + number


if __name__ == "__main__":
    sys.exit(main())
