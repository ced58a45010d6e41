"""Listening sockets: what was asked for as text, opened so that nothing is stolen.

Law: a Unix socket appears at its path in one step (bound under another name, its mode
set, listening, then renamed), never over a live one, and goes only while it is still
ours. Servers on one path exclude each other by flock(2) on the directory. tcp(7),
ipv6(7), unix(7), sd_listen_fds(3).

Knows no WebSocket and accepts nothing. Loaded by the server only.
"""

from __future__ import annotations

import _socket
import os
import stat
import sys
import time
from errno import EACCES, EADDRINUSE, EADDRNOTAVAIL, EAFNOSUPPORT, ECONNREFUSED, ENOENT
from fcntl import LOCK_EX, LOCK_NB, flock

from chimirror.system.endpoint import ListenError, is_loopback, resolve, split

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from chimirror.system.endpoint import Address

__all__ = ["ListenError", "Listener", "inherited", "open_all"]

BACKLOG = 4096  # the kernel caps it at net.core.somaxconn
LOCK_PATIENCE = 5.0  # seconds
LISTEN_FDS_START = 3
_SACKED = 8 + 5 * 4  # offset of tcpi_sacked in struct tcp_info
_SUN_PATH = 107  # bytes of a path, unix(7)
_KINDS = {
    _socket.SOCK_STREAM: (
        "stream",
        "use ListenStream= and Accept=no, or chimirror-bridge with Accept=yes",
    ),
    _socket.SOCK_SEQPACKET: ("packet", "use ListenSequentialPacket= and Accept=no"),
}
_TEMPORARY = "/.123456"  # what the temporary name adds to the directory
_NO_SUCH_FAMILY = (EADDRNOTAVAIL, EAFNOSUPPORT)


