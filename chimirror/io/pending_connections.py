"""Connections without a session: a bound for all, and a share for each source.

A new connection never waits here. Beyond the share of its source, the oldest connection
of that source gives way. Beyond the bound for all, the oldest one of the source with
the most connections gives way. So connections of one source cannot keep out another.
Knows no socket and no protocol: the owner closes connections that give way.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator
    from typing import Any

    Entry = Any  # Generic needs the import of typing


class PendingConnections:
    """Connections in the order of their arrival, by source.

    Args:
        limit: maximum number of all connections, at least 2.
        share: maximum number of connections of one source.
        close: called with the connection that gives way, which is removed already. May
            add another one.
    """

    __slots__ = (
        "_by_source",
        "_close",
        "_crowded",
        "_is_making_room",
        "_limit",
        "_share",
        "_sources",
    )

    def __init__(
        self, limit: int, share: int, close: Callable[[Entry], object]
    ) -> None:
        self._limit = limit
        self._share = share
        self._close = close
        self._sources: dict[Entry, Hashable] = {}
        self._by_source: dict[Hashable, dict[Entry, None]] = {}
        self._crowded: list[Hashable] = []  # sources to look at
        self._is_making_room = False

    def add(self, entry: Entry, source: Hashable) -> None:
        """Add a connection. Another one gives way if there are too many.

        Args:
            entry: a connection that is not here yet.
            source: key of its source. None for an unknown source, which has no share:
                only the bound for all applies to it.
        """
        self._sources[entry] = source
        group = self._by_source.get(source)
        if group is None:
            group = self._by_source[source] = {}
        group[entry] = None
        if self._crowded_group(source) is not None:
            self._crowded.append(source)
            if not self._is_making_room:  # no recursion, however many give way
                self._make_room()

    def _crowded_group(self, source: Hashable) -> dict[Entry, None] | None:
        """Return the group whose oldest connection gives way, if there are too many."""
        group = self._by_source.get(source)
        if source is not None and group is not None and len(group) > self._share:
            return group
        if len(self._sources) > self._limit:
            # Of equally large groups, the one that began first.
            return max(self._by_source.values(), key=len)
        return None

    def _make_room(self) -> None:
        self._is_making_room = True
        try:
            while self._crowded:
                source = self._crowded.pop()
                while (group := self._crowded_group(source)) is not None:
                    oldest = next(iter(group))
                    self.discard(oldest)
                    self._close(oldest)
        finally:
            self._is_making_room = False

    def discard(self, entry: Entry) -> None:
        """Remove a connection, if it is here."""
        if entry not in self._sources:
            return
        source = self._sources.pop(entry)
        group = self._by_source[source]
        del group[entry]
        if not group:
            del self._by_source[source]

    def __len__(self) -> int:
        """Return the number of connections."""
        return len(self._sources)

    def __iter__(self) -> Iterator[Entry]:
        """Iterate over the connections. None may be added meanwhile."""
        return iter(self._sources)

    def __contains__(self, entry: object) -> bool:
        """Return True for a connection that is here."""
        return entry in self._sources
