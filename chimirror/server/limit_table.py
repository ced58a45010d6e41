"""Session counts in shared memory, which admit or reject a new session.

Guarantees: a limit holds exactly over all workers, and the death of a worker does not
corrupt a count. Each count is one word that only its own worker changes. Each change of
the structure is one store. A worker that is killed between two stores leaves at worst
an entry that `LimitTable.release_worker` clears. The lock is a POSIX record lock
(fcntl(2)), which the kernel releases when its owner dies. It does not exclude threads
of one process.

Knows neither sockets nor HTTP: a source is a byte string and a rejection is a word.
Only the server loads this module.
"""

from __future__ import annotations

import os
from fcntl import LOCK_EX, LOCK_UN, lockf
from mmap import mmap
from time import monotonic_ns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

MAX_SESSIONS = "max-sessions"
MAX_SESSIONS_PER_SOURCE = "max-sessions-per-source"
MAX_RATE = "max-rate"
DRAIN = "drain"

SECOND = 1_000_000_000
# Sessions of each worker below the limit from which on admissions take the lock.
FAR = 16
_RETRY_AFTER = 5  # seconds: the end of a session cannot be predicted

# Indexes of the single words of the table.
_ARRIVAL, _FREE, _FRESH, _DRAINING, _WORDS = 0, 1, 2, 3, 4


