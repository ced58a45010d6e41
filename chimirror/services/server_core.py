"""The logic of a server: its target, its services, its end. Knows neither API.

The order of a start: guard, directory, FIFOs, target. The order of the end: the target
ends, its messages are handled, its group is stopped, the directory is removed, the
guard ends. A failure at any point has the same end.
"""

from __future__ import annotations

import os
import select
import time
from subprocess import PIPE
from typing import Any, NamedTuple

from chimirror.services.directory import ServiceDirectory
from chimirror.services.flow import Flow, Wait
from chimirror.services.guard import Guard
from chimirror.services.names import OUTPUT, VARIABLE
from chimirror.services.open_watch import OpenWatch
from chimirror.services.service import Service
from chimirror.services.target import CHECK_INTERVAL, Target
from chimirror.services.terminal import Terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from chimirror.services.options import PipeOptions
    from chimirror.services.results import Exit
    from chimirror.services.target import File, Path


LAST_WAIT = 5.0  # seconds for the end of processes that were killed


class TargetParams(NamedTuple):
    """How to start and stop the target.

    Attributes:
        command: Program and arguments.
        environment: Instead of that of this process, or None.
        directory: To start in, or None.
        files: stdin, stdout and stderr, as subprocess takes them.
        kill_grace: Seconds between TERM and KILL.
        memory: Whether large values may travel by shared memory.
    """

    command: Sequence[Path]
    environment: Mapping[str, str] | None
    directory: Path | None
    files: tuple[File, File, File]
    kill_grace: float
    memory: bool


class ServerCore:
    """One server and its target. Is the Surroundings of its services."""

    def __init__(self, params: TargetParams) -> None:
        if PIPE in params.files:
            raise ValueError("give an open file instead of subprocess.PIPE")
        self._params = params
        self.services: dict[str, Service] = {}
        self.target: Target | None = None
        self.peer_has_ended = False
        self._directory: ServiceDirectory | None = None
        self._guard: Guard | None = None
        self._watch: OpenWatch | None = None
        self._terminal: Terminal | None = None
        self._is_finished = False
        self._is_unwanted = False  # since `kill`

    def declare(
        self, name: str, receive: Any, send: Any, options: PipeOptions
    ) -> Service:
        """Add a service, before the start.

        Raises:
            ValueError: The name is wrong or used, or the server has been started.
        """
        if self._directory is not None:
            raise ValueError("the server has been started: add services before that")
        if name in self.services:
            raise ValueError(f"there is already a service {name}")
        service = Service(name, self, receive, send, options)
        self.services[name] = service
        return service

    def start(self) -> None:
        """Start the target.

        Raises:
            OSError: It cannot be started. Nothing is left behind.
        """
        if self._directory is not None:
            raise ValueError("the server has been started before")
        try:
            self._start(self._params)
        except BaseException as error:
            if self.target is not None:
                self.target.kill()
                self._reap(self.target)
            elif self._terminal is not None:
                self._terminal.take_back()
            if self._guard is not None and not isinstance(error, Exception):
                # A signal may have interrupted the start of an unknown process.
                self._guard.clean_up()
            self.release()
            raise

    def _start(self, params: TargetParams) -> None:
        directory = self._directory = ServiceDirectory()
        self._guard = Guard(directory.path)
        directory.create()
        unopened = {}
        for service in self.services.values():
            file = service.open(directory, memory=params.memory)
            if file is not None:
                unopened[file] = service.is_opened
        self._watch = OpenWatch(directory.path, unopened)
        environment = os.environ if params.environment is None else params.environment
        if params.files[0] is None:
            self._terminal = Terminal.of_stdin()
        self.target = Target(
            params.command,
            {**environment, VARIABLE: directory.path},
            params.directory,
            params.files,
            self._terminal,
        )
        self._guard.set_group(self.target.pid)
        if self._terminal is not None:
            self._terminal.watch(self.target.pid)
        if self._is_unwanted:
            self.kill()

    # The Surroundings of services.

    @property
    def deadline(self) -> float | None:
        """The time at which `advance` has something to do."""
        found = None if self.target is None else self.target.kill_deadline
        other = None if self._watch is None else self._watch.deadline
        return (
            other if found is None or (other is not None and other < found) else found
        )

    def events(self) -> dict[int, int]:
        """Return the events that `advance` handles."""
        events = {} if self._watch is None else self._watch.events()
        if self.target is not None and not self.peer_has_ended:
            events[self.target.pidfd] = select.POLLIN
        return events

    def advance(self, ready: Mapping[int, int]) -> None:
        """Handle events of target and FIFOs, and the end of the grace time."""
        if self._watch is not None:
            for file in self._watch.opened(ready):
                self.services[file.removesuffix(OUTPUT)].on_opened()
        target = self.target
        if target is None:
            return
        if target.pidfd in ready and not self.peer_has_ended:
            self.peer_has_ended = True
            # The rest of its group ends too.
            target.terminate(self._params.kill_grace)
        target.advance()

    # The operations of the API.

    def wait(self) -> Flow[Exit]:
        """Serve all services with handlers until the target has ended."""
        if self.target is None:
            raise ValueError("the server has not been started")
        ready: Mapping[int, int] = {}
        while not self._is_finished:
            yield from self._serve(ready)
            is_draining = self.peer_has_ended
            events = self._serve_events(draining=is_draining)
            if is_draining:
                ready = yield Wait(events, time.monotonic())
                if not ready:
                    break
                self.advance({})
            else:
                ready = yield Wait(events | self.events(), self.deadline)
                self.advance(ready)
        return (yield from self._finish(self.target))

    def _serve(self, ready: Mapping[int, int]) -> Flow[None]:
        for service in self.services.values():
            yield from service.serve(ready)

    def _serve_events(self, *, draining: bool) -> dict[int, int]:
        events: dict[int, int] = {}
        for service in self.services.values():
            events.update(service.serve_events(draining=draining))
        return events

    def stop(self) -> Flow[None]:
        """Stop the target without serving, and close everything."""
        target = self.target
        if target is not None and not self._is_finished:
            if not self.peer_has_ended:
                target.terminate(self._params.kill_grace)
            while not self.peer_has_ended:
                self.advance((yield Wait(self.events(), self.deadline)))
            yield from self._finish(target)
        self.release()

    def _finish(self, target: Target) -> Flow[Exit]:
        """Reap the target and stop the rest of its group."""
        found = self._reap(target)
        # A process of another user cannot be killed, and must not hold up this one.
        end = time.monotonic() + self._params.kill_grace + LAST_WAIT
        while target.has_group() and time.monotonic() < end:
            target.terminate(self._params.kill_grace)
            yield Wait({}, time.monotonic() + CHECK_INTERVAL)
            target.advance()
        if not self._is_finished:
            self._is_finished = True
            for service in self.services.values():
                service.finish()
            self._clean_up()
        return found

    def _reap(self, target: Target) -> Exit:
        terminal, self._terminal = self._terminal, None
        if terminal is not None:
            terminal.take_back()
        return target.reap()

    def kill(self) -> None:
        """Begin to stop the target: TERM and CONT, later KILL."""
        # A handler of a signal may interrupt the start.
        self._is_unwanted = self._directory is not None
        if self.target is not None and not self._is_finished:
            self.target.terminate(self._params.kill_grace)

    def release(self) -> None:
        """Close everything. The target has ended, or was not started."""
        self._is_finished = True
        for service in self.services.values():
            service.release()
        self._clean_up()

    def _clean_up(self) -> None:
        if self._watch is not None:
            self._watch.close()
        if self._directory is not None:
            self._directory.remove()
        if self._guard is not None:
            self._guard.end()
