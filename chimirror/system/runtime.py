"""Where a running chimirror can be asked: the places, and nothing about what is there.

    RUNTIME/sessions/ID          the status of one bridge's session (statusfile)
    RUNTIME/servers/PID/NUMBER   the control socket of one worker of a server

RUNTIME is /run/chimirror for root, and under systemd, where tmpfiles.d(5) has made it;
else $XDG_RUNTIME_DIR/chimirror.
"""

from __future__ import annotations

from chimirror.system.lean import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

SYSTEM = "/run/chimirror"
SESSIONS = "sessions"
SERVERS = "servers"


def directory(environ: Mapping[str, str], uid: int) -> str | None:
    """RUNTIME for a process; None where it has none.

    Args:
        environ: of the process: INVOCATION_ID is there in a unit (systemd.exec(5)).
        uid: its effective user.
    """
    if uid == 0 or "INVOCATION_ID" in environ:
        return SYSTEM
    base = environ.get("XDG_RUNTIME_DIR", "")
    return f"{base}/chimirror" if base.startswith("/") else None


def every(environ: Mapping[str, str], uid: int) -> list[str]:
    """All that a user may want to look into: the system's, and one's own."""
    base = environ.get("XDG_RUNTIME_DIR", "")
    own = [f"{base}/chimirror"] if base.startswith("/") and uid != 0 else []
    return [place for place in (SYSTEM, *own) if os.access(place, os.X_OK)]
