"""chimirror-ctl(1): dispatches each verb to one function.

An error is printed as one line, and the exit status names its kind: sysexits(3).
"""

from __future__ import annotations

import os
import signal
import sys

from chimirror import __version__
from chimirror.ctl import usage
from chimirror.ctl.commands import (
    apps,
    attach,
    check,
    control,
    drain,
    history,
    hosts,
    log,
    manifest,
    sessions,
    set_limits,
    show_limits,
    stats,
    stop,
)
from chimirror.ctl.messages import CommandError, warn
from chimirror.ctl.output import OutputWriter
from chimirror.ctl.paths import this_host

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from chimirror.ctl.paths import HostPaths
    from chimirror.ctl.usage import CommandLine

    Verb = Callable[[CommandLine, HostPaths, OutputWriter], int]

VERBS: dict[str, Verb] = {
    "sessions": sessions.sessions,
    "show": sessions.show,
    "log": log.log,
    "attach": attach.attach,
    "history": history.history,
    "stats": stats.stats,
    "close": stop.close,
    "kill": stop.kill,
    "pause": control.pause,
    "resume": control.resume,
    "call": control.call,
    "limits": show_limits.limits,
    "limit": set_limits.limit,
    "drain": drain.drain,
    "undrain": drain.undrain,
    "check": check.check,
    "manifest": manifest.manifest,
    "add": apps.add,
    "remove": apps.remove,
}


def main() -> int:
    """Run the program.

    Returns:
        The exit status: sysexits(3).
    """
    try:
        return run(sys.argv[1:], this_host(), OutputWriter())
    except CommandError as failure:
        warn(str(failure))
        return failure.status
    except KeyboardInterrupt:
        return _exit_by_signal(signal.SIGINT)
    except BrokenPipeError:
        return _exit_by_signal(signal.SIGPIPE)
    except PermissionError as error:
        where = f"{error.filename}: " if error.filename else ""
        warn(f"{where}permission denied; run it as root")
        return os.EX_NOPERM
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        warn(f"{where}{error.strerror or error}")
        return os.EX_OSERR


def run(argv: Sequence[str], host: HostPaths, output: OutputWriter) -> int:
    """Run one command line. Returns the exit status."""
    given = usage.parse(argv)
    if given.verb == "--help":
        output.write(usage.help_text(given.ids))
        return os.EX_OK
    if given.verb == "--version":
        output.write(f"chimirror-ctl {__version__}\n")
        return os.EX_OK
    if "--host" in given:
        return hosts.run(given, output)
    return VERBS[given.verb](given, host, output)


def _exit_by_signal(number: int) -> int:
    """End as if the signal had killed this process. Shells test for that."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    return 128 + number


if __name__ == "__main__":
    sys.exit(main())
