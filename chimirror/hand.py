"""One of those who steer a session: a client of its control socket, or the application.

Knows lines and how much of them may wait, and tells the status to whoever has asked to
be told; what a line means is a subclass's matter, what may be done the helm's.
"""

from __future__ import annotations

from chimirror.system.linestream import LineStream
from chimirror.system.loop import NEVER
from chimirror.system.outbox import HIGH
from chimirror.wire.control import LONGEST, notification

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.helm import Helm
    from chimirror.system.loop import Loop
    from chimirror.wire.control import Object


class Hand(LineStream):
    """See the module.

    Args:
        fd: the connection, non-blocking; ours from now on.
        trusted: whether it needs no secret.

    Attributes:
        helm: of the session that it steers; None as long as it may not.
    """

    __slots__ = ("_interval", "_told", "armed", "deadline", "helm", "trusted")

    def __init__(self, loop: Loop, fd: int, *, trusted: bool) -> None:
        super().__init__(loop, fd, LONGEST)
        self._interval: float | None = None  # between two looks at the status
        self._told: Object = {}
        self.trusted = trusted
        self.helm: Helm | None = None
        self.armed = 0
        self.deadline = NEVER

    # For the subclass to define

    def on_dismissed(self) -> None:
        """It is over."""
        raise NotImplementedError

    # Bounds

    def on_data(self, data: bytes) -> None:
        """One who asks without reading the answers is read no further."""
        super().on_data(data)
        if self.backlog > HIGH:
            self.pause()

    def on_room(self) -> None:
        """It has read on."""
        self.resume()

    def on_sent(self) -> None:
        """All is answered: that is the end for one who asks no more."""
        if self.ended:
            self.dismiss()

    def on_input_end(self) -> None:
        """It asks no more; it may still want to read."""
        self.end_input()
        if not self.backlog:
            self.dismiss()

    def on_leaving(self) -> None:
        """It has gone."""
        self.dismiss()

    def reply(self, answer: bytes) -> None:
        """Send an answer."""
        self.put([answer])

    def tell(self, line: bytes) -> None:
        """Say what was not asked for; one who does not read has gone."""
        if self.backlog > HIGH:
            self.dismiss()
        else:
            self.put([line])

    def dismiss(self) -> None:
        """Serve it no more."""
        if self.source < 0:
            return
        self._loop.disarm(self)
        self.finish()
        self.on_dismissed()
        if self.helm is not None:
            self.helm.leave(self)

    # Subscriptions

    def subscribe(self, interval: float) -> None:
        """Tell the status when it has changed, this often at most."""
        self._interval = interval
        self._told = self._seen()
        self._loop.arm(self, self._loop.now + interval)

    def unsubscribe(self) -> None:
        """Tell it no more."""
        self._interval = None
        self._loop.disarm(self)

    def on_timer(self, now: float) -> None:
        """Look whether it has changed."""
        if self._interval is None or self.helm is None:
            return
        self._loop.arm(self, now + self._interval)
        seen = self._seen()
        if seen != self._told:
            self._told = seen
            self.tell(notification("status", self.helm.status()))

    def _seen(self) -> Object:
        """The status, but for what changes by itself."""
        assert self.helm is not None
        return {**self.helm.status(), "age": 0}
