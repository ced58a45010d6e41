"""Shared memory that names the applications which each worker has started.

A worker is the parent of its applications. When it dies, the supervisor adopts them,
and finds them here, with the sessions that they belong to. The kernel writes a pid
before the process runs, so no process is missing, whenever its worker dies. Knows no
links and no loop. clone(2), CLONE_PARENT_SETTID.
"""

from __future__ import annotations

from errno import EAGAIN
from mmap import mmap
from struct import Struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_HEADER = Struct("dii")  # time at which a start began or 0, its entry, entries in use
_ENTRY = Struct("i16s")  # pid, session id


class ProcessTable:
    """The applications of all workers.

    Is created before the workers are forked.

    Args:
        workers: number of workers, which are numbered from 0.
        capacity: number of sessions and spares of one worker.
    """

    def __init__(self, workers: int, capacity: int) -> None:
        size = _HEADER.size + capacity * _ENTRY.size
        self._parts = [mmap(-1, size) for _ in range(workers)]
        self._capacity = capacity

    def part(self, worker: int) -> WorkerProcesses:
        """Return the part that a worker writes. Its former content is lost."""
        memory = self._parts[worker]
        _HEADER.pack_into(memory, 0, 0.0, 0, 0)
        return WorkerProcesses(memory, self._capacity)

    def entries(self, worker: int) -> list[tuple[str, int]]:
        """Return the sessions of a worker with their pids. 0: it has not started."""
        memory = self._parts[worker]
        used = min(_HEADER.unpack_from(memory)[2], self._capacity)
        end = _HEADER.size + used * _ENTRY.size
        content = _ENTRY.iter_unpack(memory[_HEADER.size : end])
        return [(session.hex(), pid) for pid, session in content if any(session)]

    def sessions(self) -> set[bytes]:
        """Return the sessions of all workers."""
        workers = range(len(self._parts))
        entries = [entry for worker in workers for entry in self.entries(worker)]
        return {session.encode() for session, _ in entries}

    def clear(self, worker: int) -> None:
        """Forget the sessions of a dead worker."""
        _HEADER.pack_into(self._parts[worker], 0, 0.0, 0, 0)

    def start_in_progress(self, worker: int) -> tuple[float, int]:
        """Return when the present start of a worker began, or 0, and its pid."""
        began_at, index, _ = _HEADER.unpack_from(self._parts[worker])
        offset = _HEADER.size + index * _ENTRY.size
        return began_at, _ENTRY.unpack_from(self._parts[worker], offset)[0]

    def close(self) -> None:
        """Release the memory in this process only."""
        for memory in self._parts:
            memory.close()


class WorkerProcesses:
    """The applications of one worker. Only this worker writes them.

    Args:
        memory: a part of a ProcessTable.
        capacity: number of sessions.

    Attributes:
        memory: as given. A pid is written to it at the offset that `begin` returns.
    """

    __slots__ = ("_capacity", "_free", "_offsets", "_used", "memory")

    def __init__(self, memory: mmap, capacity: int) -> None:
        self.memory = memory
        self._capacity = capacity
        self._used = 0  # entries that are or were in use: the first ones
        self._free: list[int] = []  # offsets of entries among these
        self._offsets: dict[str, int] = {}  # by session

    def __contains__(self, session: str) -> bool:
        """Return True if a session has an entry."""
        return session in self._offsets

    def begin(self, session: str, now: float) -> int:
        """Called before a start. Returns the offset for the pid.

        Raises:
            OSError: EAGAIN, because the table is full.
        """
        free = self._free
        if free:
            offset = free.pop()
        elif self._used < self._capacity:
            offset = _HEADER.size + self._used * _ENTRY.size
            self._used += 1
        else:
            raise OSError(EAGAIN, "too many sessions of this worker are ending")
        _ENTRY.pack_into(self.memory, offset, 0, bytes.fromhex(session))
        index = (offset - _HEADER.size) // _ENTRY.size
        _HEADER.pack_into(self.memory, 0, now, index, self._used)
        self._offsets[session] = offset
        return offset

    def end(self) -> None:
        """Called after a start, successful or not."""
        _HEADER.pack_into(self.memory, 0, 0.0, 0, self._used)

    def release(self, sessions: Iterable[str]) -> None:
        """Forget sessions whose end has been reported to the supervisor."""
        for session in sessions:
            offset = self._offsets.pop(session, None)
            if offset is not None:
                _ENTRY.pack_into(self.memory, offset, 0, b"")
                self._free.append(offset)
