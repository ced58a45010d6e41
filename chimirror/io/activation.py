"""Finds the inherited connection: descriptor 3 from systemd, or 0 from inetd or socat.

Follows sd_listen_fds(3), systemd.socket(5) (`Accept=yes`, `StandardInput=socket`) and
the inetd convention. The connection is moved away from descriptors 0, 1 and 2. So one
close ends the connection, and printed text cannot reach the client. Knows no WebSocket.
"""

from __future__ import annotations

from sys import byteorder

from chimirror.builtin_modules import os, socket, stat
from chimirror.io import fds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

LISTEN_FDS_START = 3
_PIPE = stat.S_IFIFO
_CONNECTION_KINDS = (stat.S_IFSOCK, _PIPE)
UNKNOWN_UID = (1 << 32) - 1  # (uid_t) -1
_HINT = """\
the bridge serves one connection, inherited as descriptor 0 or from systemd; try:
  socat TCP-LISTEN:30747,bind=127.0.0.1,reuseaddr,fork EXEC:"chimirror-bridge cat"
or use chimirror-server, which opens a port by itself."""


class NoConnection(Exception):
    """This process has inherited no connection. The text says how to pass one."""


class InheritedConnection:
    """An inherited connection: its descriptors and its peer.

    Attributes:
        read_fd, write_fd: one socket (equal numbers), or two pipes.
        address, port, uid: the peer. They are empty, 0 and -1 if not known.
    """

    __slots__ = ("address", "port", "write_fd", "read_fd", "uid")

    def __init__(self, read_fd: int, write_fd: int) -> None:
        self.read_fd = read_fd
        self.write_fd = write_fd
        self.address = ""
        self.port = 0
        self.uid = -1


def detach_stderr() -> bool:
    """Redirect stderr to the null device if printed text would reach the client.

    This must run before anything is printed. Under inetd descriptor 2 is the connection
    too. With two pipes it may be the outgoing one (socat's `pipes,stderr`).

    Returns:
        True if descriptor 2 was the connection.
    """
    kinds = [_kind_of(fd) for fd in (0, 1, 2)]
    on_wire = (kinds[2] in _CONNECTION_KINDS and fds.same_file(0, 2)) or (
        kinds == [_PIPE, _PIPE, _PIPE] and fds.same_file(1, 2)
    )
    if on_wire:
        fds.redirect_to_null(2)
    fds.open_missing_stdio()
    return on_wire


def _kind_of(fd: int) -> int:
    try:
        return stat.S_IFMT(os.fstat(fd).st_mode)
    except OSError:
        return 0  # closed


def find_connection(environment: Mapping[str, str]) -> InheritedConnection:
    """Find the connection and take ownership of it.

    Raises:
        NoConnection: There is no connection, or the descriptor is no connected stream.
    """
    if environment.get("LISTEN_PID") == str(os.getpid()):
        connection = _from_systemd(environment.get("LISTEN_FDS", ""))
    else:
        connection = _from_standard_input()
    fds.set_cloexec_all()
    os.set_blocking(connection.read_fd, False)
    if connection.write_fd != connection.read_fd:
        os.set_blocking(connection.write_fd, False)
    return connection


def _from_systemd(count: str) -> InheritedConnection:
    if count != "1":
        raise NoConnection(f"systemd passed {count or 'no'} sockets, not one")
    connection = InheritedConnection(LISTEN_FDS_START, LISTEN_FDS_START)
    _check_socket(connection, "the socket from systemd")
    return connection


def _from_standard_input() -> InheritedConnection:
    kind = _kind_of(0)
    pipes = kind == _PIPE == _kind_of(1)
    connection = InheritedConnection(0, 1 if pipes else 0)
    if kind == stat.S_IFSOCK:
        _check_socket(connection, "descriptor 0")
    elif not pipes:
        raise NoConnection(
            f"descriptor 0 is {_describe(kind)}, not a connection; {_HINT}"
        )
    connection.read_fd = os.dup(0)
    connection.write_fd = os.dup(1) if pipes else connection.read_fd
    if pipes or fds.same_file(0, 1):
        fds.redirect_to_null(1)
    fds.redirect_to_null(0)
    return connection


def _check_socket(connection: InheritedConnection, name: str) -> None:
    """Read the peer of a socket, and reject anything but a connected stream."""
    try:
        handle = socket.socket(-1, -1, -1, connection.read_fd)
    except OSError:
        raise NoConnection(f"{name} is not a socket; {_HINT}") from None
    try:
        if handle.type != socket.SOCK_STREAM:
            raise NoConnection(
                f"{name} is a datagram socket, not a connection; {_HINT}"
            )
        if handle.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            raise NoConnection(
                f"{name} is a listening socket: set Accept=yes (systemd), "
                "wait=no (inetd), or use chimirror-server"
            )
        _read_peer(connection, handle)
    finally:
        handle.detach()


def _read_peer(connection: InheritedConnection, handle: socket.socket) -> None:
    if handle.family == socket.AF_UNIX:
        connection.uid = peer_uid(handle)
    if handle.family not in (socket.AF_INET, socket.AF_INET6):
        return
    try:
        from chimirror.protocol.addresses import plain_address

        address, connection.port = handle.getpeername()[:2]
        connection.address = plain_address(address)
        handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError:
        pass  # the client has disconnected already: the first read reports that


def peer_uid(handle: socket.socket) -> int:
    """Return the uid of the peer process of a Unix socket, or -1 if not known."""
    if not hasattr(socket, "SO_PEERCRED"):
        return -1
    credentials = handle.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    uid = int.from_bytes(credentials[4:8], byteorder)
    return -1 if uid == UNKNOWN_UID else uid


def _describe(kind: int) -> str:
    if kind == stat.S_IFCHR:
        return "a terminal" if os.isatty(0) else "a device (such as /dev/null)"
    if kind == _PIPE:
        return "a pipe without a pipe as descriptor 1"
    return "a file" if kind == stat.S_IFREG else "an unknown type of file"
