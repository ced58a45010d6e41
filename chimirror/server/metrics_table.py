"""Counters of sessions in shared memory, which outlive the worker that counts.

Each worker number has a region, and so has the supervisor. Only the process with that
number writes the region: a counter is one 64-bit word, and each change is one store. A
worker that takes over the number of a dead one goes on with its counters. So nothing is
counted twice or lost, at whichever store a worker is killed.

A region is a row of entries: a key and its counters. An entry is written behind the
last one and then published by one store of the length in use. Entries are never removed
or changed in size. A region that is full takes no more keys: `find_or_add` says so.

Knows no session and no series. Only a server with --metrics loads this module.
"""

from __future__ import annotations

from mmap import mmap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

# Counters that each region has, from word 1 on.
USED = 0  # words in use
TRAFFIC = 1  # bytes in, bytes out, messages in, messages out
TRAFFIC_WORDS = 4
# Of the event loop, in nanoseconds of CLOCK_MONOTONIC. 0: the process has ended.
LOOP_DUE = TRAFFIC + TRAFFIC_WORDS
LOOP_LATE = LOOP_DUE + 1
FIXED = LOOP_LATE + 1

REGION_SIZE = 1 << 20  # bytes; memory that is never touched takes no pages
_WORD = 8
_LENGTH_BITS = 16  # of the key's length in bytes. The number of counters is above.


class Region:
    """The counters of one worker number.

    Attributes:
        words: all 64-bit words. An index of `find_or_add` is a place in it.
    """

    __slots__ = ("_bytes", "_found", "_scanned", "words")

    def __init__(self, memory: memoryview) -> None:
        self._bytes = memory
        self.words = memory.cast("Q")
        self._found: dict[bytes, int] = {}
        self._scanned = FIXED
        if not self.words[USED]:
            self.words[USED] = FIXED

    def find_or_add(self, key: bytes, count: int) -> int:
        """Return the index of the first counter of a key. New counters are 0.

        Args:
            key: at most 65535 bytes.
            count: number of its counters, the same in each call.

        Returns:
            0 if the region is full.
        """
        index = self.index_of(key)
        if index:
            return index
        start = self._scanned
        first = start + 1 + -(-len(key) // _WORD)
        end = first + count
        if end > len(self.words):
            return 0
        # A worker that died here may have left something behind.
        for place in range(first, end):
            self.words[place] = 0
        at = _WORD * (start + 1)
        self._bytes[at : at + len(key)] = key
        self.words[start] = count << _LENGTH_BITS | len(key)
        self.words[USED] = end
        return self.index_of(key)

    def index_of(self, key: bytes) -> int:
        """Return the index of the first counter of a key, 0 if there is none."""
        self._scan()
        return self._found.get(key, 0)

    def entries(self) -> Iterator[tuple[bytes, int]]:
        """Return the keys with the indexes of their first counters."""
        self._scan()
        return iter(tuple(self._found.items()))

    def _scan(self) -> None:
        """Find the entries that were published since the last call."""
        words, end = self.words, self.words[USED]
        while self._scanned < end:
            count, length = divmod(words[self._scanned], 1 << _LENGTH_BITS)
            at = _WORD * (self._scanned + 1)
            first = self._scanned + 1 + -(-length // _WORD)
            self._found[bytes(self._bytes[at : at + length])] = first
            self._scanned = first + count

    def traffic(self) -> memoryview:
        """Return bytes in, bytes out, messages in and messages out, to be changed."""
        return self.words[TRAFFIC : TRAFFIC + TRAFFIC_WORDS]

    def release(self) -> None:
        """Release the views of the memory."""
        self.words.release()
        self._bytes.release()


class MetricsTable:
    """The regions of all workers and of the supervisor. Is created before the fork.

    Args:
        workers: number of workers, which are numbered from 0. The supervisor has the
            next number.
        region_size: bytes of each region, a multiple of 8.
    """

    __slots__ = ("_memory", "regions")

    def __init__(self, workers: int, region_size: int = REGION_SIZE) -> None:
        self._memory = mmap(-1, (workers + 1) * region_size)
        view = memoryview(self._memory)
        self.regions = [
            Region(view[at : at + region_size])
            for at in range(0, len(view), region_size)
        ]
        view.release()

    def close(self) -> None:
        """Release the memory in this process only."""
        for region in self.regions:
            region.release()
        self._memory.close()
