"""The helm of a session: what those who steer it may ask for, and are told.

The methods of chimirror-protocol(7) for one session, whoever asks and over whatever: a
local process, or a client over a second WebSocket. It is there as long as somebody is.
Nothing here touches what passes between client and application, but for the streams
that are paused.
"""

from __future__ import annotations

from chimirror import report
from chimirror.pilot import Pilot
from chimirror.system.inlet import STDERR, STDIN, STDOUT
from chimirror.wire.control import (
    BUSY,
    INVALID_PARAMS,
    METHOD_NOT_FOUND,
    Fault,
    notification,
)
from chimirror.wire.framing import SIGNALS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from chimirror.hand import Hand
    from chimirror.service import Service
    from chimirror.session import Session
    from chimirror.wire.control import Call, Object


HANDS = 4  # with the secret; and as many without
STREAMS = {"stdin": STDIN, "stdout": STDOUT, "stderr": STDERR}
SOONEST, LATEST = 0.1, 3600.0  # seconds between two notifications
# What report.describe says that is not a client's to know, and times of day.
HIDDEN = ("pid", "application_pid", "peer", "command", "started", "updated")
CLOSED = "closed"


class Helm:
    """See the module.

    Args:
        service: whose session it is.
        session: to be steered.
    """

    __slots__ = ("_pilot", "_service", "hands", "session")

    def __init__(self, service: Service, session: Session) -> None:
        self._service = service
        self.session = session
        self.hands: set[Hand] = set()
        self._pilot: Pilot | None = None  # if the application has a control channel

    @staticmethod
    def of(service: Service, session: Session) -> Helm:
        """The helm of a session, which may be there already."""
        helm = service.helms.get(session.identity)
        if helm is None:
            helm = service.helms[session.identity] = Helm(service, session)
        channel = session.application.take_channel()
        if channel >= 0:
            helm._pilot = Pilot(helm, service.loop, channel)
        return helm

    def join(self, hand: Hand) -> None:
        """One more steers.

        Raises:
            Fault: they are enough.
        """
        if sum(one.trusted == hand.trusted for one in self.hands) >= HANDS:
            raise Fault(BUSY, f"{HANDS} control connections are there already")
        self.hands.add(hand)

    def leave(self, hand: Hand) -> None:
        """One has gone; without any there is no helm."""
        self.hands.discard(hand)
        if hand is self._pilot:
            self._pilot = None
        elif self._pilot is not None:
            self._pilot.forget(hand)
        if not self.hands and self._pilot is None:
            self._service.helms.pop(self.session.identity, None)

    def end(self) -> None:
        """The session is over."""
        for hand in (*self.hands, *filter(None, (self._pilot,))):
            hand.dismiss()

    def on_fault(self, error: Exception) -> None:
        """A bug of ours, for the log."""
        self._service.fault(error, self.session.identity)

    # Methods

    def knows(self, method: str) -> bool:
        """Whether it is one of ours, and not the application's."""
        return method in METHODS

    def perform(self, call: Call, hand: Hand) -> None:
        """Do what is asked for, or pass it on to the application."""
        method, pilot = METHODS.get(call.method), self._pilot
        if method is not None:
            call.answer(method(self, call.named, hand))
        elif pilot is not None and pilot is not hand:
            pilot.pass_on(call, hand)
        else:
            raise Fault(METHOD_NOT_FOUND, f"no method {call.method!r}")

    def announce(self, call: Call) -> None:
        """Tell all that steer what the application says."""
        line = notification(call.method, call.params)
        for hand in list(self.hands):
            hand.tell(line)

    def status(self) -> Object:
        """How the session is.

        Returns:
            What report.describe says, as far as it is a client's to know; `age` in
            seconds, the backlogs in bytes that wait for the application and for the
            client.
        """
        session = self.session
        told = report.describe(self._service, session)
        return {
            **{name: told[name] for name in told if name not in HIDDEN},
            "age": round(self._service.loop.now - session.opened, 3),
            "backlog_in": session.application.backlog,
            "backlog_out": session.connection.backlog,
            "paused": self.paused(),
        }

    def paused(self) -> list[str]:
        """The streams that are."""
        paused = self.session.application.paused
        return [name for name, bit in STREAMS.items() if paused & bit]


# Methods


def _status(helm: Helm, _params: Object, _hand: Hand) -> Object:
    return helm.status()


def _pause(helm: Helm, params: Object, _hand: Hand) -> Object:
    helm.session.application.pause(_streams(params))
    return {"paused": helm.paused()}


def _resume(helm: Helm, params: Object, _hand: Hand) -> Object:
    helm.session.application.resume(_streams(params))
    return {"paused": helm.paused()}


def _signal(helm: Helm, params: Object, _hand: Hand) -> Object:
    name = params.get("name")
    if name not in SIGNALS:
        raise Fault(INVALID_PARAMS, f'"name" is none of {", ".join(SIGNALS)}')
    helm.session.application.signal(name)
    return {}


def _close(helm: Helm, _params: Object, _hand: Hand) -> Object:
    helm.session.close(1000, CLOSED)
    return {}


def _subscribe(helm: Helm, params: Object, hand: Hand) -> Object:
    interval = params.get("interval", 1.0)
    known = isinstance(interval, (int, float)) and not isinstance(interval, bool)
    if not known or not SOONEST <= interval <= LATEST:
        text = f'"interval" is a number of seconds, from {SOONEST} to {LATEST:.0f}'
        raise Fault(INVALID_PARAMS, text)
    hand.subscribe(interval)
    return helm.status()


def _unsubscribe(_helm: Helm, _params: Object, hand: Hand) -> Object:
    hand.unsubscribe()
    return {}


def _manifest(helm: Helm, _params: Object, _hand: Hand) -> Object:
    from chimirror.exhibit import document

    return document(helm.session.app)


METHODS: dict[str, Callable[[Helm, Object, Hand], Object]] = {
    "manifest": _manifest,
    "status": _status,
    "pause": _pause,
    "resume": _resume,
    "signal": _signal,
    "close": _close,
    "subscribe": _subscribe,
    "unsubscribe": _unsubscribe,
}


def _streams(params: Object) -> int:
    """Those that are named, as bits; all of them if none is."""
    names = params.get("streams", list(STREAMS))
    if not isinstance(names, list) or not all(
        isinstance(name, str) and name in STREAMS for name in names
    ):
        raise Fault(INVALID_PARAMS, f'"streams" is a list of {", ".join(STREAMS)}')
    return sum(STREAMS[name] for name in set(names))
