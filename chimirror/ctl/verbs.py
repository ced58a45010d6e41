"""The table of verbs and their functions. Imports all commands.

The options of a verb are in the usage text.
"""

from __future__ import annotations

from chimirror.ctl.commands import (
    agent,
    apps,
    attach,
    check,
    control,
    drain,
    history,
    log,
    manifest,
    metrics,
    sessions,
    set_limits,
    show_limits,
    stats,
    stop,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from chimirror.ctl.output import OutputWriter
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
    "metrics": metrics.metrics,
    "agent": agent.agent,
    "check": check.check,
    "manifest": manifest.manifest,
    "add": apps.add,
    "remove": apps.remove,
}
