"""Signals for the applications of one link that its peer has not taken yet.

One SignalBatch at a time is unanswered. Signals that come meanwhile wait, and equal
ones are merged, as the kernel merges pending standard signals (signal(7)). So there are
at most as many as applications times signal numbers, and a flood of signals delays no
start. Knows pids and sessions, no processes.
"""

from __future__ import annotations

from itertools import islice
from signal import SIGCONT

from chimirror.spawn import messages

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from chimirror.io.packet_socket import PacketSocket

    Signal = tuple[int, int, str]  # number, pid, session


class SignalQueue:
    """Waiting signals of one link, in order.

    Args:
        link: to the zygote, or to the supervisor.
    """

    __slots__ = ("_link", "_sent", "_waiting", "repeated")

    def __init__(self, link: PacketSocket) -> None:
        self._link = link
        self._sent: list[Signal] = []  # the unanswered batch
        self._waiting: dict[Signal, None] = {}  # a set in order
        # pids with a signal that came again while it waited
        self.repeated: set[int] = set()

    def __len__(self) -> int:
        """Return the number of signals that are not taken yet."""
        return len(self._sent) + len(self._waiting)

    def add(self, signal: Signal) -> bool:
        """Send a signal, now or later.

        Returns:
            False if the same signal waits already. Its sender should pause until
            `on_taken` returns the pid.
        """
        number, pid, _ = signal
        is_new = signal not in self._waiting
        if not is_new:
            self.repeated.add(pid)
            if number == SIGCONT:  # it acts when it is sent: its last position counts
                del self._waiting[signal]
        self._waiting[signal] = None
        if not self._sent:
            self._send()
        return is_new

    def on_taken(self) -> set[int]:
        """Called when the peer has taken the batch. Sends the next one.

        Returns:
            The pids whose senders may continue.
        """
        self._sent = []
        repeated, self.repeated = self.repeated, set()
        if self._waiting:
            self._send()
        return repeated

    def take_over(self, other: SignalQueue) -> None:
        """Send the signals of another link, which is lost."""
        for signal in other.unanswered():
            self.add(signal)
        self.repeated |= other.repeated

    def unanswered(self) -> Iterable[Signal]:
        """Return the signals that are not known to be taken, in order."""
        return (*self._sent, *self._waiting)

    def _send(self) -> None:
        self._sent = list(islice(self._waiting, messages.MAX_SESSIONS))
        for signal in self._sent:
            del self._waiting[signal]
        self._link.send(messages.encode(messages.SignalBatch(self._sent)))
