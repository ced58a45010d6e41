"""Paths of the sockets and status files of running programs. Knows no content.

    RUNTIME/sessions/ID          status of the session of one bridge (statusfile)
    RUNTIME/sessions/ID.control  its control socket
    RUNTIME/servers/PID/NUMBER   control socket of one worker of a server

RUNTIME is /run/chimirror for root and under systemd, where tmpfiles.d(5) has made it.
Otherwise it is $XDG_RUNTIME_DIR/chimirror. In /run/chimirror/sessions only bridges may
write, not their applications. A bridge enters it with its saved group (credentials(7),
bridge/users).
"""

from __future__ import annotations

from chimirror.builtin_modules import os, stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

SYSTEM = "/run/chimirror"
SESSIONS = "sessions"
SERVERS = "servers"
MAX_PID_LENGTH = 9  # a longer number is not a pid_t


def directory(environ: Mapping[str, str], uid: int) -> str | None:
    """Return RUNTIME for a process, or None if it has none.

    Args:
        environ: its environment. INVOCATION_ID is set in a unit (systemd.exec(5)).
        uid: its effective user.
    """
    if uid == 0 or environ.get("INVOCATION_ID"):
        return SYSTEM
    return _user_directory(environ, uid)


def sessions(environ: Mapping[str, str], uid: int) -> str | None:
    """Return the directory of the session files of a process, or None."""
    runtime = directory(environ, uid)
    return None if runtime is None else f"{runtime}/{SESSIONS}"


def is_session(name: str) -> bool:
    """Return True for the form of a session id, which is safe as a file name."""
    return len(name) == 32 and not name.strip("0123456789abcdef")


def is_server(name: str) -> bool:
    """Return True for the form of the name of a server's directory, a pid.

    Applications of a server can make other names.
    """
    return len(name) <= MAX_PID_LENGTH and name.isascii() and name.isdigit()


def control(session: str) -> str:
    """Return the file name of a session's control socket."""
    return f"{session}.control"


class SavedGroup:
    """Context with the saved group of this process as effective group."""

    __slots__ = ("_group",)

    def __enter__(self) -> None:
        self._group = os.getegid()
        os.setegid(os.getresgid()[2])

    def __exit__(self, *error: object) -> None:
        os.setegid(self._group)


def remove_session_files(session: str) -> None:
    """Remove the files that a killed bridge with this user has left."""
    if not is_session(session):
        return
    for name in (session, control(session)):
        try:
            with SavedGroup():
                os.unlink(f"{SYSTEM}/{SESSIONS}/{name}")
        except OSError:
            pass  # the bridge was not killed, or another process has removed them


def all_directories(environ: Mapping[str, str], uid: int) -> list[str]:
    """Return the accessible runtime directories: of the system and of the user."""
    user_directory = _user_directory(environ, uid) if uid != 0 else None
    return [
        runtime
        for runtime in (SYSTEM, user_directory)
        if runtime and os.access(runtime, os.X_OK)
    ]


def _user_directory(environ: Mapping[str, str], uid: int) -> str | None:
    """Return the directory of a user. sudo(8) can keep another user's variable."""
    xdg = environ.get("XDG_RUNTIME_DIR", "")
    if not xdg.startswith("/"):
        return None
    path = f"{xdg}/chimirror"
    try:
        return path if _is_owned(path, (0, uid)) else None
    except OSError:
        return path  # missing


def _is_owned(path: str, owners: tuple[int, ...]) -> bool:
    """Return True for a directory, not a link, of one of these users."""
    found = os.lstat(path)
    return stat.S_ISDIR(found.st_mode) and found.st_uid in owners


def server_directory(environ: Mapping[str, str], uid: int, pid: int) -> str | None:
    """Return the directory of one server, or None if there is no runtime directory."""
    runtime = directory(environ, uid)
    return None if runtime is None else f"{runtime}/{SERVERS}/{pid}"


def make_server_directory(server: str, uid: int) -> None:
    """Make the directory of one server and the two above it, where they are missing.

    Raises:
        OSError: A directory cannot be made, or another user has made it.
    """
    servers = _parent(server)
    runtime = _parent(servers)
    for path, mode in (
        (runtime, 0o755 if uid == 0 else 0o700),
        (servers, 0o711),
        (server, 0o700),
    ):
        _make(path, mode)
    found = os.lstat(server)
    if stat.S_ISLNK(found.st_mode) or found.st_uid != uid:
        from errno import EEXIST

        raise FileExistsError(EEXIST, "another user has made it", server)


def remove_dead_servers(server: str) -> None:
    """Remove the directories of dead servers beside that of this server."""
    servers = _parent(server)
    for name in os.listdir(servers):
        if is_server(name) and not _is_alive(int(name)):
            remove(f"{servers}/{name}")


def remove(path: str) -> None:
    """Remove a server's directory, as far as this process may.

    A link in its place is not followed. Every user of a shared directory can make one.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        fd = os.open(path, flags)
    except OSError:
        return
    try:
        for name in os.listdir(fd):
            os.unlink(name, dir_fd=fd)
        os.rmdir(path)
    except OSError:
        pass
    finally:
        os.close(fd)


def _parent(path: str) -> str:
    return path.rpartition("/")[0]


def _make(path: str, mode: int) -> None:
    try:
        os.mkdir(path, mode)
    except FileExistsError:
        pass


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
