"""One session on a stage: a real loop and real descriptors, time and process told.

Law: time passes only when nothing is ready, and then up to the next timer, so that
every timeout is tested to the tick and nobody sleeps; the application is three pipes
whose other ends the test holds. Ignorance: nothing of worlds outside this process.
"""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

from chimirror import options, service
from chimirror.service import Peer as Address
from chimirror.service import Service
from chimirror.session import Session
from chimirror.system.loop import Loop
from peers import Peer, upgrade

if TYPE_CHECKING:
    from chimirror.service import Admission
    from chimirror.system.child import Client, Program, Starter
    from chimirror.system.records import Records

IDENTITY = "0123456789abcdef" * 2
PID = 4711


class Hourglass:
    """A clock, and epoll(7) that lets time pass instead of waiting."""

    def __init__(self) -> None:
        self.now = self.limit = 1000.0
        self.idle = False  # nothing was ready
        self._epoll = select.epoll()
        self.register = self._epoll.register
        self.modify = self._epoll.modify
        self.unregister = self._epoll.unregister
        self.close = self._epoll.close

    def __call__(self) -> float:
        return self.now

    def poll(self, timeout: float, maxevents: int) -> list[tuple[int, int]]:
        ready = self._epoll.poll(0, maxevents)
        self.idle = not ready
        if self.idle:
            left = self.limit - self.now
            patience = timeout if timeout >= 0 else left
            assert patience < float("inf"), "it would sleep for ever"
            self.now += min(patience, left)
        return ready


class Troupe:
    """A starter without processes."""

    def __init__(self) -> None:
        self.pid = PID
        self.late = False  # it is the test that answers
        self.failure = ""
        self.shortage = False
        self.environment: dict[str, str] = {}
        self.started = 0
        self.ended = 0
        self.signals: list[int] = []
        self.keeps_stderr = True
        self.stdin = self.stdout = self.stderr = -1  # the application's ends
        self.channel: socket.socket | None = None
        self._client: Client | None = None

    def start(
        self,
        client: Client,
        program: Program,
        environment: Mapping[str, str],
        keep_stderr: bool,
    ) -> None:
        self._client = client
        self.program = program
        self.environment = dict(environment)
        self.keeps_stderr = keep_stderr
        if not self.late:
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
        channel = -1
        if self.program.control:
            ours, self.channel = socket.socketpair()
            ours.setblocking(False)
            channel = ours.detach()
        self._client.on_started(self.pid, (stdin, stdout, stderr, channel))

    def exit(self, status: int = 0) -> None:
        """The application ends."""
        assert self._client is not None
        self.close()
        self.ended += 1
        self._client.on_exit(status, survivors=False)

    def signal(self, pid: int, number: int) -> None:
        assert pid == PID
        self.signals.append(number)

    def finish(self, pid: int, session: str, survivors: bool) -> None:
        assert (pid, session, survivors) == (PID, IDENTITY, False)

    def heard(self) -> bytes:
        """What has been written to its stdin."""
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


class Notebook:
    """Records that are kept."""

    def __init__(self) -> None:
        self.told: list[tuple[str, dict[str, Any]]] = []

    def start(self, **fields: object) -> None:
        self.told.append(("start", fields))

    def end(self, **fields: object) -> None:
        self.told.append(("end", fields))

    def refused(self, peer: str, status: int, cause: str, detail: str) -> None:
        fields = {"peer": peer, "status": status, "cause": cause, "detail": detail}
        self.told.append(("refused", fields))

    def output(self, session: str, stream: str, line: bytes) -> None:
        self.told.append((stream, {"session": session, "line": line}))

    def note(self, priority: int, text: str, **fields: object) -> None:
        self.told.append(("note", {"priority": priority, "text": text, **fields}))

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [fields for each, fields in self.told if each == kind]


class Stage:
    """See the module; to be used as a context.

    Args:
        arguments: options of the bridge; a COMMAND is added, unless --apps is there.
        admission: who may have a session; by default everybody.
        ends: the client's descriptor and ours, by default of a socketpair.
        kind: of the service.
    """

    def __init__(
        self,
        *arguments: str,
        admission: Admission | None = None,
        ends: tuple[socket.socket, socket.socket] | None = None,
        kind: type[Service] = Service,
    ) -> None:
        self.clock = Hourglass()
        self.loop = Loop(self.clock, self.clock)
        self.application = Troupe()
        self.records = Notebook()
        command = [] if "--apps" in arguments else ["--", "program", "argument"]
        config = options.bridge([*arguments, *command])
        self.service = kind(
            config,
            service.applications(config, {"PATH": "/bin", "SECRET": "x"}),
            self.loop,
            cast("Starter", self.application),
            lambda: cast("Records", self.records),
            admission,
        )
        self.client, theirs = ends or socket.socketpair()
        fd = theirs.detach()
        os.set_blocking(fd, False)
        address = Address("192.0.2.7", 4711)
        self.session = Session(self.service, address, fd, fd, IDENTITY)
        self.session.connection.begin()
        self.peer = Peer(self.client)

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *error: object) -> None:
        self.peer.close()
        if not error[0]:
            self.end()
        self.application.close()
        self.session.connection.finish()
        self.loop.close_all()

    def end(self) -> None:
        """The session comes to its end, now that the client has gone."""
        self.clock.limit = float("inf")
        while self.service.sessions:
            self.loop.turn()
            if 9 in self.application.signals and not self.application.ended:
                self.application.exit(-9)
        assert self.service.connecting == 0

    def until(self, ask: Callable[[], object]) -> None:
        """Serve until then, as long as it may take."""
        self.clock.limit = float("inf")
        while not ask():
            self.loop.turn()

    def settle(self) -> None:
        """Serve what is ready now; no time passes."""
        self.wait(0)

    def wait(self, seconds: float) -> None:
        """Serve for so long, and then whatever is ready."""
        self.clock.limit = self.clock.now + seconds
        self.loop.turn()
        while not self.clock.idle or self.clock.now < self.clock.limit:
            self.loop.turn()

    def ask(self, request: bytes) -> None:
        self.client.sendall(request)
        self.settle()

    def open(
        self, framing: str = "json", *fields: str, target: str = "/", first: bytes = b""
    ) -> None:
        """Open the session."""
        self.ask(upgrade(target, framing, fields) + first)
        assert self.peer.head().status == 101

    def say(self, data: bytes) -> None:
        """The client sends."""
        self.ask(data)

    def print(self, data: bytes, stream: str = "stdout") -> None:
        """The application writes."""
        os.write(getattr(self.application, stream), data)
        self.settle()

    def exit(self, status: int = 0) -> None:
        """The application ends."""
        self.application.exit(status)
        self.settle()
