"""Whether the loops of several processes turn: a word of shared memory for each.

Each process writes the time into its word from a timer of its own loop; whoever shares
the memory can see when one has stopped. CLOCK_MONOTONIC is the same for all of them.
Knows nothing else of them.
"""

from __future__ import annotations

from mmap import mmap

from chimirror.system.loop import NEVER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.system.loop import Loop

BEATS = 4  # per interval


class Pulse:
    """See the module; to be made before the processes are forked.

    Args:
        processes: how many there are, numbered from 0.
        interval: seconds without a beat after which one counts as stuck.
    """

    def __init__(self, processes: int, interval: float) -> None:
        self.interval = interval
        self._words = memoryview(mmap(-1, 8 * processes)).cast("d")

    def beat(self, number: int, now: float) -> None:
        """This one lives."""
        self._words[number] = now

    def stuck(self, now: float) -> list[int]:
        """Those that have not beaten for an interval; never had one is no fault."""
        return [
            number
            for number, word in enumerate(self._words)
            if word and now - word > self.interval
        ]

    def keep(self, loop: Loop, number: int) -> None:
        """Beat from a timer of this loop, as long as it turns."""
        Heart(self, loop, number)


class Heart:
    """The timer of one process."""

    __slots__ = ("_loop", "_number", "_pulse", "armed", "deadline")

    def __init__(self, pulse: Pulse, loop: Loop, number: int) -> None:
        self._pulse = pulse
        self._loop = loop
        self._number = number
        self.armed = 0
        self.deadline = NEVER
        self.on_timer(loop.now)

    def on_timer(self, now: float) -> None:
        """Beat."""
        self._pulse.beat(self._number, now)
        self._loop.arm(self, now + self._pulse.interval / BEATS)

    def on_event(self, fd: int, events: int) -> None:
        """We watch no descriptor."""

    def on_fault(self, error: Exception) -> None:
        """A bug of ours."""
        raise error
