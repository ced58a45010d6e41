"""Listening sockets: opens addresses without taking over a live socket.

A Unix socket appears at its path in one step: bound to a temporary name, its mode set,
listening, then renamed. It never replaces a live socket. It is removed only while the
path still leads to it. Servers on one path exclude each other by flock(2) on the
directory. tcp(7), ipv6(7), unix(7), sd_listen_fds(3).

Knows no WebSocket and accepts nothing. Only the servers load this module.
"""

from __future__ import annotations

import _socket
import os
import stat
import sys
import time
from errno import EACCES, EADDRINUSE, EADDRNOTAVAIL, EAFNOSUPPORT, ECONNREFUSED, ENOENT
from fcntl import LOCK_EX, LOCK_NB, flock

from chimirror.config import listen_syntax
from chimirror.io.listen_address import ListenError, is_loopback, resolve

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Mapping, Sequence

    from chimirror.io.listen_address import Address

__all__ = ["ListenError", "Listener", "open_all", "systemd_listeners"]

BACKLOG = 4096  # the kernel caps it at net.core.somaxconn
LOCK_TIMEOUT = 5.0  # seconds
LISTEN_FDS_START = 3
_SACKED = 8 + 5 * 4  # offset of tcpi_sacked in struct tcp_info
_SUN_PATH = 107  # bytes of a path, unix(7)
_TYPES = {
    _socket.SOCK_STREAM: (
        "stream",
        "use ListenStream= and Accept=no, or chimirror-bridge with Accept=yes",
    ),
    _socket.SOCK_SEQPACKET: ("packet", "use ListenSequentialPacket= and Accept=no"),
}
_TEMPORARY = "/.123456"  # the part that a temporary name adds to the directory
_NO_SUCH_FAMILY = (EADDRNOTAVAIL, EAFNOSUPPORT)


