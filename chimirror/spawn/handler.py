"""Server side of one link: starts applications, signals them, reports their ends.

Knows messages (chimirror-protocol(7)) and processes, no session object. The peer of a
link owns the applications that were started over it, and nothing else. No other process
is signalled for it. When the link is lost, its applications are stopped (TERM and CONT,
after the kill grace KILL) and their sessions end.
"""

from __future__ import annotations

import os
import signal

from chimirror.io.loop import NEVER
from chimirror.io.packet_socket import PacketError, PacketSocket
from chimirror.log.stderr import report_exception
from chimirror.process.reaper import SESSION_VARIABLE
from chimirror.process.spawner import SpawnRequest
from chimirror.spawn import messages

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping
    from typing import Protocol, TypeGuard

    from chimirror.io.loop import EventLoop
    from chimirror.process.reaper import ChildWatcher
    from chimirror.process.spawner import Pipes, Program, Spawner
    from chimirror.spawn.messages import Message

    class LinkOwner(Protocol):
        """Callbacks of a LinkHandler."""

        def on_link_closed(self, handler: LinkHandler) -> None: ...

        def on_faulty_packet(self, reason: str) -> None: ...

        def on_error(self, error: Exception) -> None: ...


class ManagedProcess:
    """One application and the link that it belongs to."""

    __slots__ = ("_sequence", "link_handler", "pid", "session")

    def __init__(
        self, handler: LinkHandler, session: str, number: int = 0, pid: int = 0
    ) -> None:
        self.link_handler = handler
        self._sequence = number  # number of the start request, for the reply
        self.session = session
        self.pid = pid

    def on_started(self, pid: int, pipes: Pipes) -> None:
        """Called when the application runs. Sends its pipes."""
        self.pid = pid
        self.link_handler.add_process(self)
        if self.link_handler.lost:  # while the program was started as another user
            self.link_handler.kill(pid)
        reply = messages.StartReply(self._sequence, pid, self.session)
        self._sequence = 0  # the int object would cost 32 bytes per application
        self.link_handler.send(reply, tuple(fd for fd in pipes if fd >= 0))

    def on_start_failed(self, reason: str, shortage: bool) -> None:
        """Called when the application could not be started. Sends the reason."""
        reason = reason[: messages.MAX_REASON]
        self.link_handler.send(messages.StartFailed(self._sequence, reason, shortage))

    def on_signals_taken(self) -> None:
        """Never called: this process sends the signals itself."""

    def on_exit(self, status: int | None, survivors: bool) -> None:
        """Called when the application has ended and is reaped."""
        self.link_handler.on_process_exit(self, status, survivors)

    def on_error(self, error: Exception) -> None:
        """Called on an internal error. Passes it to the link handler."""
        self.link_handler.on_error(error)


