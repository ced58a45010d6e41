"""Which descriptor is the connection: systemd's fd 3, or fd 0 of inetd and socat.

Follows sd_listen_fds(3), systemd.socket(5) (`Accept=yes`, `StandardInput=socket`) and
the inetd custom. Knows no WebSocket. What it finds is moved away from 0, 1 and 2, so
that closing it once ends the connection, and nothing we print can reach the wire.
"""

from __future__ import annotations

from sys import byteorder

from chimirror.system import fds
from chimirror.system.lean import os, socket, stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

LISTEN_FDS_START = 3
PIPE = stat.S_IFIFO
WIRES = (stat.S_IFSOCK, PIPE)
NOBODY_KNOWN = (1 << 32) - 1  # (uid_t) -1
HOW = """\
it serves one connection that it is handed as descriptor 0 or by systemd; to try it:
  socat TCP-LISTEN:30747,bind=127.0.0.1,reuseaddr,fork EXEC:"chimirror-bridge cat"
or use chimirror-server, which opens its own port."""


class NoConnection(Exception):
    """No connection was handed to us; the text says how to hand one over."""


class Found:
    """A connection: where to read, where to write, and who is there.

    Attributes:
        source, sink: one socket (equal), or two pipes.
        address, port, uid: the peer; empty, 0, -1 where that is not known.
    """

    __slots__ = ("address", "port", "sink", "source", "uid")

    def __init__(self, source: int, sink: int) -> None:
        self.source = source
        self.sink = sink
        self.address = ""
        self.port = 0
        self.uid = -1


def protect_wire() -> bool:
    """Make sure that nothing we print is sent: before anything else.

    Under inetd descriptor 2 is the connection too, and with two pipes it may be the one
    that leads out (socat's `pipes,stderr`); whether it was is the answer.
    """
    kinds = [_kind_of(fd) for fd in (0, 1, 2)]
    on_wire = (kinds[2] in WIRES and fds.same_file(0, 2)) or (
        kinds == [PIPE, PIPE, PIPE] and fds.same_file(1, 2)
    )
    if on_wire:
        fds.silence(2)
    fds.fill_standard()
    return on_wire


def _kind_of(fd: int) -> int:
    try:
        return stat.S_IFMT(os.fstat(fd).st_mode)
    except OSError:
        return 0  # closed


def find(environment: Mapping[str, str]) -> Found:
    """Find the connection and take it over.

    Raises:
        NoConnection: there is none, or it is something else.
    """
    if environment.get("LISTEN_PID") == str(os.getpid()):
        found = _from_systemd(environment.get("LISTEN_FDS", ""))
    else:
        found = _from_standard_input()
    fds.seal()
    os.set_blocking(found.source, False)
    if found.sink != found.source:
        os.set_blocking(found.sink, False)
    return found


def _from_systemd(count: str) -> Found:
    if count != "1":
        raise NoConnection(f"systemd handed over {count or 'no'} sockets, not one")
    found = Found(LISTEN_FDS_START, LISTEN_FDS_START)
    _examine(found, "the socket from systemd")
    return found


def _from_standard_input() -> Found:
    kind = _kind_of(0)
    pipes = kind == PIPE == _kind_of(1)
    found = Found(0, 1 if pipes else 0)
    if kind == stat.S_IFSOCK:
        _examine(found, "descriptor 0")
    elif not pipes:
        raise NoConnection(f"descriptor 0 is {_describe(kind)}, no connection; {HOW}")
    found.source = os.dup(0)
    found.sink = os.dup(1) if pipes else found.source
    if pipes or fds.same_file(0, 1):
        fds.silence(1)
    fds.silence(0)
    return found


def _examine(found: Found, name: str) -> None:
    """Learn the peer; refuse what is no connected stream."""
    try:
        handle = socket.socket(-1, -1, -1, found.source)
    except OSError:
        raise NoConnection(f"{name} is no socket; {HOW}") from None
    try:
        if handle.type != socket.SOCK_STREAM:
            raise NoConnection(f"{name} is a datagram socket, no connection; {HOW}")
        if handle.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            raise NoConnection(
                f"{name} is a listening socket: set Accept=yes (systemd), "
                "wait=no (inetd), or use chimirror-server"
            )
        _learn_peer(found, handle)
    finally:
        handle.detach()


def _learn_peer(found: Found, handle: socket.socket) -> None:
    if handle.family == socket.AF_UNIX:
        found.uid = peer_uid(handle)
    if handle.family not in (socket.AF_INET, socket.AF_INET6):
        return
    try:
        address, found.port = handle.getpeername()[:2]
        found.address = plain_address(address)
        handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError:
        pass  # it has gone already: reading will tell


def peer_uid(handle: socket.socket) -> int:
    """The uid of the process at the other end of a Unix socket; -1 if not known."""
    if not hasattr(socket, "SO_PEERCRED"):
        return -1
    credentials = handle.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    uid = int.from_bytes(credentials[4:8], byteorder)
    return -1 if uid == NOBODY_KNOWN else uid


def plain_address(address: str) -> str:
    """An IPv4 peer on an IPv6 socket is an IPv4 peer; scopes are dropped."""
    mapped = address.removeprefix("::ffff:")
    if ":" not in mapped:
        return mapped
    return address.partition("%")[0]


def _describe(kind: int) -> str:
    if kind == stat.S_IFCHR:
        return "a terminal" if os.isatty(0) else "a device (such as /dev/null)"
    if kind == PIPE:
        return "a pipe without a pipe as descriptor 1"
    return "a file" if kind == stat.S_IFREG else "nothing that can be one"
