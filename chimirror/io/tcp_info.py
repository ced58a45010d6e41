"""TCP state in the kernel: acknowledged, in flight, retransmitting, unsent.

Uses tcp(7) and unix(7) through the plain C modules, without the `socket` module. For a
descriptor that is no TCP socket, the answer is that of a healthy peer. Each socket
object is detached again, so the descriptor stays with its owner. Knows no protocol.
"""

from __future__ import annotations

from sys import byteorder

from chimirror.builtin_modules import socket

TCP_INFO = 11
SIOCOUTQ = 0x5411  # bytes sent or queued that the peer has not acknowledged or read
_RETRANSMITS, _PROBES, _LAST_ACK = 2, 3, 56  # offsets in struct tcp_info
_INFO_SIZE = 60


def shutdown_write(fd: int) -> None:
    """Shut down the outgoing direction. A connection that is gone is no error."""
    handle = socket.socket(-1, -1, -1, fd)
    try:
        handle.shutdown(socket.SHUT_WR)
    except OSError:
        pass
    finally:
        handle.detach()


def limit_unsent(fd: int, size: int) -> None:
    """Accept at most about `size` bytes that TCP has not sent yet.

    Without this, the send buffer grows to megabytes for a peer that reads slowly.
    """
    try:
        handle = socket.socket(-1, -1, -1, fd)
    except OSError:
        return
    try:
        handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, size)
    except OSError:
        pass
    finally:
        handle.detach()


def unacked_bytes(fd: int) -> int:
    """Return the bytes that the peer has not acknowledged (TCP) or read (Unix)."""
    import fcntl

    try:
        answer = fcntl.ioctl(fd, SIOCOUTQ, b"\0\0\0\0")
    except OSError:
        return 0
    return int.from_bytes(answer, byteorder)


def is_retransmitting(fd: int) -> bool:
    """Return True if TCP has retransmitted or probed without an answer so far.

    A live peer answers probes of its closed window, which resets both counters. It need
    not answer every probe: answers are rate-limited (tcp_invalid_ratelimit) and may get
    lost.
    """
    info = _info(fd)
    return bool(info and (info[_RETRANSMITS] or info[_PROBES] > 1))


def seconds_since_ack(fd: int) -> float:
    """Return seconds since the last acknowledgement while retransmitting, else 0."""
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