class LinkHandler:
    """Serves one link. A subclass can serve further messages.

    Args:
        loop: event loop of this process.
        owner: called when the link is lost and its applications have ended.
        handle: this end of the link.
        watcher: reaps the children of this process.
        kill_grace: seconds from TERM to KILL.
    """

    __slots__ = (
        "_running",
        "_ended",
        "_exits",
        "_watcher",
        "_kill_grace",
        "_loop",
        "_owner",
        "armed",
        "deadline",
        "link",
        "lost",
    )

    def __init__(
        self,
        loop: EventLoop,
        owner: LinkOwner,
        handle: socket.socket,
        watcher: ChildWatcher,
        kill_grace: float,
    ) -> None:
        self._loop = loop
        self._owner = owner
        self._watcher = watcher
        self._kill_grace = kill_grace
        self._running = 0  # number of running applications: the watcher has the list
        # until FinishRequest: pid, survivors
        self._ended: dict[str, tuple[int, bool]] = {}
        self._exits: list[tuple[int, int | None, bool]] = []  # reported after this reap
        self.armed = 0
        self.deadline = NEVER
        self.lost = False
        self.link = PacketSocket(loop, self, handle)

    @property
    def sessions(self) -> set[bytes]:
        """The sessions that have not ended."""
        sessions = {
            process.session for process in self._processes()
        } | self._ended.keys()
        return {session.encode(errors="surrogateescape") for session in sessions}

    def send(self, message: Message, pipes: tuple[int, ...] = ()) -> None:
        """Send a message. It is dropped if the peer is gone."""
        self.link.send(messages.encode(message), pipes)

    # Messages

    def on_packet(self, link: PacketSocket, packet: bytes, pipes: list[int]) -> None:
        """Called when the peer has sent a message."""
        for fd in pipes:  # no message brings descriptors
            os.close(fd)
        message = messages.decode(packet)
        if isinstance(message, messages.SignalProcess):
            self._signal(message.signal, message.pid, message.session)
        elif isinstance(message, messages.SignalBatch):
            self.serve_signals(message)
        elif isinstance(message, messages.FinishRequest):
            for session in message.finish:
                self._finish(session)
        else:
            self._dispatch(message)

    def _dispatch(self, message: Message) -> None:
        """Serve a message that only some links accept."""
        raise messages.MessageError(f"{message._fields[0]!r} is not accepted here")

    def serve_signals(self, message: messages.SignalBatch) -> None:
        """Send the signals of a batch, and ask for the next one."""
        for number, pid, session in message.signals:
            self._signal(number, pid, session)
        self.send(messages.SignalsTaken(len(message.signals)))

    def _signal(self, number: int, pid: int, session: str) -> None:
        """Signal an application, unless the pid now belongs to another one."""
        process = self._watcher.client(pid)
        if self._owns(process) and session in ("", process.session):
            self._watcher.signal(pid, number)

    def _finish(self, session: str) -> None:
        if session in self._ended:
            pid, survivors = self._ended.pop(session)
            self._watcher.end_session(pid, session, survivors)

    # Processes

    def _owns(self, client: object) -> TypeGuard[ManagedProcess]:
        return isinstance(client, ManagedProcess) and client.link_handler is self

    def _processes(self) -> list[ManagedProcess]:
        """Return the running applications. A table would cost 40 bytes for each."""
        return [process for process in self._watcher.clients() if self._owns(process)]

    def add_process(self, process: ManagedProcess) -> None:
        """Called when an application has been started for this link."""
        self._running += 1

    def kill(self, pid: int) -> None:
        """Kill an application that has started after its peer was gone."""
        self._watcher.signal(pid, signal.SIGKILL)

    def on_process_exit(
        self, process: ManagedProcess, status: int | None, survivors: bool
    ) -> None:
        """Called when an application has ended. Without a peer its session ends too."""
        self._running -= 1
        if not self.lost:
            self._ended[process.session] = (process.pid, survivors)
            self._watcher.call_after_reap(self._send_exits)
            self._exits.append((process.pid, status, survivors))
            return
        self._watcher.end_session(process.pid, process.session, survivors)
        if not self._running:
            self._close()

    def _send_exits(self) -> None:
        """Report the ends of this reap. They wait while the link is full."""
        if self.link.queued_packets:
            self._loop.set_timer(self, self._loop.now)
            return
        exits, self._exits = self._exits, []
        for first in range(0, len(exits), messages.MAX_SESSIONS):
            batch = exits[first : first + messages.MAX_SESSIONS]
            self.send(messages.ExitNotice(batch))

    # The end

    def on_lost(self, link: PacketSocket) -> None:
        """Called when the peer is gone. Stops its applications."""
        self.lost = True
        for session, (pid, survivors) in self._ended.items():
            self._watcher.end_session(pid, session, survivors)
        self._ended.clear()
        self._signal_all(signal.SIGTERM)
        self._signal_all(signal.SIGCONT)
        self._loop.set_timer(self, self._loop.now + self._kill_grace)
        if not self._running:
            self._close()

    def _signal_all(self, number: int) -> None:
        for process in self._processes():
            self._watcher.signal(process.pid, number)

    def on_timer(self, now: float) -> None:
        """Called when the kill grace is over. Kills the remaining applications.

        With a peer: called at the next tick. Reports ends that have waited.
        """
        if self.lost:
            self._signal_all(signal.SIGKILL)
        else:
            self._send_exits()

    def _close(self) -> None:
        self._loop.cancel_timer(self)
        self._owner.on_link_closed(self)

    def on_error(self, error: Exception) -> None:
        """Called on an internal error or a faulty packet, which is dropped."""
        if isinstance(error, PacketError):
            self.on_faulty_packet(error)
        else:
            self._owner.on_error(error)

    def on_faulty_packet(self, error: PacketError) -> None:
        """Called with a packet that cannot be used. Answers a start."""
        number = error.start if isinstance(error, messages.MessageError) else 0
        if number:
            self.send(messages.StartFailed(number, f"a faulty request: {error}"))
        self._owner.on_faulty_packet(str(error))


class SpawnHandler(LinkHandler):
    """Serves a link that may also start applications.

    Args:
        loop: event loop of this process.
        owner: called when the link is lost and its applications have ended.
        handle: this end of the link.
        spawner: starts the applications.
        kill_grace: seconds from TERM to KILL.
        program: the only program that is started. The peer chooses its options.
    """

    __slots__ = ("_program", "_spawner")

    def __init__(
        self,
        loop: EventLoop,
        owner: LinkOwner,
        handle: socket.socket,
        spawner: Spawner,
        kill_grace: float,
        program: Program,
    ) -> None:
        super().__init__(loop, owner, handle, spawner, kill_grace)
        self._spawner = spawner
        self._program = program

    def _dispatch(self, message: Message) -> None:
        if not isinstance(message, messages.StartRequest):
            super()._dispatch(message)
            return
        environment = self._environment_for(message.environment)
        session = environment.get(SESSION_VARIABLE, "")
        if not messages.is_session(session):
            text = f"{SESSION_VARIABLE} is longer than {messages.MAX_SESSION_ID} bytes"
            self.send(messages.StartFailed(message.start, text))
            return
        try:
            self._start(message, session, environment)
        except Exception as error:  # noqa: BLE001 (told, and others are still served)
            report_exception(error, session)
            text = f"an internal error: {error!r}"[: messages.MAX_REASON]
            self.send(messages.StartFailed(message.start, text))

    def _start(
        self,
        message: messages.StartRequest,
        session: str,
        environment: Mapping[str, str],
    ) -> None:
        process = ManagedProcess(self, session, message.start)
        self._spawner.start(
            SpawnRequest(
                process,
                self._program_for(message),
                environment,
                keep_stderr=message.stderr,
                size=message.size or None,
                cgroup=self._cgroup_for(message),
            )
        )

    def _cgroup_for(self, message: messages.StartRequest) -> str:
        """Return the cgroup of an application: that of this process."""
        return ""

    def _program_for(self, message: messages.StartRequest) -> Program:
        """Return the program of this handler, with the options of the request.

        The command of the request is ignored.
        """
        return self._program.with_options(pty=message.pty, control=message.control)

    def _environment_for(self, environment: Mapping[str, str]) -> Mapping[str, str]:
        """Return the complete environment of an application. A worker has made it."""
        return environment
