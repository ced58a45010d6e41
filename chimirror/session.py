"""A session: one client, one fresh process, joined until either one ends.

The story, in order: the request head is judged; the limits are asked; the application
is started; the client gets its 101; messages become input and output becomes messages;
either one's end ends the other; the end is recorded. Nothing is started for a request
that could still be refused.

What a request is, is `reception`'s matter; what passes while it is open, `exchange`'s;
what a frame is, `connection`'s; how a process is started and stopped,
`system.application`'s. Here they meet.
"""

from __future__ import annotations

from chimirror.connection import CONNECTING, OPEN, Connection
from chimirror.exchange import Exchange
from chimirror.reception import Reception
from chimirror.service import new_identity
from chimirror.system.application import ENDED, IDLE, Application
from chimirror.system.children import signal_name
from chimirror.system.loop import NEVER
from chimirror.system.strays import SESSION_VARIABLE
from chimirror.wire import framing
from chimirror.wire.contract import Violation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.apps import App
    from chimirror.options import Config
    from chimirror.service import Peer, Service
    from chimirror.wire.frames import Close
    from chimirror.wire.opening import Opening

FAULT = "error internal"  # all that a client learns of a bug of ours


class Session(Exchange):
    """One client's session, from its connection to its record.

    Args:
        service: what all sessions of this process share.
        peer: who is at the other end.
        source, sink: the connection's descriptors; ours from now on.
        identity: the session id.
    """

    __slots__ = (
        "_admitted",
        "_faulty",
        "_key",
        "_opening",
        "_reception",
        "app",
        "opened",
        "peer",
        "status",
    )

    def __init__(
        self, service: Service, peer: Peer, source: int, sink: int, identity: str
    ) -> None:
        super().__init__(service, identity)
        self.peer = peer
        self._reception: Reception | None = Reception(service, self)  # till the 101
        self._admitted = False
        self._faulty = False
        self._opening: Opening | None = None  # until it is in the records
        self._key: str | bytes = b""  # the client's secret, till it is a hash
        self.opened = 0.0
        self.status: int | None = None
        self.app = service.apps.unnamed  # till the request says which
        loop, config = service.loop, service.config
        self.application = Application(self, loop, service.starter, config, identity)
        self.connection = Connection(self, loop, config, source, sink)
        service.sessions[identity] = self
        service.connecting += 1

    # The request

    def on_head(self, data: bytes) -> None:
        """More of the request head has come."""
        if self._reception is not None:
            self._reception.on_head(data)

    def on_head_timeout(self) -> None:
        """The request head did not come in time."""
        if self._reception is not None:
            self._reception.on_timeout()

    def on_admitted(self, app: App, opening: Opening) -> None:
        """The request is in order and there is room: start the application."""
        self.app, config = app, app.config
        self.connection.config = self.application.graces = config
        self._admitted = True
        self._opening = opening
        size, pty = config.max_message, config.pty
        self.framing = framing.create(opening.framing, size, pty=pty)
        if pty:
            self._take_terminal(config)
        stderr = config.stderr or self.framing.default_stderr
        if config.direction != "both":
            stderr = self._take_direction(config, stderr)
        elif stderr == "log":
            self._logged = ("stderr",)
        self.connection.hold()
        environment = {**opening.variables, **app.environment}
        environment[SESSION_VARIABLE] = self.identity
        keep_stderr = stderr != "discard" and not config.pty
        self.application.start(app.program, environment, keep_stderr)

    def _take_terminal(self, config: Config) -> None:
        from chimirror.system.terminal import Terminal

        loop, starter = self._service.loop, self._service.starter
        self.application = Terminal(self, loop, starter, config, self.identity)

    def _take_direction(self, config: Config, stderr: str) -> str:
        """Let one side speak alone; what becomes of standard error."""
        if config.direction == "receive":
            from chimirror.wire.oneway import Deaf

            self.framing = Deaf(self.framing)
            self.application.end_input()
            if stderr == "log":
                self._logged = ("stderr",)
            return stderr
        self._logged = ("stdout", "stderr")
        return config.stderr or "log"

    def on_control(self, opening: Opening, early: bytes) -> None:
        """It wants to steer another session: this one never begins."""
        from chimirror.courier import Courier

        service, reception = self._service, self._reception
        assert reception is not None
        self._reception = None
        del service.sessions[self.identity]
        self.application.forget()
        Courier(service, self.connection, reception, self.peer).begin(opening, early)

    def on_application_failed(self, reason: str, shortage: bool) -> None:
        """There will be no session."""
        if self._reception is not None:
            self._reception.on_start_failed(reason, shortage)
        self._settle()

    # The open session

    def on_application_started(self) -> None:
        """The process runs: answer 101, unless the client has gone meanwhile."""
        opening, reception = self._opening, self._reception
        if not opening or not reception or self.connection.state != CONNECTING:
            self.end_application()
            return
        self._reception = None
        self.opened = self._active = self._service.loop.now
        hello = self.framing.opened(self.identity, self._make_secret())
        response = opening.response() + self._count(hello)
        self.connection.open(response, reception.leave())

    def _make_secret(self) -> str:
        """What the client can steer us with, where it can be told and can be used."""
        service = self._service
        if not self.framing.tells_secret or not service.is_steerable():
            return ""
        self._key = f"{service.number}.{new_identity()}"
        return self._key

    def seal(self) -> bytes:
        """Forget the secret, which the first byte need not wait for; what is kept."""
        if isinstance(self._key, str):
            from chimirror import keys

            self._key = keys.seal(self._key)
        return self._key

    def on_channel(self) -> None:
        """The application steers: the first that it says."""
        from chimirror.helm import Helm

        Helm.of(self._service, self)

    # Time

    def next_timeout(self, now: float) -> float:
        """Close a session that is over its time; else, when to ask again."""
        self._record_start()
        config = self.app.config
        deadline = NEVER
        if config.session_timeout is not None:
            deadline = self.opened + config.session_timeout
            if now >= deadline:
                self.close(1001, "time")
                return NEVER
        if config.idle_timeout is not None and self.connection.state == OPEN:
            deadline = min(deadline, self._active + config.idle_timeout)
            if now >= self._active + config.idle_timeout:
                self.close(1001, "idle")
                return NEVER
        return deadline

    # Either one's end ends the other

    def on_application_end(self, status: int) -> None:
        """Its output is drained: tell how it ended, and close."""
        self.status = status
        if self._murmur is not None:
            self._murmur.end()
        if self.connection.state == OPEN:
            self._say_farewell(status)
        self._settle()

    def _say_farewell(self, status: int) -> None:
        code = 1000 if status == 0 else 1011
        reason = self._service.reason_for(status)
        try:
            for stream in ("stdout", "stderr"):
                self._send(*self.framing.finish(stream))
            number = (status, None) if status >= 0 else (None, signal_name(-status))
            self.connection.send([self._count(self.framing.ended(*number))])
        except Violation as violation:
            self._send(*violation.sent)
            code, reason = violation.code, violation.reason
        self.reason = self.reason or reason
        self.connection.close(code, reason, discard=False)

    def on_close(self, event: Close) -> None:
        """The client closes: the answer is the same code, at once."""
        if self.connection.state == OPEN:
            self.reason = f"client close {event.code}"
            self.connection.close(event.code, "", discard=True)
            self.end_application()

    def on_peer_leaving(self) -> None:
        """The client goes; what it sent before is still being read and delivered."""
        self.application.stop()

    def on_peer_gone(self, reason: str) -> None:
        """The client has gone without a word."""
        self.reason = self.reason or reason
        self.end_application()

    def close(self, code: int, reason: str) -> None:
        """End the session from our side, whatever it is doing."""
        self._dismiss(code, reason)
        self.end_application()

    def _dismiss(self, code: int, reason: str) -> None:
        """Tell the client that it is over."""
        if self._reception is not None and self.connection.state == CONNECTING:
            self._reception.refuse(self._service.interruption(reason))
        elif self.connection.close(code, reason, discard=True):
            self.reason = reason

    def abort(self) -> None:
        """End the session now: one attempt to say so, and no grace."""
        self._dismiss(1001, "drain")
        self.application.kill()  # before it sees the end of its input
        self.end_application()

    def end_application(self) -> None:
        self.application.stop()  # first: the end of a terminal's input is another then
        self.application.end_input()

    def on_connection_closed(self) -> None:
        """The connection's last act."""
        if self._reception is not None:
            self._reception.leave()
        self.end_application()
        self._settle()

    def _settle(self) -> None:
        """Once both halves have ended: write the record and forget everything."""
        service = self._service
        if service.sessions.get(self.identity) is not self:
            return
        if self.connection.source >= 0:
            return
        if self.application.phase not in (IDLE, ENDED):
            return
        del service.sessions[self.identity]
        if self._admitted:
            service.admission.leave(self.peer, self.app)
        service.on_vacancy()
        helm = service.helms.pop(self.identity, None)
        if helm is not None:
            helm.end()
        if self.opened:
            from chimirror import report

            self._record_start()
            report.ended(service, self)
        # The cycles that would keep all of us for the collector, which looks at what
        # has lived long only once there is a quarter more of it.
        self._reception = None
        self.application.forget()
        self.connection.forget()

    def _record_start(self) -> None:
        """Write the first record: at the first tick, after the 101 has left."""
        opening, self._opening = self._opening, None
        if opening is not None:
            from chimirror import report

            report.started(self._service, self, opening)
            self._service.apps.settle()
            self.seal()

    # Faults

    def on_fault(self, error: Exception) -> None:
        """A bug of ours: this session ends and is told so; no other is touched."""
        self._service.fault(error, self.identity)
        if self._faulty:  # so is the way in which such a session ends
            self.connection.finish()
            self.application.kill()
            return
        self._faulty = True
        try:
            self.close(1011, FAULT)
        except Exception as another:  # noqa: BLE001 (told, and answered for)
            self.on_fault(another)
