"""One session with a real loop and real descriptors, and fake time and processes.

Time passes only when nothing is ready, and then up to the next timer. Timeouts are
tested to the tick without sleeping. The application is three pipes with their other
ends in the test. The harness uses nothing outside this process.
"""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

from chimirror import program
from chimirror.config import parser
from chimirror.control import ControlRegistry
from chimirror.io.loop import EventLoop
from chimirror.log.rate_limit import RateLimit
from chimirror.session import Peer as Address
from chimirror.session import SessionContext
from chimirror.session.session import Session
from websocket_peer import Peer, upgrade

if TYPE_CHECKING:
    from typing import Self

    from chimirror.log.output_logger import OutputLogger
    from chimirror.log.records import EventLog
    from chimirror.process.spawner import SpawnClient, Spawner, SpawnRequest
    from chimirror.session import Admission

SESSION_ID = "0123456789abcdef" * 2
PID = 4711
MAX_LINE = 4096


class FakeClock:
    """Clock and epoll(7) poller that advances the time instead of waiting."""

    def __init__(self) -> None:
        self.now = self.limit = 1000.0
        self.idle = False  # no descriptor was ready
        self._epoll = select.epoll()
        self.register = self._epoll.register
        self.modify = self._epoll.modify
        self.unregister = self._epoll.unregister
        self.close = self._epoll.close

    def __call__(self) -> float:
        return self.now

    def poll(self, timeout: float, maxevents: int) -> list[tuple[int, int]]:
        ready = self._epoll.poll(0, maxevents)
        self.idle = not ready and timeout != 0
        if self.idle:
            left = self.limit - self.now
            pause = timeout if timeout >= 0 else left
            assert pause < float("inf"), "it would sleep for ever"
            self.now += min(pause, left)
        return ready


class FakeSpawner:
    """Spawner without processes."""

    def __init__(self) -> None:
        self.pid = PID
        self.answers_late = False  # the test calls `answer`
        self.failure = ""
        self.shortage = False
        self.environment: dict[str, str] = {}
        self.started = 0
        self.ended = 0
        self.signals: list[int] = []
        self.takes_signals = True  # at once
        self.size: Sequence[int] | None = None
        self.keeps_stderr = True
        self.first_output = b""  # written before the start is reported
        self.closes_stdout = False  # after that
        self.stdin = self.stdout = self.stderr = -1  # the application's ends
        self.channel: socket.socket | None = None
        self._client: SpawnClient | None = None

    def start(self, request: SpawnRequest) -> None:
        self._client = request.client
        self.program = request.program
        self.size = request.size
        self.environment = dict(request.environment)
        self.keeps_stderr = request.keep_stderr
        if not self.answers_late:
            self.answer()

    def answer(self) -> None:
        assert self._client is not None
        if self.failure:
            self._client.on_start_failed(self.failure, self.shortage)
            return
        self.started += 1
        self.stdin, stdin = os.pipe()
        stdout, self.stdout = os.pipe()
        stderr = -1
        if self.keeps_stderr:
            stderr, self.stderr = os.pipe()
        for fd in (stdin, stdout, stderr, self.stdin):
            if fd >= 0:
                os.set_blocking(fd, False)
        os.write(self.stdout, self.first_output)
        if self.closes_stdout:
            os.close(self.stdout)
            self.stdout = -1
        channel = -1
        if self.program.control:
            local_end, self.channel = socket.socketpair()
            local_end.setblocking(False)
            channel = local_end.detach()
        self._client.on_started(self.pid, (stdin, stdout, stderr, channel))

    def exit(self, status: int = 0) -> None:
        """End the application."""
        assert self._client is not None
        self.close()
        self.ended += 1
        self._client.on_exit(status, survivors=False)

    def transfer(self, pid: int, client: SpawnClient) -> None:
        self._client = client

    def signal(self, pid: int, number: int) -> bool:
        assert pid == PID
        self.signals.append(number)
        return self.takes_signals

    def end_session(self, pid: int, session: str, survivors: bool) -> None:
        assert pid in (0, PID)  # 0: the start has failed
        assert (session, survivors) == (SESSION_ID, False)

    def read_stdin(self) -> bytes:
        """Read standard input as the application."""
        try:
            return os.read(self.stdin, 1 << 20)
        except BlockingIOError:
            return b""

    def close(self) -> None:
        for fd in (self.stdin, self.stdout, self.stderr):
            if fd >= 0:
                os.close(fd)
        self.stdin = self.stdout = self.stderr = -1
        if self.channel is not None:
            self.channel.close()


def of_user(user: str) -> dict[str, Any]:
    """Return the field of a known user."""
    return {"user": user} if user else {}


