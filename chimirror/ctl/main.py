"""chimirror-ctl(1): dispatches each verb to one function.

An error is printed as one line, and the exit status names its kind: sysexits(3).
Modules are loaded as they are needed: all verbs together take 80 ms.
"""

from __future__ import annotations

import os
import signal
import sys

from chimirror import __version__
from chimirror.ctl.messages import CommandError, warn
from chimirror.ctl.paths import this_host

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from chimirror.ctl.output import OutputWriter
    from chimirror.ctl.paths import HostPaths

# The command line of chimirror-agent@.service.
AGENT = ["agent"]


def main() -> int:
    """Run the program.

    Returns:
        The exit status: sysexits(3).
    """
    try:
        return _run_here(sys.argv[1:])
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


def _run_here(argv: Sequence[str]) -> int:
    if argv == AGENT:
        # Without the modules of other verbs: HAProxy asks each second.
        from chimirror.ctl import unit_load

        os.write(1, unit_load.agent_answer(this_host(), None))
        return os.EX_OK
    from chimirror.ctl.output import OutputWriter

    return run(argv, this_host(), OutputWriter())


def run(argv: Sequence[str], host: HostPaths, output: OutputWriter) -> int:
    """Run one command line. Returns the exit status."""
    from chimirror.ctl import usage
    from chimirror.ctl.verbs import VERBS

    given = usage.parse(argv)
    if given.verb == "--help":
        output.write(usage.help_text(given.ids))
        return os.EX_OK
    if given.verb == "--version":
        output.write(f"chimirror-ctl {__version__}\n")
        return os.EX_OK
    if "--host" in given:
        from chimirror.ctl.commands import hosts

        return hosts.run(given, output)
    return VERBS[given.verb](given, host, output)


def _exit_by_signal(number: int) -> int:
    """End as if the signal had killed this process. Shells test for that."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    return 128 + number


if __name__ == "__main__":
    sys.exit(main())
