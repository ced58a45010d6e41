"""A house of real applications: a loop, their starter, and clients that read.

Law: everything that was started in it has ended when it is left.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from chimirror.system import children
from chimirror.system.child import Program, Starter
from chimirror.system.loop import Loop
from chimirror.system.strays import Strays
from looping import Timer, looping, subreaping, turn_until

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.system.child import Pipes

PATH = {"PATH": os.environ["PATH"]}


class Client:
    """Asks for an application, reads what it says, lets the starter finish it."""

    def __init__(self, loop: Loop, starter: Starter, session: str) -> None:
        self.loop, self.starter, self.session = loop, starter, session
        self.pid = 0
        self.pipes: Pipes = (-1, -1, -1, -1)
        self.failed = ""
        self.shortage = False
        self.status: int | None = None
        self.survivors = False
        self.said = b""
        self.faults: list[Exception] = []

    def on_started(self, pid: int, pipes: Pipes) -> None:
        self.pid, self.pipes = pid, pipes
        self.loop.watch(pipes[1], self, 1)

    def on_start_failed(self, reason: str, shortage: bool) -> None:
        self.failed, self.shortage = reason, shortage

    def on_exit(self, status: int, survivors: bool) -> None:
        self.status, self.survivors = status, survivors
        self.finish()

    def finish(self) -> None:
        self.starter.finish(self.pid, self.session, self.survivors)

    def on_event(self, fd: int, events: int) -> None:
        chunk = os.read(fd, 65536)
        self.said += chunk
        if not chunk:
            self.loop.watch(fd, self, 0)
            self.close()

    def on_fault(self, error: Exception) -> None:
        self.faults.append(error)

    def close(self) -> None:
        for fd in self.pipes:
            if fd >= 0:
                self.loop.close(fd)
        self.pipes = (-1, -1, -1, -1)


def program(*argv: str) -> Program:
    return Program(argv)


PLAY = program("sh", "-c", 'eval "$PLAY"')


class House:
    """A loop and its starter."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.clients: list[Client] = []
        self.player = Starter(loop)

    def start(
        self,
        what: Program,
        session: str = "session-1",
        environment: dict[str, str] | None = None,
        *,
        keep_stderr: bool = True,
    ) -> Client:
        client = Client(self.loop, self.player, session)
        self.clients.append(client)
        variables = {**PATH, "CHIMIRROR_SESSION": session, **(environment or {})}
        self.player.start(client, what, variables, keep_stderr)
        return client

    def sh(self, script: str, session: str = "session-1") -> Client:
        return self.start(PLAY, session, {"PLAY": script})

    def told(self, client: Client) -> bytes:
        """What it says until its end."""
        turn_until(
            self.loop, lambda: client.status is not None and not self.open(client)
        )
        return client.said

    def sweeper(self) -> Strays:
        found = self.player._undertaker
        assert isinstance(found, Strays)
        return found

    def open(self, client: Client) -> bool:
        return client.pipes[1] >= 0

    def alone(self) -> None:
        """Until nothing that we started is left."""
        turn_until(self.loop, lambda: not children.listing())

    def passes(self, seconds: float) -> None:
        timer = Timer(self.loop)
        self.loop.arm(timer, self.loop.now + seconds)
        turn_until(self.loop, lambda: timer.calls)


@contextmanager
def housing() -> Iterator[House]:
    with subreaping(), looping() as loop:
        made = House(loop)
        try:
            yield made
        finally:
            for client in made.clients:
                client.close()
            children.end_all()
