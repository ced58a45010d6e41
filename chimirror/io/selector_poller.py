"""The methods of select.epoll over the standard selectors: kqueue, poll or select.

For systems without epoll(7). Knows no handlers: the loop does.
"""

from __future__ import annotations

import selectors

EPOLLIN, EPOLLOUT = 0x1, 0x4  # values of epoll_ctl(2), which the loop uses


class SelectorPoller:
    """Poller with the methods of select.epoll, for systems other than Linux."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()

    def register(self, fd: int, eventmask: int) -> None:
        """Register a descriptor. PEER_CLOSED cannot be expressed: it waits."""
        if events := _interest(eventmask):
            self._selector.register(fd, events)

    def modify(self, fd: int, eventmask: int) -> None:
        """Change the events of a descriptor."""
        self.unregister(fd)
        self.register(fd, eventmask)

    def unregister(self, fd: int) -> None:
        """Remove a descriptor."""
        if fd in self._selector.get_map():
            self._selector.unregister(fd)

    def poll(self, timeout: float, maxevents: int) -> list[tuple[int, int]]:
        """Return all ready descriptors, ignoring `maxevents`.

        With a limit the first descriptors would starve the others.
        """
        ready = self._selector.select(None if timeout < 0 else timeout)
        return [
            (key.fd, (EPOLLIN if events & 1 else 0) | (EPOLLOUT if events & 2 else 0))
            for key, events in ready
        ]

    def close(self) -> None:
        """Close the selector."""
        self._selector.close()


def _interest(mask: int) -> int:
    """Translate an epoll mask for the selectors (EVENT_READ 1, EVENT_WRITE 2)."""
    return (1 if mask & EPOLLIN else 0) | (2 if mask & EPOLLOUT else 0)
