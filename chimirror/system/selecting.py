"""The verbs of select.epoll where there is no epoll(7): kqueue, poll or select.

Over the standard selectors. Knows nothing of owners; the loop does.
"""

from __future__ import annotations

import selectors

EPOLLIN, EPOLLOUT = 0x1, 0x4  # epoll_ctl(2), which is what the loop speaks


class SelectorPoller:
    """The verbs of select.epoll over the standard selectors, for other systems."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()

    def register(self, fd: int, eventmask: int) -> None:
        """See select.epoll; PEER_CLOSED alone cannot be expressed and waits."""
        if events := _interest(eventmask):
            self._selector.register(fd, events)

    def modify(self, fd: int, eventmask: int) -> None:
        """See select.epoll."""
        self.unregister(fd)
        self.register(fd, eventmask)

    def unregister(self, fd: int) -> None:
        """See select.epoll."""
        if fd in self._selector.get_map():
            self._selector.unregister(fd)

    def poll(self, timeout: float, maxevents: int) -> list[tuple[int, int]]:
        """See select.epoll; all that is ready, or the first would starve the rest."""
        ready = self._selector.select(None if timeout < 0 else timeout)
        return [
            (key.fd, (EPOLLIN if events & 1 else 0) | (EPOLLOUT if events & 2 else 0))
            for key, events in ready
        ]

    def close(self) -> None:
        """See select.epoll."""
        self._selector.close()


def _interest(mask: int) -> int:
    """epoll's mask as the selectors' (EVENT_READ 1, EVENT_WRITE 2)."""
    return (1 if mask & EPOLLIN else 0) | (2 if mask & EPOLLOUT else 0)
