"""An application at the helm of its own session: what it asks, and what it is asked.

Its control channel is one end of a socket pair, lines both ways like all control. It
may ask what others may, of its own session; it is passed what only it can do, and what
it says without being asked goes to all that steer. However it uses the channel, its
session does not pay for it (chimirror-protocol(7)).
"""

from __future__ import annotations

from chimirror.hand import Hand
from chimirror.system.outbox import HIGH
from chimirror.wire import control
from chimirror.wire.control import Fault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.helm import Helm
    from chimirror.system.loop import Loop
    from chimirror.wire.control import Call, Object

WAITING = 16  # calls of one hand that the application has not answered yet
INTERNAL_ERROR = -32603


class Pilot(Hand):
    """See the module.

    Args:
        helm: of its session.
        channel: our end; ours from now on.
    """

    __slots__ = ("_asked", "_last")

    def __init__(self, helm: Helm, loop: Loop, channel: int) -> None:
        super().__init__(loop, channel, trusted=True)
        self.helm = helm
        self._last = 0
        self._asked: dict[int, tuple[Call, Hand]] = {}  # by the ids of ours

    # What it is asked

    def pass_on(self, call: Call, hand: Hand) -> None:
        """Ask it what only it can do; its answer goes to whoever has asked.

        Raises:
            Fault: it does not keep up.
        """
        waiting = sum(one is hand for _, one in self._asked.values())
        if self.backlog > HIGH or waiting >= WAITING:
            raise Fault(control.BUSY, "the application is busy")
        request: Object = {"jsonrpc": "2.0", "method": call.method}
        request["params"] = call.params
        if call.awaited:
            self._last = request["id"] = self._last + 1
            self._asked[self._last] = call, hand
        else:
            call.answer(None)
        self.put([control.encode(request)])

    def forget(self, hand: Hand) -> None:
        """Whoever has asked has gone."""
        for number in [n for n, (_, one) in self._asked.items() if one is hand]:
            del self._asked[number]

    def _on_answer(self, message: Object) -> None:
        number = message.get("id")
        if type(number) is not int or number not in self._asked:
            return  # nobody waits for it any more
        call, _ = self._asked.pop(number)
        if "result" in message:
            call.pass_on({"result": message["result"]})
        elif _is_error(message.get("error")):
            call.pass_on({"error": message["error"]})
        else:
            call.fail(Fault(INTERNAL_ERROR, "the application has given no fit answer"))

    def on_dismissed(self) -> None:
        """It has closed the channel: nothing more can be asked."""
        asked, self._asked = self._asked, {}
        gone = Fault(control.BUSY, "the application has closed its control channel")
        for call, _ in asked.values():
            call.fail(gone)

    # What it says

    def on_line(self, line: bytes) -> None:
        """Requests, answers and notifications, one or many."""
        try:
            said = control.parse(line)
            if isinstance(said, dict) and "method" not in said:
                self._on_answer(said)
            else:
                control.take(said, self._perform, self.reply)
        except Fault as fault:
            self.reply(control.failure(fault))

    def _perform(self, call: Call) -> None:
        assert self.helm is not None
        if not call.awaited and not self.helm.knows(call.method):
            self.helm.announce(call)
            call.answer(None)
        else:
            self.helm.perform(call, self)

    def on_fault(self, error: Exception) -> None:
        """A bug of ours: the session does not pay for it."""
        helm = self.helm
        self.dismiss()
        if helm is not None:
            helm.on_fault(error)


def _is_error(error: object) -> bool:
    return (
        isinstance(error, dict)
        and type(error.get("code")) is int
        and isinstance(error.get("message"), str)
    )
