"""The zygote of a server: a process, forked early, that starts applications.

It starts those that workers cannot start: copies of a preloaded application, programs
of other users, and all where the C extension cannot be used.

Workers send requests over links (chimirror-protocol(7)). The reply carries the pipes of
a fresh application, or of a fork of an application that was preloaded. A notice reports
the end of each application. The zygote serves no session and knows no client.

Its descriptor table stays small. Each fork(2) copies the whole table: with 5,000
descriptors a start takes 1.1 ms instead of 0.1 ms. The children inherit its size.
"""

from __future__ import annotations

import os
import signal
import socket
from errno import EMFILE

from chimirror import program
from chimirror.io import fds
from chimirror.io.loop import NEVER, EventLoop, FatalErrorHandler
from chimirror.io.packet_socket import PacketError, PacketSocket
from chimirror.log.stderr import ERROR, report
from chimirror.process import children, process_title
from chimirror.process.sigchld import SigchldReader
from chimirror.process.spawner import Program, Spawner
from chimirror.server import capacity
from chimirror.spawn import messages, preload
from chimirror.spawn.handler import SpawnHandler
from chimirror.spawn.preload import make_spawner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from chimirror.config import Config
    from chimirror.server.heartbeat import HeartbeatTable
    from chimirror.spawn.handler import LinkHandler
    from chimirror.spawn.start_marks import StartMarks

# ignored: the supervisor handles them
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
NAME = b"zygote"  # in ps(1), to tell it from the workers
MAX_ENDED = 100_000  # sessions whose end the supervisor has not been told
RESERVED_DESCRIPTORS = 64  # besides those of the links


class WorkerSpawnHandler(SpawnHandler):
    """Handles the requests of one worker, which name the command to start.

    The worker has read the command from an application file and has checked the
    request of the client against that version. The file may have changed since.

    Args:
        zygote: the owner of this link.
        handle: this end of the link.
        worker: number of the worker.
    """

    __slots__ = ("_marks", "_worker")

    def __init__(self, zygote: Zygote, handle: socket.socket, worker: int) -> None:
        loop, spawner, grace = zygote.loop, zygote.spawner, zygote.config.kill_grace
        super().__init__(loop, zygote, handle, spawner, grace, zygote.program)
        self._marks = zygote.marks
        self._worker = worker

    def _start(
        self,
        message: messages.StartRequest,
        session: str,
        environment: Mapping[str, str],
    ) -> None:
        self._marks.begin(self._worker, message.start, self._loop.clock())
        try:
            super()._start(message, session, environment)
        finally:
            self._marks.end(self._worker)

    def _cgroup_for(self, message: messages.StartRequest) -> str:
        """Return the cgroup of an application. A worker has created it."""
        return message.cgroup

    def _program_for(self, message: messages.StartRequest) -> Program:
        if not message.command:
            return super()._program_for(message)
        return Program(
            tuple(message.command),
            message.directory or None,
            pty=message.pty,
            control=message.control,
            user_ids=tuple(message.user),
        )


