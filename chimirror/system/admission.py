"""Who may start one more session: counts that all workers of a server share.

Law: a limit holds exactly over all workers, and no death may spoil a count. Every
count is one word that only its worker changes; every change of structure is one store;
so whoever is killed between two stores leaves at worst a stray that `Table.forget`
clears. The lock is a POSIX record lock (fcntl(2)): the kernel opens it when its owner
dies. It does not exclude threads of one process.

Knows neither sockets nor HTTP: a source is some bytes (`source_key` makes them of an
address), a refusal is a word. Loaded by the server only.
"""

from __future__ import annotations

import os
from _socket import AF_INET, AF_INET6, inet_pton
from fcntl import LOCK_EX, LOCK_UN, lockf
from mmap import mmap
from time import monotonic_ns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

MAX_SESSIONS = "max-sessions"
MAX_SESSIONS_PER_SOURCE = "max-sessions-per-source"
MAX_RATE = "max-rate"

SECOND = 1_000_000_000
_ROOM_AGAIN = 5  # seconds; when a session ends is not ours to know
_MAPPED = bytes(10) + b"\xff\xff"  # RFC 4291, 2.5.5.2

# Single words of the table, by their index.
_ARRIVAL, _FREE, _FRESH, _WORDS = 0, 1, 2, 3


def source_key(address: str, uid: int = -1) -> bytes:
    """What one source is: an IPv4 address, an IPv6 /64, a local user.

    A /64 is what one subscriber gets (RFC 6177): counting single addresses of it
    would limit nobody.

    Args:
        address: without port; empty for a peer on a Unix socket.
        uid: the user of a Unix peer (SO_PEERCRED).
    """
    if not address:
        return b"u%d" % uid
    try:
        return b"4" + inet_pton(AF_INET, address)
    except (OSError, ValueError):
        pass
    try:
        packed = inet_pton(AF_INET6, address.partition("%")[0])
    except (OSError, ValueError):
        # A name from a proxy, say: still a source, and never a dead accept loop.
        return b"?" + address.encode("utf-8", "backslashreplace")
    if packed.startswith(_MAPPED):
        return b"4" + packed[12:]
    return b"6" + packed[:8]


