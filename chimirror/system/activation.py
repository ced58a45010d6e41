"""Which descriptor is the connection: systemd's fd 3, or fd 0 of inetd and socat.

Follows sd_listen_fds(3), systemd.socket(5) (`Accept=yes`, `StandardInput=socket`) and
the inetd custom. Knows no WebSocket. What it finds is moved away from 0, 1 and 2, so
that closing it once ends the connection, and nothing we print can reach the wire.
"""

from __future__ import annotations

from chimirror.system import fds
from chimirror.system.lean import os, socket, stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

LISTEN_FDS_START = 3
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

    Under inetd descriptor 2 is the connection too; whether it was is the answer.
    """
    on_wire = fds.same_file(0, 2)
    if on_wire:
        mode = os.fstat(2).st_mode
        on_wire = stat.S_ISSOCK(mode) or stat.S_ISFIFO(mode)
    if on_wire:
        fds.silence(2)
    fds.fill_standard()
    return on_wire


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
    mode = os.fstat(0).st_mode
    if stat.S_ISSOCK(mode):
        source = sink = os.dup(0)
    elif stat.S_ISFIFO(mode) and stat.S_ISFIFO(os.fstat(1).st_mode):
        source, sink = os.dup(0), os.dup(1)
    else:
        raise NoConnection(f"descriptor 0 is {_kind(mode)}, not a connection; {HOW}")
    found = Found(source, sink)
    if source == sink:
        _examine(found, "descriptor 0")
    if source != sink or fds.same_file(0, 1):
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
            raise NoConnection(f"{name} is a datagram socket, not a connection; {HOW}")
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
        return
    try:
        found.address, found.port = handle.getpeername()[:2]
        handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError:
        return  # it has gone already: reading will tell
    found.address = plain_address(found.address)


def peer_uid(handle: socket.socket) -> int:
    """The uid of the process at the other end of a Unix socket; -1 if not known."""
    if not hasattr(socket, "SO_PEERCRED"):
        return -1
    credentials = handle.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return int.from_bytes(credentials[4:8], "little", signed=True)


def plain_address(address: str) -> str:
    """An IPv4 peer on an IPv6 socket is an IPv4 peer; scopes are dropped."""
    return address.removeprefix("::ffff:").partition("%")[0]


def _kind(mode: int) -> str:
    if stat.S_ISCHR(mode):
        return "a terminal" if os.isatty(0) else "a device (such as /dev/null)"
    if stat.S_ISFIFO(mode):
        return "a pipe without a pipe as descriptor 1"
    return "a file" if stat.S_ISREG(mode) else "something else"
