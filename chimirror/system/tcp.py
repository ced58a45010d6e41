"""What the kernel knows of a connection: acknowledged, on its way, unanswered.

tcp(7) and unix(7), through the plain C modules; no `socket` module is loaded. Where the
descriptor is no TCP socket, the answer is that of a peer that is fine. Each socket
object is detached again: the descriptor stays its owner's.
"""

from __future__ import annotations

from sys import byteorder

from chimirror.system.lean import socket

TCP_INFO = 11
SIOCOUTQ = 0x5411  # bytes sent or queued that the peer has not acknowledged or read
_RETRANSMITS, _PROBES, _LAST_ACK = 2, 3, 56  # offsets in struct tcp_info
_INFO_SIZE = 60


def shutdown_write(fd: int) -> None:
    """End our half of the connection; a connection that is already gone is fine."""
    handle = socket.socket(-1, -1, -1, fd)
    try:
        handle.shutdown(socket.SHUT_WR)
    except OSError:
        pass
    finally:
        handle.detach()


def unsent(fd: int) -> int:
    """Bytes that the peer's side has not acknowledged (TCP) or read (Unix)."""
    import fcntl

    try:
        answer = fcntl.ioctl(fd, SIOCOUTQ, b"\0\0\0\0")
    except OSError:
        return 0
    return int.from_bytes(answer, byteorder)


def stalled(fd: int) -> bool:
    """Whether TCP has sent something again, or probed, without an answer so far.

    A peer that lives answers probes of its closed window, which resets both counts; not
    each of them: it limits the rate (tcp_invalid_ratelimit), and one may get lost.
    """
    info = _info(fd)
    return bool(info and (info[_RETRANSMITS] or info[_PROBES] > 1))


def unanswered_for(fd: int) -> float:
    """Seconds without an acknowledgement while TCP repeats itself; 0 if it does not."""
    info = _info(fd)
    if not info or not info[_RETRANSMITS]:
        return 0.0
    return int.from_bytes(info[_LAST_ACK : _LAST_ACK + 4], byteorder) / 1000


def _info(fd: int) -> bytes:
    try:
        handle = socket.socket(-1, -1, -1, fd)
    except OSError:
        return b""
    try:
        info = handle.getsockopt(socket.IPPROTO_TCP, TCP_INFO, _INFO_SIZE)
    except OSError:
        return b""
    finally:
        handle.detach()
    return info if len(info) == _INFO_SIZE else b""