class Zygote(FatalErrorHandler):
    """The event handlers of the zygote process.

    The supervisor, not the zygote, ends the processes that sessions leave behind. It is
    the child subreaper and has few other children. The zygote would have to look
    through all applications (40 ms with 25,000) at every tick in which a session ends.

    Args:
        config: the command line.
        program: the program to start if a request names no command.
        loop: event loop of this process.
        control: socket to the supervisor, which sends the links. The zygote ends once
            this socket and all links are closed.
        marks: gets the start that is being performed for each worker.

    Attributes:
        config, program, loop, marks: as given.
        spawner: starts the applications.
    """

    spawner: Spawner

    def __init__(
        self,
        config: Config,
        program: Program,
        loop: EventLoop,
        control: socket.socket,
        marks: StartMarks,
    ) -> None:
        self.config = config
        self.program = program
        self.loop = loop
        self.marks = marks
        self._worker_links: set[LinkHandler] = set()
        # session -> process group of survivors or 0, to be reported to the supervisor
        self._ended_sessions: dict[str, int] = {}
        self.armed = 0
        self.deadline = NEVER
        self._control = PacketSocket(loop, self, control)
        for number in SIGNALS:
            loop.add_signal_handler(number, lambda: None)

    def set_spawner(self, spawner: Spawner) -> None:
        """Set the spawner and report that the zygote is ready."""
        self.spawner = spawner
        self._control.send(messages.encode(messages.Ready()))

    def serve(self) -> None:
        """Start applications until the supervisor and all workers are gone."""
        try:
            while self.loop.running:
                self.loop.run_once()
        finally:
            self.spawner.finish_sweep()
            children.end_all()

    def on_packet(self, link: PacketSocket, packet: bytes, pipes: list[int]) -> None:
        """Called when the supervisor sends a link or the request to stop."""
        message = messages.decode(packet)
        if isinstance(message, messages.StopRequest):
            self.loop.running = False
            return
        if not isinstance(message, messages.WorkerLinkMessage):
            raise messages.MessageError(f"{message._fields[0]!r} is not accepted here")
        if not pipes:
            # EMFILE: the kernel dropped it. This error ends the zygote, and its
            # successor will have a free descriptor.
            raise OSError(EMFILE, "no descriptor is left for the link of a worker")
        for fd in pipes:
            handle = socket.socket(fileno=fd)
            self._worker_links.add(WorkerSpawnHandler(self, handle, message.worker))

    def on_error(self, error: Exception) -> None:
        """Called on an error. Drops a faulty packet, and ends on an internal error."""
        if not isinstance(error, PacketError):
            raise error
        self.on_faulty_packet(str(error))

    def on_faulty_packet(self, reason: str) -> None:
        """Called with the reason when a packet cannot be used. It is dropped."""
        report(f"zygote: dropped a faulty packet: {reason}", ERROR)

    def on_lost(self, link: PacketSocket) -> None:
        """Called when the supervisor is gone. Waits for the workers, which drain."""
        self.spawner.sweep_here()
        self._stop_if_unused()

    def end_session(self, pid: int, session: str, survivors: bool) -> None:
        """Report to the supervisor, at the next tick, that a session has ended."""
        self._ended_sessions[session] = pid if survivors else 0
        self.loop.set_timer(self, self.loop.now)

    def on_stray_exit(self) -> None:
        """Never called: the zygote adopts no processes."""

    def on_timer(self, now: float) -> None:
        """Called at the next tick. Reports which sessions have ended.

        They wait while the supervisor does not read, up to MAX_ENDED. Processes that
        the oldest of more sessions leave behind live until the server ends.
        """
        if self._control.queued_packets:
            for session in list(self._ended_sessions)[:-MAX_ENDED]:
                del self._ended_sessions[session]
            self.loop.set_timer(self, now)
            return
        ended, self._ended_sessions = list(self._ended_sessions.items()), {}
        for first in range(0, len(ended), messages.MAX_SESSIONS):
            over = dict(ended[first : first + messages.MAX_SESSIONS])
            self._control.send(messages.encode(messages.SessionsOver(over)))

    def on_link_closed(self, worker_link: LinkHandler) -> None:
        """Called when a worker has gone and all its applications have ended."""
        self._worker_links.discard(worker_link)
        self._stop_if_unused()

    def _stop_if_unused(self) -> None:
        if self._control.fd < 0 and not self._worker_links:
            self.loop.running = False


def run(
    config: Config,
    control: socket.socket,
    descriptors: int,
    workers: int,
    heartbeat: HeartbeatTable | None,
    marks: StartMarks,
) -> int:
    """Be the zygote of a server. Returns the exit status.

    Args:
        config: the command line.
        control: socket to the supervisor. It is the only descriptor, besides the
            standard three, that stays open.
        descriptors: the soft descriptor limit that applications get.
        workers: number of workers. Each has a link, and a new worker gets a link before
            that of its predecessor is closed.
        heartbeat: gets the heartbeats of this event loop, under the number after those
            of the workers. None without a watchdog.
        marks: gets the start that is being performed for each worker.
    """
    fds.close_all(keep=control.fileno())
    fds.redirect_to_null(0)
    process_title.show_as("chimirror-server: zygote")
    children.set_name(NAME)
    capacity.set_descriptor_limit(max(descriptors, RESERVED_DESCRIPTORS + 2 * workers))
    # blocked until their handlers are installed
    signal.pthread_sigmask(signal.SIG_SETMASK, SIGNALS)
    loop = EventLoop()
    catalog = program.open_catalog(config, os.environ).default
    zygote = Zygote(config, catalog.program, loop, control, marks)
    try:
        spawner = make_spawner(loop, config.preload, catalog.environment, zygote)
    except preload.PreloadError as error:
        report(f"chimirror-server: --preload: {error}", ERROR)
        return os.EX_UNAVAILABLE
    # copies of an application must not write what the server relies on
    marks.hide_from_children()
    if heartbeat is not None:
        heartbeat.hide_from_children()
        heartbeat.start_timer(loop, workers)
    SigchldReader(loop, spawner)
    zygote.set_spawner(spawner)
    zygote.serve()
    return os.EX_OK
