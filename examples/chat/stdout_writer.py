"""Writes text to standard output without waiting for its reader.

Follows poll(2): a pipe that polls as writable takes PIPE_BUF bytes at once. The
descriptor stays in blocking mode, because other processes may share it.
"""

from __future__ import annotations

import asyncio
import os
import select

PIECE = select.PIPE_BUF
HIGH = 1 << 16  # bytes that may wait before drain() waits


class StdoutWriter:
    """A buffer in front of a descriptor, written while the event loop runs."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._buffer = bytearray()
        self._loop = asyncio.get_running_loop()
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)
        self._waiting = False
        self._changed = asyncio.Event()
        self.closed = asyncio.Event()  # nothing can be written any more
        self.failure = ""  # the reason, empty if the reader has closed its end

    @property
    def crowded(self) -> bool:
        """True if the reader has not taken what was written."""
        return len(self._buffer) > HIGH

    def write(self, text: str) -> None:
        if not self.closed.is_set():
            self._buffer += text.encode("utf-8", "replace")
            if not self._waiting:
                self._on_writable()

    async def drain(self, limit: int = HIGH) -> None:
        """Wait until at most `limit` bytes are unwritten."""
        while len(self._buffer) > limit:
            self._changed.clear()
            await self._changed.wait()

    def close(self) -> None:
        """Drop unwritten text."""
        if self._waiting:
            self._loop.remove_writer(self._descriptor)
        self._waiting = False
        self._buffer.clear()
        self._changed.set()

    def _on_writable(self) -> None:
        try:
            while self._buffer and self._poll.poll(0):
                del self._buffer[: os.write(self._descriptor, self._buffer[:PIECE])]
        except BlockingIOError:
            pass  # another process has made the descriptor non-blocking
        except OSError as error:
            if not isinstance(error, BrokenPipeError):
                self.failure = os.strerror(error.errno or 0)
            self.close()
            self.closed.set()
            return
        self._changed.set()
        self._watch(bool(self._buffer))

    def _watch(self, waiting: bool) -> None:
        if waiting and not self._waiting:
            self._loop.add_writer(self._descriptor, self._on_writable)
        elif self._waiting and not waiting:
            self._loop.remove_writer(self._descriptor)
        self._waiting = waiting