class Listener:
    """One listening socket.

    Attributes:
        fd: non-blocking, closed in every program that is started; -1 once closed.
        address: where it listens, as `--listen` takes it.
        is_local: only this machine can connect.
        path: absolute, of a Unix socket that we made; else None.
    """

    __slots__ = ("_file", "_owner", "address", "family", "fd", "is_local", "path")

    def __init__(self, handle: _socket.socket, path: str | None = None) -> None:
        self.family: int = handle.family
        self.path = path
        self._owner = os.getpid()
        self._file = _identity(path) if path else None
        name = handle.getsockname()
        if self.family == _socket.AF_UNIX:
            self.address, self.is_local = f"unix:{path or _text(name)}", True
        else:
            host = f"[{name[0]}]" if self.family == _socket.AF_INET6 else name[0]
            self.address, self.is_local = f"{host}:{name[1]}", is_loopback(name[0])
        self.fd = handle.detach()

    def close(self) -> None:
        """Listen no more in this process; what others inherited goes on."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def remove(self) -> None:
        """Take the path away, if we made it and it is still ours, and close.

        While the socket is open nobody who obeys the law replaces it: no lock is
        needed. A process that was forked from us takes nothing away.
        """
        path, self.path = self.path, None
        if path and os.getpid() == self._owner and _identity(path) == self._file:
            try:
                os.unlink(path)
            except OSError:
                pass  # gone meanwhile, or no longer ours to remove
        self.close()


def open_all(texts: Iterable[str], mode: int = 0o600) -> list[Listener]:
    """Opens every address, or none.

    Args:
        texts: `127.0.0.1:30747`, `[::1]:30747`, `localhost:30747` (each address
            of the name), `unix:/path`; port 0 lets the kernel choose.
        mode: permissions of a Unix socket.

    Raises:
        ListenError: one of them cannot be had.
    """
    opened: list[Listener] = []
    try:
        for text in texts:
            if text.startswith("unix:"):
                opened.append(open_unix(text[5:], mode))
            else:
                opened += _open_tcp(text)
    except BaseException:
        for listener in opened:
            listener.remove()
        raise
    return opened


def inherited(
    environ: Mapping[str, str], kind: int = _socket.SOCK_STREAM
) -> list[Listener]:
    """What systemd hands over (sd_listen_fds(3)); it stays systemd's to remove.

    Raises:
        ListenError: one of the descriptors is no listening socket of this kind.
    """
    count = environ.get("LISTEN_FDS", "")
    if environ.get("LISTEN_PID") != str(os.getpid()) or not count.isdecimal():
        return []
    return [_adopt(LISTEN_FDS_START + i, kind) for i in range(int(count))]


def _adopt(fd: int, kind: int) -> Listener:
    try:
        handle = _socket.socket(-1, -1, -1, fd)
    except OSError as error:
        text = f"descriptor {fd} from systemd is no socket ({error.strerror})"
        raise ListenError(text) from None
    listens = handle.getsockopt(_socket.SOL_SOCKET, _socket.SO_ACCEPTCONN)
    if handle.type != kind or not listens:
        handle.detach()
        name, hint = _KINDS[kind]
        raise ListenError(
            f"descriptor {fd} from systemd is no listening {name} socket", hint
        )
    os.set_inheritable(fd, False)
    handle.setblocking(False)
    if handle.family != _socket.AF_UNIX:
        handle.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        if not _room(handle):  # narrowed by a server that left it behind, after all
            handle.listen(BACKLOG)
    return Listener(handle)


def _room(handle: _socket.socket) -> int:
    """How many may wait; of a listener, tcpi_sacked says so (tcp_get_info)."""
    info = handle.getsockopt(_socket.IPPROTO_TCP, _socket.TCP_INFO, _SACKED + 4)
    return int.from_bytes(info[_SACKED:], sys.byteorder)


# TCP


def _open_tcp(text: str) -> list[Listener]:
    host, port = split(text)
    found = resolve(host, port)
    opened: list[Listener] = []
    missing: ListenError | None = None
    try:
        for family, name in found:
            address = name
            if port == 0 and opened:  # one port for all addresses of a name
                chosen = int(opened[0].address.rpartition(":")[2])
                address = (name[0], chosen, *name[2:])
            try:
                opened.append(_bind_tcp(family, address, text))
            except ListenError as error:
                if not _is_missing(error):
                    raise
                missing = error  # such as ::1 of "localhost" without IPv6
    except ListenError:
        for listener in opened:
            listener.close()
        raise
    if missing and not opened:
        raise missing
    return opened


def _bind_tcp(family: int, address: Address, text: str) -> Listener:
    try:
        handle = _socket.socket(family, _socket.SOCK_STREAM, _socket.IPPROTO_TCP)
    except OSError as error:
        raise ListenError(f"cannot listen on {text}: {error.strerror}") from error
    try:
        handle.setblocking(False)
        handle.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
        handle.setsockopt(
            _socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1
        )  # connections inherit it
        if family == _socket.AF_INET6:
            handle.setsockopt(_socket.IPPROTO_IPV6, _socket.IPV6_V6ONLY, 1)
        handle.bind(address)
        handle.listen(BACKLOG)
    except OSError as error:
        handle.close()
        raise ListenError(
            f"cannot listen on {text}: {error.strerror}", _hint(error, text)
        ) from error
    return Listener(handle)


def _is_missing(error: ListenError) -> bool:
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno in _NO_SUCH_FAMILY


def _hint(error: OSError, text: str) -> str:
    if error.errno == EADDRINUSE:
        return f"see who does: ss -ltnp sport = :{text.rpartition(':')[2]}"
    if error.errno == EACCES:
        return "ports below 1024 need a privilege: let systemd open it (a .socket unit)"
    if error.errno == EADDRNOTAVAIL:
        return "no interface of this machine has that address: see ip address"
    return ""


# Unix


def open_unix(text: str, mode: int, kind: int = _socket.SOCK_STREAM) -> Listener:
    """Open one at a path.

    Raises:
        ListenError: it cannot be had.
    """
    if not text or text.startswith("@") or "\0" in text:
        hint = "write unix:/run/NAME.sock; abstract names have no permissions"
        raise ListenError(f'"unix:{text}" has no path', hint)
    path = os.path.abspath(text)
    directory = os.path.dirname(path)
    room = _SUN_PATH - len(os.fsencode(directory)) - len(_TEMPORARY)
    if len(os.fsencode(path)) > _SUN_PATH or room < 0:
        raise ListenError(f"{path} is too long for a socket", "choose a shorter path")
    try:
        lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        text = f"cannot listen on unix:{path}: {directory}: {error.strerror}"
        raise ListenError(text, "make the directory, readable for us") from None
    try:
        _lock(lock, directory)
        _check_free(path)
        return _appear(path, directory, mode, kind)
    except OSError as error:
        text = f"cannot listen on unix:{path}: {error.strerror}"
        raise ListenError(text) from None
    finally:
        os.close(lock)  # and unlocks


def _lock(fd: int, directory: str) -> None:
    """Waits a bounded time: anybody who may read a directory can lock it forever."""
    deadline = time.monotonic() + LOCK_PATIENCE
    while True:
        try:
            return flock(fd, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                text = f"another process holds a lock on {directory}"
                raise ListenError(text, f"see who does: fuser -v {directory}") from None
        time.sleep(0.02)


def _check_free(path: str) -> None:
    """Lets nothing or a stale socket pass; a live one, and anything else, not."""
    try:
        kind = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(kind):
        raise ListenError(f"{path} exists and is no socket", "choose another path")
    probe = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        probe.setblocking(False)
        probe.connect(path)
    except OSError as error:
        # Refused: nobody listens. Anything else (EAGAIN is a full queue, EPROTOTYPE
        # another kind of socket, EACCES not ours to know) may well be alive.
        if error.errno in (ECONNREFUSED, ENOENT):
            return
    finally:
        probe.close()
    raise ListenError(f"{path} is in use", "another server listens there")


def _appear(path: str, directory: str, mode: int, kind: int) -> Listener:
    """Makes the socket; nobody can connect before its mode is right."""
    temporary = f"{directory.rstrip('/')}/.{os.urandom(3).hex()}"
    handle = _socket.socket(_socket.AF_UNIX, kind)
    try:
        handle.setblocking(False)
        handle.bind(temporary)
        try:
            os.chmod(temporary, mode)
            handle.listen(BACKLOG)
            os.rename(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
        return Listener(handle, path)
    finally:
        handle.close()  # nothing, once the listener has it


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _text(name: str | bytes) -> str:
    """A socket's own name; an abstract one comes as bytes with a NUL in front."""
    return "@" + os.fsdecode(name[1:]) if isinstance(name, bytes) else name