class Table:
    """The counts, in memory that processes forked later share.

    Sources are in a hash table with chains: an entry is put in or taken out by one
    store into a link, so a chain is whole at every instant. Entry 0 means "none".

    Args:
        max_sessions: live sessions of all workers together.
        per_source: live sessions of one source, None for no limit.
        rate: admissions per second, None for no limit; one second's worth of them
            (at least one) may come at once.
        workers: how many there are, numbered from 0.
        clock: nanoseconds of CLOCK_MONOTONIC, which all processes share.
    """

    __slots__ = (
        "_clock",
        "_counts",
        "_entries",
        "_heads",
        "_interval",
        "_keys",
        "_lock",
        "_mask",
        "_max_sessions",
        "_memory",
        "_next",
        "_per_source",
        "_salt",
        "_sessions",
        "_tolerance",
        "_words",
        "_workers",
    )

    def __init__(
        self,
        max_sessions: int,
        per_source: int | None,
        rate: float | None,
        workers: int,
        clock: Callable[[], int] = monotonic_ns,
    ) -> None:
        self._max_sessions = max_sessions
        self._workers = workers
        self._per_source = per_source or 0
        self._clock = clock
        # Rounded up: never more than the rate, not even by a nanosecond.
        self._interval = -int(-SECOND // rate) if rate else 0
        self._tolerance = int((max(1.0, rate) - 1) * self._interval) if rate else 0
        self._salt = os.urandom(16)
        # Each live entry holds a session; each dead worker may have lost one entry.
        self._entries = max_sessions + workers + 1 if per_source else 1
        self._mask = (1 << self._entries.bit_length()) - 1
        self._lock = _anonymous_file()
        self._map()

    def _map(self) -> None:
        """Lays the arrays out; memory that is never touched costs nothing."""
        entries, heads = self._entries, self._mask + 1
        words, keys = 8 * _WORDS, 8 * entries
        sizes = (words, keys, 4 * self._workers, 4 * heads, 4 * entries)
        offsets = [sum(sizes[:i]) for i in range(len(sizes) + 1)]
        counts = 4 * entries * self._workers
        self._memory = mmap(-1, offsets[-1] + counts)
        view = memoryview(self._memory)
        parts = [view[a:b] for a, b in zip(offsets, [*offsets[1:], None], strict=True)]
        # A cast view stores a word by one memcpy: no half-written number.
        self._words, self._keys = parts[0].cast("Q"), parts[1].cast("Q")
        self._sessions, self._heads = parts[2].cast("I"), parts[3].cast("I")
        self._next, self._counts = parts[4].cast("I"), parts[5].cast("I")
        self._words[_FRESH] = 1

    @property
    def by_source(self) -> bool:
        """Whether sources are counted at all; else it does not matter which one."""
        return self._per_source > 0

    def enter(self, worker: int, source: bytes, most: int = 0) -> str | None:
        """Counts one session of `source` in.

        Args:
            most: what holds for this source instead of `per_source`.

        Returns:
            None if it is admitted (`leave` must follow), else the cause: one of
            MAX_SESSIONS, MAX_SESSIONS_PER_SOURCE, MAX_RATE.
        """
        lockf(self._lock, LOCK_EX)
        try:
            if sum(self._sessions) >= self._max_sessions:
                return MAX_SESSIONS
            key = self._key(source) if self._per_source else 0
            entry = self._find(key) if self._per_source else 0
            if entry and self._sum(entry) >= (most or self._per_source):
                return MAX_SESSIONS_PER_SOURCE
            if self._interval and not self._take_token():
                return MAX_RATE
            self._count_in(worker, key, entry)
            return None
        finally:
            lockf(self._lock, LOCK_UN)

    def leave(self, worker: int, source: bytes) -> None:
        """Counts one session that `enter` admitted out.

        Raises:
            ValueError: this worker holds no session of this source.
        """
        if self._per_source:
            lockf(self._lock, LOCK_EX)
            try:
                self._count_out(worker, source)
            finally:
                lockf(self._lock, LOCK_UN)
        if not self._sessions[worker]:
            raise ValueError("no such session was admitted")
        self._sessions[worker] -= 1  # ours alone: needs no lock

    def forget(self, worker: int) -> None:
        """Gives back everything that a dead worker held.

        To be called by the supervisor before a new worker takes the number.
        """
        lockf(self._lock, LOCK_EX)
        try:
            self._sessions[worker] = 0
            column = self._counts[worker :: self._workers].tolist()
            for entry, count in enumerate(column[: self._words[_FRESH]]):
                if count:
                    self._counts[entry * self._workers + worker] = 0
            self._relink()
        finally:
            lockf(self._lock, LOCK_UN)

    def total(self) -> int:
        """Live sessions of all workers."""
        return sum(self._sessions)

    def count(self, worker: int) -> int:
        """Live sessions of one worker."""
        return self._sessions[worker]

    def retry_after(self, cause: str) -> int:
        """Whole seconds after which asking again may help (Retry-After)."""
        if cause != MAX_RATE:
            return _ROOM_AGAIN
        wait = self._words[_ARRIVAL] - self._tolerance - self._clock()
        return max(1, -(-wait // SECOND))

    def close(self) -> None:
        """Lets go of the memory and the lock, in this process alone."""
        for view in (
            self._words,
            self._keys,
            self._sessions,
            self._heads,
            self._next,
            self._counts,
        ):
            view.release()
        self._memory.close()
        lock, self._lock = self._lock, -1
        os.close(lock)

    # All below: under the lock

    def _take_token(self) -> bool:
        """A token bucket in one word: when the bucket will be full again (GCRA)."""
        now = self._clock()
        arrival = max(self._words[_ARRIVAL], now)
        if arrival - self._tolerance > now:
            return False
        self._words[_ARRIVAL] = arrival + self._interval
        return True

    def _sum(self, entry: int) -> int:
        first = entry * self._workers
        return sum(self._counts[first : first + self._workers])

    def _key(self, source: bytes) -> int:
        """Keyed (SipHash, and our salt), so that no client can aim at a chain."""
        return hash(self._salt + source) & 0xFFFF_FFFF_FFFF_FFFF

    def _find(self, key: int) -> int:
        entry = self._heads[key & self._mask]
        while entry and self._keys[entry] != key:
            entry = self._next[entry]
        return entry

    def _count_in(self, worker: int, key: int, entry: int) -> None:
        if self._per_source:
            if not entry:
                entry = self._insert(key)
            self._counts[entry * self._workers + worker] += 1
        self._sessions[worker] += 1

    def _count_out(self, worker: int, source: bytes) -> None:
        entry = self._find(self._key(source))
        cell = entry * self._workers + worker
        if not entry or not self._counts[cell]:
            raise ValueError("no such session was admitted")
        self._counts[cell] -= 1
        if not self._sum(entry):
            self._remove(entry)

    def _insert(self, key: int) -> int:
        entry: int = self._words[_FREE]
        if entry:
            self._words[_FREE] = self._next[entry]
        else:
            entry = self._words[_FRESH]
            self._words[_FRESH] = entry + 1
        self._keys[entry] = key
        self._push(entry)
        return entry

    def _push(self, entry: int) -> None:
        head = self._keys[entry] & self._mask
        self._next[entry] = self._heads[head]
        self._heads[head] = entry

    def _remove(self, entry: int) -> None:
        head = self._keys[entry] & self._mask
        after = self._next[entry]
        link = self._heads[head]
        if link == entry:
            self._heads[head] = after
        else:
            while self._next[link] != entry:
                link = self._next[link]
            self._next[link] = after
        self._next[entry] = self._words[_FREE]
        self._words[_FREE] = entry

    def _relink(self) -> None:
        """Builds chains and free list anew from the counts: no stray survives."""
        with self._heads.cast("B") as heads:
            heads[:] = bytes(len(heads))
        self._words[_FREE] = 0
        for entry in range(1, self._words[_FRESH]):
            if self._sum(entry):
                self._push(entry)
            else:
                self._next[entry] = self._words[_FREE]
                self._words[_FREE] = entry


def _anonymous_file() -> int:
    """A descriptor to lock, closed in every program that is started."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("chimirror-admission", os.MFD_CLOEXEC)
    from tempfile import TemporaryFile

    with TemporaryFile() as file:
        return os.dup(file.fileno())