class LimitTable:
    """The session counts, in memory that is shared with processes forked later.

    Sources are in a hash table with chains. One store into a link inserts or removes an
    entry, so a chain is consistent at every instant. Entry 0 means "none".

    Args:
        max_sessions: maximum number of live sessions of all workers together.
        per_source: maximum number of live sessions of one source, None for no limit.
        rate: admissions per second, None for no limit. The admissions of one second, at
            least one, may come at once.
        workers: number of workers, which are numbered from 0.
        clock: returns nanoseconds of CLOCK_MONOTONIC, which all processes share.
    """

    __slots__ = (
        "_clock",
        "_counts",
        "_entries",
        "_heads",
        "_interval",
        "_is_unlocked",
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
        # Rounded up, so that the rate is never exceeded, not even by a nanosecond.
        self._interval = -int(-SECOND // rate) if rate else 0
        self._tolerance = int((max(1.0, rate) - 1) * self._interval) if rate else 0
        self._salt = os.urandom(16)
        # Each live entry holds a session. Each dead worker may have lost one entry.
        self._entries = max_sessions + workers + 1 if per_source else 1
        self._mask = (1 << self._entries.bit_length()) - 1
        self._is_unlocked = not (per_source or rate)  # only sessions are counted
        self._lock = anonymous_file()
        self._map()

    def _map(self) -> None:
        """Lay out the arrays. Memory that is never touched takes no pages."""
        entries, heads = self._entries, self._mask + 1
        words, keys = 8 * _WORDS, 8 * entries
        sizes = (words, keys, 4 * self._workers, 4 * heads, 4 * entries)
        offsets = [sum(sizes[:i]) for i in range(len(sizes) + 1)]
        counts = 4 * entries * self._workers
        self._memory = mmap(-1, offsets[-1] + counts)
        view = memoryview(self._memory)
        parts = [view[a:b] for a, b in zip(offsets, [*offsets[1:], None], strict=True)]
        # A cast view stores a word by one memcpy, so a reader never sees half a number.
        self._words, self._keys = parts[0].cast("Q"), parts[1].cast("Q")
        self._sessions, self._heads = parts[2].cast("I"), parts[3].cast("I")
        self._next, self._counts = parts[4].cast("I"), parts[5].cast("I")
        self._words[_FRESH] = 1

    @property
    def by_source(self) -> bool:
        """True if sources are counted. Otherwise any bytes will do as a source."""
        return self._per_source > 0

    def acquire(self, worker: int, source: bytes, limit: int = 0) -> str | None:
        """Count a new session of `source`.

        Args:
            worker: the number of the worker that holds the session.
            source: the key of the source.
            limit: the limit for this source, if not 0, instead of `per_source`.

        Returns:
            None if the session is admitted (`release` must follow), otherwise the
            cause:
            DRAIN, MAX_SESSIONS, MAX_SESSIONS_PER_SOURCE or MAX_RATE.
        """
        if self._words[_DRAINING]:
            return DRAIN
        if self._is_unlocked and self._add_unlocked(worker):
            return None
        lockf(self._lock, LOCK_EX)
        try:
            key = self._key(source) if self._per_source else 0
            entry = self._find(key) if self._per_source else 0
            cause = self._find_full(entry, limit)
            if cause is not None:
                return cause
            if self._interval and not self._take_token():
                return MAX_RATE
            self._add(worker, key, entry)
            return None
        finally:
            lockf(self._lock, LOCK_UN)

    def _add_unlocked(self, worker: int) -> bool:
        """Count a session without the lock, if the limit is far away.

        The word is written before the words are read again. So another worker reads
        this word, or its own is read here. A processor may delay a write, but for less
        time than one more admission takes, and the margin allows for one.

        Returns:
            False: nothing is counted, and the lock decides.
        """
        sessions = self._sessions
        if sum(sessions) + FAR * self._workers > self._max_sessions:
            return False
        sessions[worker] += 1
        if sum(sessions) + self._workers <= self._max_sessions:
            return True
        sessions[worker] -= 1  # others were admitted in between
        return False

    def find_exceeded(self, source: bytes, limit: int = 0) -> str | None:
        """Return the cause that `acquire` would return now. Counts nothing.

        Args:
            source, limit: as for `acquire`.
        """
        if self._words[_DRAINING]:
            return DRAIN
        lockf(self._lock, LOCK_EX)
        try:
            entry = self._find(self._key(source)) if self._per_source else 0
            cause = self._find_full(entry, limit)
            if cause is None and self._interval and not self._has_token():
                return MAX_RATE
            return cause
        finally:
            lockf(self._lock, LOCK_UN)

    def release(self, worker: int, source: bytes) -> None:
        """Stop counting a session that `acquire` admitted.

        Raises:
            ValueError: this worker holds no session of this source.
        """
        if self._per_source:
            lockf(self._lock, LOCK_EX)
            try:
                self._subtract(worker, source)
            finally:
                lockf(self._lock, LOCK_UN)
        if not self._sessions[worker]:
            raise ValueError("no such session was admitted")
        self._sessions[worker] -= 1  # no lock: only this worker writes the word

    def release_worker(self, worker: int) -> None:
        """Stop counting all sessions of a dead worker.

        The supervisor calls this before a new worker takes the number.
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

    @property
    def draining(self) -> bool:
        """True while every new session of all workers is rejected."""
        return self._words[_DRAINING] != 0

    def set_draining(self, draining: bool) -> bool:
        """Reject new sessions of all workers, or admit them again.

        Returns:
            True if that is a change.
        """
        changed = self.draining != draining
        self._words[_DRAINING] = int(draining)
        return changed

    def total(self) -> int:
        """Return the number of live sessions of all workers."""
        return sum(self._sessions)

    def count(self, worker: int) -> int:
        """Return the number of live sessions of one worker."""
        return self._sessions[worker]

    def retry_after(self, cause: str) -> int:
        """Return the whole seconds after which a request may succeed (Retry-After)."""
        if cause != MAX_RATE:
            return _RETRY_AFTER
        wait = self._words[_ARRIVAL] - self._tolerance - self._clock()
        return max(1, -(-wait // SECOND))

    def close(self) -> None:
        """Release the memory and the lock in this process only."""
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

    # The methods below are called with the lock held.

    def _find_full(self, entry: int, limit: int) -> str | None:
        if sum(self._sessions) >= self._max_sessions:
            return MAX_SESSIONS
        if entry and self._sum(entry) >= (limit or self._per_source):
            return MAX_SESSIONS_PER_SOURCE
        return None

    def _has_token(self) -> bool:
        return self._words[_ARRIVAL] - self._tolerance <= self._clock()

    def _take_token(self) -> bool:
        """Take a token, if there is one, from the bucket of the rate limit (GCRA).

        The bucket is one word: the time at which the bucket will be full again.
        """
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
        """Hash a source with SipHash and a random salt.

        The salt prevents clients from choosing addresses that share one long chain.
        """
        return hash(self._salt + source) & 0xFFFF_FFFF_FFFF_FFFF

    def _find(self, key: int) -> int:
        entry = self._heads[key & self._mask]
        while entry and self._keys[entry] != key:
            entry = self._next[entry]
        return entry

    def _add(self, worker: int, key: int, entry: int) -> None:
        if self._per_source:
            if not entry:
                entry = self._insert(key)
            self._counts[entry * self._workers + worker] += 1
        self._sessions[worker] += 1

    def _subtract(self, worker: int, source: bytes) -> None:
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
        """Rebuild chains and free list from the counts, which drops lost entries."""
        with self._heads.cast("B") as heads:
            heads[:] = bytes(len(heads))
        self._words[_FREE] = 0
        for entry in range(1, self._words[_FRESH]):
            if self._sum(entry):
                self._push(entry)
            else:
                self._next[entry] = self._words[_FREE]
                self._words[_FREE] = entry


def anonymous_file() -> int:
    """Return a descriptor to lock, which execve(2) closes."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("chimirror-admission", os.MFD_CLOEXEC)
    from tempfile import TemporaryFile

    with TemporaryFile() as file:
        return os.dup(file.fileno())
