"""Starting applications by asking a zygote: a worker's side of the errands.

Same verbs as child.Starter, and the answers come later. Two posts take errands
(chimirror-protocol(7)): the zygote, over a link that the supervisor hands us, and the
supervisor, over the line that we were born with. When a zygote dies, the supervisor
has adopted what it had started: from then on, that is signalled and finished there.
Starts that were not answered are asked again of the next zygote.
"""

from __future__ import annotations

import os
import signal
import socket
from collections import deque

from chimirror.system import errands
from chimirror.system.link import Link
from chimirror.system.loop import NEVER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from chimirror.system.child import Client, Pipes, Program
    from chimirror.system.errands import Errand
    from chimirror.system.loop import Loop

IN_FLIGHT = 8  # starts: with more of them the answers to all come late
UNKNOWN = -int(signal.SIGKILL)  # a status that nobody can tell any more


class Request:
    """A start that is not answered yet."""

    __slots__ = ("client", "environment", "keep_stderr", "post", "program")

    def __init__(
        self,
        client: Client,
        program: Program,
        environment: Mapping[str, str],
        keep_stderr: bool,
    ) -> None:
        self.client = client
        self.program = program
        self.environment = environment
        self.keep_stderr = keep_stderr
        self.post: Link | None = None  # whom it was asked


class Nobody:
    """The client of an application whose pipes could not be received."""

    def __init__(self, starter: RemoteStarter, session: str) -> None:
        self._starter = starter
        self.session = session
        self._pid = 0

    def on_started(self, pid: int, pipes: Pipes) -> None:
        """It has to end."""
        self._pid = pid
        self._starter.signal(pid, signal.SIGKILL)

    def on_start_failed(self, reason: str, shortage: bool) -> None:
        """It has started."""

    def on_exit(self, status: int, survivors: bool) -> None:
        """It has ended."""
        self._starter.finish(self._pid, self.session, survivors)

    def on_fault(self, error: Exception) -> None:
        """A bug of ours."""
        raise error