class RecordingEventLog:
    """Event log that keeps its records."""

    def __init__(self) -> None:
        self.records: list[tuple[str, dict[str, Any]]] = []

    def session_started(self, *, trace: str, **fields: object) -> None:
        self.records.append(
            ("start", {**fields, **({"trace": trace} if trace else {})})
        )

    def session_ended(self, *, trace: str, **fields: object) -> None:
        self.records.append(("end", {**fields, **({"trace": trace} if trace else {})}))

    def request_rejected(
        self,
        peer: str,
        path: str | bytes,
        status: int,
        cause: str,
        detail: str,
        user: str = "",
    ) -> None:
        fields = {"peer": peer, "status": status, "cause": cause, "detail": detail}
        fields |= {"path": path, **of_user(user)}
        self.records.append(("refused", fields))

    def start_failed(self, session: str, reason: str, user: str = "") -> None:
        fields = {"session": session, "reason": reason, **of_user(user)}
        self.records.append(("start failed", fields))

    def limit(
        self, limit: int, period: float, report: Callable[[str, int], None]
    ) -> RateLimit:
        return RateLimit(limit, period, report, lambda: 0.0, None)

    def attach(self, loop: object) -> None:
        """Keep records without a loop."""

    def finish(self, timeout: float = 0.0) -> None:
        """Do nothing: no record waits."""

    def server_started(self) -> None:
        self.records.append(("server", {}))

    def worker_started(self, number: int, pid: int) -> None:
        self.records.append(("worker", {"number": number, "pid": pid}))

    def add_output(self, output: OutputLogger) -> None:
        while (buffer := output.next_buffer(MAX_LINE)) is not None:
            lines = buffer.peek(1, MAX_LINE)
            for line in lines:
                fields = {"session": output.session_id, "line": line}
                fields |= of_user(output.user)
                self.records.append((buffer.stream, fields))
            buffer.consume(len(lines))

    def output_followed(self, session: str, uid: int, user: str = "") -> None:
        fields = {"session": session, "uid": uid, **of_user(user)}
        self.records.append(("followed", fields))

    def message(self, priority: int, text: str, **fields: object) -> None:
        self.records.append(("note", {"priority": priority, "text": text, **fields}))

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [fields for each, fields in self.records if each == kind]


class SessionHarness:
    """A session with fake time and application, used as a context manager.

    Args:
        arguments: options of the bridge. A COMMAND is added unless --apps is there.
        admission: limits on sessions, by default none.
        ends: sockets of client and session, by default a socketpair.
        context_type: class of the context.
    """

    def __init__(
        self,
        *arguments: str,
        admission: Admission | None = None,
        ends: tuple[socket.socket, socket.socket] | None = None,
        context_type: type[SessionContext] = SessionContext,
    ) -> None:
        self.clock = FakeClock()
        self.loop = EventLoop(self.clock, self.clock)
        self.application = FakeSpawner()
        self.event_log = RecordingEventLog()
        command = [] if "--apps" in arguments else ["--", "program", "argument"]
        config = parser.parse_bridge([*arguments, *command])
        self.context = context_type(
            config,
            program.open_catalog(config, {"PATH": "/bin", "SECRET": "x"}),
            self.loop,
            cast("Spawner", self.application),
            lambda: cast("EventLog", self.event_log),
            ControlRegistry,
            admission,
        )
        self.context.access = program.open_access(config, self.context, None, {})
        self.client, server_end = ends or socket.socketpair()
        fd = server_end.detach()
        os.set_blocking(fd, False)
        address = Address("192.0.2.7", 4711)
        self.session = Session(self.context, address, fd, fd, SESSION_ID)
        self.session.connection.start()
        self.peer = Peer(self.client)

    @property
    def control(self) -> ControlRegistry:
        """Control of this session, loaded on first use as in a program."""
        control = self.context.control
        assert isinstance(control, ControlRegistry)
        return control

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.peer.close()
        if not error[0]:
            self.end()
        self.application.close()
        self.session.connection.abort()
        self.loop.close_all()

    def end(self) -> None:
        """Serve until the session has ended, once the client has closed."""
        self.clock.limit = float("inf")
        while not self.context.is_idle:
            self.loop.run_once()
            if 9 in self.application.signals and not self.application.ended:
                self.application.exit(-9)
        assert self.context.connecting == 0

    def until(self, ask: Callable[[], object]) -> None:
        """Serve until a condition holds, for any time."""
        self.clock.limit = float("inf")
        while not ask():
            self.loop.run_once()

    def settle(self) -> None:
        """Serve all ready events without advancing the time."""
        self.wait(0)

    def wait(self, seconds: float) -> None:
        """Serve for some seconds, and then all ready events."""
        self.clock.limit = self.clock.now + seconds
        self.loop.run_once()
        while not self.clock.idle or self.clock.now < self.clock.limit:
            self.loop.run_once()

    def ask(self, request: bytes) -> None:
        self.client.sendall(request)
        self.settle()

    def open(
        self, framing: str = "json", *fields: str, target: str = "/", first: bytes = b""
    ) -> None:
        """Open the session as the client."""
        self.ask(upgrade(target, framing, fields) + first)
        assert self.peer.head().status == 101

    def say(self, data: bytes) -> None:
        """Send data as the client."""
        self.ask(data)

    def print(self, data: bytes, stream: str = "stdout") -> None:
        """Write data as the application."""
        os.write(getattr(self.application, stream), data)
        self.settle()

    def exit(self, status: int = 0) -> None:
        """End the application, and serve all ready events."""
        self.application.exit(status)
        self.settle()
