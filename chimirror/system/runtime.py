"""Where a running chimirror can be asked: the places, and nothing about what is there.

    RUNTIME/sessions/ID          the status of one bridge's session (statusfile)
    RUNTIME/sessions/ID.control  its control socket
    RUNTIME/servers/PID/NUMBER   the control socket of one worker of a server

RUNTIME is /run/chimirror for root, and under systemd, where tmpfiles.d(5) has made it;
else $XDG_RUNTIME_DIR/chimirror. In /run/chimirror/sessions only bridges may write, not
their applications: it is entered by the saved group (credentials(7), system/users).
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
    if uid == 0 or environ.get("INVOCATION_ID"):
        return SYSTEM
    return _own(environ)


def sessions(environ: Mapping[str, str], uid: int) -> str | None:
    """Where a process tells of the session that it bridges; see directory."""
    place = directory(environ, uid)
    return None if place is None else f"{place}/{SESSIONS}"


def is_session(name: str) -> bool:
    """Whether it may be the id of a session, which becomes the name of a file here."""
    return len(name) == 32 and not name.strip("0123456789abcdef")


def control(session: str) -> str:
    """The name of a session's control socket, beside its status."""
    return f"{session}.control"


class Inside:
    """A context in which our saved group is the effective one, and may enter."""

    __slots__ = ("_group",)

    def __enter__(self) -> None:
        self._group = os.getegid()
        os.setegid(os.getresgid()[2])

    def __exit__(self, *error: object) -> None:
        os.setegid(self._group)


def forget(session: str) -> None:
    """Take away what a bridge left that was killed; its user is ours now."""
    for name in (session, control(session)):
        try:
            with Inside():
                os.unlink(f"{SYSTEM}/{SESSIONS}/{name}")
        except OSError:
            pass  # it was not killed, or somebody else has tidied up


def every(environ: Mapping[str, str], uid: int) -> list[str]:
    """All that a user may want to look into: the system's, and one's own."""
    own = _own(environ) if uid != 0 else None
    return [place for place in (SYSTEM, own) if place and os.access(place, os.X_OK)]


def _own(environ: Mapping[str, str]) -> str | None:
    base = environ.get("XDG_RUNTIME_DIR", "")
    return f"{base}/chimirror" if base.startswith("/") else None


def make(environ: Mapping[str, str], uid: int, pid: int) -> str | None:
    """Makes the directory of one server; what dead ones have left goes.

    Returns:
        Its path; None where there can be none.

    Raises:
        OSError: it should be there, and cannot be made.
    """
    place = directory(environ, uid)
    if place is None:
        return None
    servers = f"{place}/{SERVERS}"
    for path, mode in ((place, 0o755 if uid == 0 else 0o700), (servers, 0o711)):
        _ensure(path, mode)
    for name in os.listdir(servers):
        if name.isdigit() and not _lives(int(name)):
            remove(f"{servers}/{name}")
    own = f"{servers}/{pid}"
    _ensure(own, 0o700)
    return own


def remove(path: str) -> None:
    """Takes a server's directory away, as far as it is ours to take."""
    try:
        for name in os.listdir(path):
            os.unlink(f"{path}/{name}")
        os.rmdir(path)
    except OSError:
        pass


def _ensure(path: str, mode: int) -> None:
    try:
        os.mkdir(path, mode)
    except FileExistsError:
        pass


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