class RemoteStarter:
    """See the module.

    Args:
        loop: of this worker.
        line: to the supervisor; ours from now on.

    Attributes:
        on_deserted: called when the supervisor is gone.
    """

    def __init__(self, loop: Loop, line: socket.socket) -> None:
        self._loop = loop
        self._line = Link(loop, self, line)
        self.on_deserted: Callable[[], None] = lambda: None
        self._zygote: Link | None = None
        self._generations: dict[Link, int] = {}  # a dead one's link may still hold news
        self._waiting: deque[Request] = deque()
        self._asked: dict[int, Request] = {}
        self._last = 0
        # By pid, for each post apart: a pair for each would cost 64 bytes.
        self._running: dict[Link, dict[int, Client]] = {self._line: {}}
        # Sessions until `finish`, with the process group that is left, or 0.
        self._ended: dict[str, tuple[int, Link]] = {}
        self._over: dict[Link, list[str]] = {}  # until the next tick
        self.armed = 0
        self.deadline = NEVER

    # A starter's verbs

    def start(
        self,
        client: Client,
        program: Program,
        environment: Mapping[str, str],
        keep_stderr: bool,
    ) -> None:
        """See child.Starter; the answer comes later."""
        self._waiting.append(Request(client, program, environment, keep_stderr))
        self._ask()

    def signal(self, pid: int, number: int) -> None:
        """Signal the process group of an application that runs."""
        for post, running in self._running.items():
            if pid in running:
                session = running[pid].session
                self._send(post, errands.Signal(number, pid, session))

    def finish(self, pid: int, session: str, survivors: bool) -> None:
        """See child.Starter; those of one tick are told together."""
        if session in self._ended:
            _, post = self._ended.pop(session)
            self._over.setdefault(post, []).append(session)
            self._loop.arm(self, self._loop.now)

    def on_timer(self, now: float) -> None:
        """Tell which sessions are over."""
        told, self._over = self._over, {}
        for post, sessions in told.items():
            for first in range(0, len(sessions), errands.SESSIONS):
                part = sessions[first : first + errands.SESSIONS]
                self._send(post, errands.Finish(part))

    # Asking

    def _send(self, post: Link, errand: Errand) -> None:
        post.send(errands.encode(errand))

    def _ask(self) -> None:
        """Ask for what waits, as far as it may."""
        while self._waiting and len(self._asked) < IN_FLIGHT:
            if self._zygote is None:
                if self._line.fd < 0:
                    self._give_up()
                return
            self._ask_for(self._waiting.popleft(), self._zygote)

    def _ask_for(self, request: Request, zygote: Link) -> None:
        self._last = number = self._last + 1
        request.post = zygote
        self._asked[number] = request
        environment = dict(request.environment)
        program, stderr = request.program, request.keep_stderr
        try:
            found = program.argv, program.directory or ""
            command, directory = found if program.found else ((), "")
            wants = program.pty, program.control
            start = errands.Start(
                number, environment, stderr, command, directory, *wants
            )
            self._send(zygote, start)
        except OSError as error:
            del self._asked[number]
            reason = f"its environment: {error.strerror}"
            request.client.on_start_failed(reason, False)

    def _give_up(self) -> None:
        """There will never be another zygote."""
        while self._waiting:
            client = self._waiting.popleft().client
            client.on_start_failed("the supervisor is gone", False)

    # Answers

    def on_packet(self, link: Link, packet: bytes, pipes: list[int]) -> None:
        """One of the posts tells something."""
        errand = errands.decode(packet)
        if isinstance(errand, errands.Started):
            self._on_started(link, errand, pipes)
        elif isinstance(errand, errands.Exited):
            for end in errand.exited:
                self._on_exited(link, *end)
        elif isinstance(errand, errands.Failed):
            client = self._asked.pop(errand.failed).client
            why = (errand.reason, errand.shortage)
            self._tell(client, client.on_start_failed, *why)
            self._ask()
        elif isinstance(errand, errands.Zygote):
            self._on_zygote(errand.zygote, pipes)
        else:
            raise errands.Nonsense(f"{type(errand).__name__} is no answer")

    def _on_started(
        self, link: Link, started: errands.Started, pipes: list[int]
    ) -> None:
        request = self._asked.pop(started.started)
        client = request.client
        keeps, steered = request.keep_stderr, request.program.control
        complete = len(pipes) == 2 + keeps + steered
        if not complete:  # the kernel dropped some: no descriptors were left
            for fd in pipes:
                os.close(fd)
            client = Nobody(self, client.session)
        self._running[link][started.pid] = client
        ours = (-1, -1, -1, -1)
        if complete:
            stderr, channel = pipes[2] if keeps else -1, pipes[-1] if steered else -1
            ours = (pipes[0], pipes[1], stderr, channel)
        self._tell(client, client.on_started, started.pid, ours)
        if not complete:
            reason = "no descriptors left for its pipes"
            self._tell(request.client, request.client.on_start_failed, reason, True)
        self._ask()

    def _on_exited(
        self, link: Link, pid: int, status: int | None, survivors: bool
    ) -> None:
        client = self._running[link].pop(pid, None)
        if client is None:
            return  # it was signalled away meanwhile, or is another's by now
        self._ended[client.session] = (pid if survivors else 0, link)
        known = UNKNOWN if status is None else status
        self._tell(client, client.on_exit, known, survivors)

    def _tell(
        self, client: Client, method: Callable[..., None], *arguments: object
    ) -> None:
        try:
            method(*arguments)
        except Exception as error:  # noqa: BLE001 (its own client answers)
            client.on_fault(error)

    # Zygotes come and go

    def _on_zygote(self, generation: int, pipes: list[int]) -> None:
        if not pipes:  # no descriptor was left for it
            raise errands.Nonsense("a zygote without a link")
        self._zygote = Link(self._loop, self, socket.socket(fileno=pipes[0]))
        self._generations[self._zygote] = generation
        self._running[self._zygote] = {}
        self._ask()

    def on_lost(self, link: Link) -> None:
        """A zygote has died, or the supervisor."""
        if link is self._line:
            self.on_deserted()
        else:
            self._on_zygote_lost(link)
        if self._line.fd < 0 and self._zygote is None:
            self._abandon()

    def _on_zygote_lost(self, link: Link) -> None:
        generation = self._generations.pop(link)
        if self._zygote is link:
            self._zygote = None
        again = [number for number, one in self._asked.items() if one.post is link]
        for number in reversed(again):
            self._waiting.appendleft(self._asked.pop(number))
        self._over.pop(link, None)  # what nobody claims is ended
        self._claim(link, generation)
        self._ask()

    def _claim(self, link: Link, generation: int) -> None:
        """Tell the supervisor which of those that it has adopted are ours."""
        claims: list[tuple[str, int, bool]] = []
        running = self._running.pop(link)
        self._running[self._line].update(running)
        for pid, client in running.items():
            claims.append((client.session, pid, True))
        for session, (group, post) in self._ended.items():
            if post is link:
                self._ended[session] = (group, self._line)
                claims.append((session, group, False))
        while True:
            batch, claims = claims[: errands.SESSIONS], claims[errands.SESSIONS :]
            adopted = {session: pid for session, pid, runs in batch if runs}
            ended = {session: pid for session, pid, runs in batch if not runs}
            more = bool(claims)
            self._send(self._line, errands.Adopt(adopted, ended, generation, more))
            if not more:
                return

    def _abandon(self) -> None:
        """Nobody is left who could tell how anything ends."""
        self._give_up()
        for post, running in self._running.items():
            while running:
                client = running.popitem()[1]
                self._ended[client.session] = (0, post)
                self._tell(client, client.on_exit, UNKNOWN, False)

    def on_event(self, fd: int, events: int) -> None:
        """The links watch their own descriptors."""

    def on_fault(self, error: Exception) -> None:
        """A bug of ours that no client could answer for."""
        raise error