class Listener:
    """One listening socket.

    Attributes:
        fd: non-blocking and close-on-exec, or -1 once closed.
        address: the address in the form of `--listen`.
        is_local: True if only this machine can connect.
        path: absolute path of a Unix socket that this process made, or None.
    """

    __slots__ = ("_id", "_pid", "address", "family", "fd", "is_local", "path")

    def __init__(self, handle: _socket.socket, path: str | None = None) -> None:
        self.family: int = handle.family
        self.path = path
        self._pid = os.getpid()
        self._id = _file_id(path) if path else None
        name = handle.getsockname()
        if self.family == _socket.AF_UNIX:
            self.address, self.is_local = f"unix:{path or _name(name)}", True
        else:
            host = f"[{name[0]}]" if self.family == _socket.AF_INET6 else name[0]
            self.address, self.is_local = f"{host}:{name[1]}", is_loopback(name[0])
        self.fd = handle.detach()

    def close(self) -> None:
        """Close the socket in this process. Others that inherited it keep listening."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def remove(self) -> None:
        """Remove the path, if this process made it and it still leads here, and close.

        No lock is needed: while the socket is open, no server that follows the rules of
        this module replaces it. A forked child removes nothing.
        """
        path, self.path = self.path, None
        if path and os.getpid() == self._pid and _file_id(path) == self._id:
            try:
                os.unlink(path)
            except OSError:
                pass  # removed meanwhile, or this process may no longer remove it
        self.close()


def open_all(
    texts: Sequence[str], mode: int = 0o600, *, bind_ipv6_only: bool = False
) -> list[Listener]:
    """Open all addresses, or none.

    `[::]:PORT` serves IPv4 too, unless one of the addresses is of IPv4 and has the same
    port. The default of the system (net.ipv6.bindv6only) has no effect.

    Args:
        texts: `127.0.0.1:30747`, `[::1]:30747`, `localhost:30747` (each address of the
            name), `unix:/path`. With port 0 the kernel chooses the port.
        mode: permissions of a Unix socket.
        bind_ipv6_only: `[::]:PORT` serves IPv6 alone.

    Raises:
        ListenError: One of the addresses cannot be opened.
    """
    listeners: list[Listener] = []
    resolved = {
        text: resolve(*listen_syntax.split(text))
        for text in texts
        if not text.startswith(listen_syntax.UNIX)
    }
    ipv4_ports = {
        name[1]
        for addresses in resolved.values()
        for family, name in addresses
        if family == _socket.AF_INET and name[1]
    }
    try:
        for text in texts:
            if text in resolved:
                listeners += _open_tcp(text, resolved[text], ipv4_ports, bind_ipv6_only)
            else:
                path = text.removeprefix(listen_syntax.UNIX)
                listeners.append(open_unix(path, mode))
    except BaseException:
        for listener in listeners:
            listener.remove()
        raise
    return listeners


def systemd_listeners(
    environ: Mapping[str, str], socket_type: int = _socket.SOCK_STREAM
) -> list[Listener]:
    """Return the listeners inherited from systemd (sd_listen_fds(3)).

    systemd stays responsible for removing their paths.

    Raises:
        ListenError: A descriptor is no listening socket of this type.
    """
    count = environ.get("LISTEN_FDS", "")
    if environ.get("LISTEN_PID") != str(os.getpid()) or not count.isdecimal():
        return []
    return [_inherit(LISTEN_FDS_START + i, socket_type) for i in range(int(count))]


def _inherit(fd: int, socket_type: int) -> Listener:
    try:
        handle = _socket.socket(-1, -1, -1, fd)
    except OSError as error:
        text = f"descriptor {fd} from systemd is not a socket ({error.strerror})"
        raise ListenError(text) from None
    listens = handle.getsockopt(_socket.SOL_SOCKET, _socket.SO_ACCEPTCONN)
    if handle.type != socket_type or not listens:
        handle.detach()
        name, hint = _TYPES[socket_type]
        raise ListenError(
            f"descriptor {fd} from systemd is not a listening {name} socket", hint
        )
    os.set_inheritable(fd, False)
    handle.setblocking(False)
    if handle.family != _socket.AF_UNIX:
        handle.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        if not _backlog(handle):  # an earlier server shrank it and left it behind
            handle.listen(BACKLOG)
    return Listener(handle)


def _backlog(handle: _socket.socket) -> int:
    """Return the accept backlog. A listener has it in tcpi_sacked (tcp_get_info)."""
    info = handle.getsockopt(_socket.IPPROTO_TCP, _socket.TCP_INFO, _SACKED + 4)
    return int.from_bytes(info[_SACKED:], sys.byteorder)


# TCP


def _open_tcp(
    text: str,
    addresses: Sequence[tuple[int, Address]],
    ipv4_ports: Container[object],
    bind_ipv6_only: bool,
) -> list[Listener]:
    """Open the addresses of a name.

    Args:
        text: the name with its port, for errors.
        addresses: as from `resolve`.
        ipv4_ports: ports that IPv4 addresses are opened for, 0 excepted.
        bind_ipv6_only: no address serves IPv4 too.
    """
    port = addresses[0][1][1]
    ipv6_only = (
        bind_ipv6_only
        or port in ipv4_ports
        or any(family == _socket.AF_INET for family, _ in addresses)
    )
    listeners: list[Listener] = []
    missing: ListenError | None = None
    try:
        for family, name in addresses:
            address = name
            if port == 0 and listeners:  # one port for all addresses of a name
                chosen = int(listeners[0].address.rpartition(":")[2])
                address = (name[0], chosen, *name[2:])
            try:
                listeners.append(_bind_tcp(family, address, text, ipv6_only))
            except ListenError as error:
                if not _is_missing(error):
                    raise
                missing = error  # such as ::1 of "localhost" without IPv6
    except ListenError:
        for listener in listeners:
            listener.close()
        raise
    if missing and not listeners:
        raise missing
    return listeners


def _bind_tcp(family: int, address: Address, text: str, ipv6_only: bool) -> Listener:
    # No other address of IPv6 can serve IPv4.
    is_dual = address[0] == "::" and not ipv6_only
    try:
        handle = _socket.socket(family, _socket.SOCK_STREAM, _socket.IPPROTO_TCP)
    except OSError as error:
        raise ListenError(
            f"cannot listen on {text}: {error.strerror}", _hint(error, text, is_dual)
        ) from error
    try:
        handle.setblocking(False)
        handle.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
        handle.setsockopt(
            _socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1
        )  # inherited by each connection
        if family == _socket.AF_INET6:
            handle.setsockopt(_socket.IPPROTO_IPV6, _socket.IPV6_V6ONLY, not is_dual)
        handle.bind(address)
        handle.listen(BACKLOG)
    except OSError as error:
        handle.close()
        raise ListenError(
            f"cannot listen on {text}: {error.strerror}", _hint(error, text, is_dual)
        ) from error
    return Listener(handle)


def _is_missing(error: ListenError) -> bool:
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno in _NO_SUCH_FAMILY


def _hint(error: OSError, text: str, is_dual: bool) -> str:
    port = text.rpartition(":")[2]
    if error.errno == EADDRINUSE:
        hint = f"find the process: ss -ltnp sport = :{port}"
        return f"{hint}; --bind-ipv6-only leaves IPv4 to it" if is_dual else hint
    if error.errno == EAFNOSUPPORT:
        return (
            f"this machine has no IPv6; write an IPv4 address, such as 0.0.0.0:{port}"
        )
    if error.errno == EACCES:
        return "ports below 1024 need a privilege: let systemd open it (a .socket unit)"
    if error.errno == EADDRNOTAVAIL:
        return "no interface of this machine has that address, see ip address"
    return ""


# Unix


def open_unix(text: str, mode: int, socket_type: int = _socket.SOCK_STREAM) -> Listener:
    """Open a Unix socket at a path.

    Raises:
        ListenError: The socket cannot be opened.
    """
    path = os.path.abspath(text)
    directory = os.path.dirname(path)
    room = _SUN_PATH - len(os.fsencode(directory)) - len(_TEMPORARY)
    if len(os.fsencode(path)) > _SUN_PATH or room < 0:
        raise ListenError(f"{path} is too long for a socket", "choose a shorter path")
    try:
        lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        text = f"cannot listen on unix:{path}: {directory}: {error.strerror}"
        raise ListenError(
            text, "create a directory that this program can read"
        ) from None
    try:
        _lock(lock, directory)
        _check_path(path)
        return _create(path, directory, mode, socket_type)
    except OSError as error:
        text = f"cannot listen on unix:{path}: {error.strerror}"
        raise ListenError(text) from None
    finally:
        os.close(lock)  # releases the lock too


def _lock(fd: int, directory: str) -> None:
    """Lock the directory. The wait is bounded: any reader could lock it forever."""
    deadline = time.monotonic() + LOCK_TIMEOUT
    while True:
        try:
            return flock(fd, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                text = f"another process holds a lock on {directory}"
                raise ListenError(
                    text, f"find the process: fuser -v {directory}"
                ) from None
        time.sleep(0.02)


def _check_path(path: str) -> None:
    """Accept a missing path or a stale socket. Reject a live socket and other files."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ListenError(f"{path} exists and is not a socket", "choose another path")
    probe = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        probe.setblocking(False)
        probe.connect(path)
    except OSError as error:
        # Refused: no process listens. Any other error may come from a live socket:
        # EAGAIN is a full queue, EPROTOTYPE another type of socket, EACCES a lack of
        # permission.
        if error.errno in (ECONNREFUSED, ENOENT):
            return
    finally:
        probe.close()
    raise ListenError(f"{path} is in use", "another server listens there")


def _create(path: str, directory: str, mode: int, socket_type: int) -> Listener:
    """Create the socket. No client can connect before its mode is set."""
    temporary = f"{directory.rstrip('/')}/.{os.urandom(3).hex()}"
    handle = _socket.socket(_socket.AF_UNIX, socket_type)
    try:
        handle.setblocking(False)
        before = os.umask(0o777 & ~mode)  # chmod(2) would follow a link in its place
        try:
            handle.bind(temporary)
        finally:
            os.umask(before)
        try:
            handle.listen(BACKLOG)
            os.rename(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
        return Listener(handle, path)
    finally:
        handle.close()  # no effect once the listener owns the descriptor


def _file_id(path: str) -> tuple[int, int] | None:
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _name(name: str | bytes) -> str:
    """Return a socket name as text. An abstract name is bytes that start with NUL."""
    return "@" + os.fsdecode(name[1:]) if isinstance(name, bytes) else name
