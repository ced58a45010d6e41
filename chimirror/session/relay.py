"""Data path of a session: messages to standard input, output to messages, counters.

Guarantees: nothing is lost or reordered, and neither side gets ahead of the other. If
one side does not read, the other side is not read either. The framing decides on the
meaning of a message. The subclass decides how a session begins and ends.
"""

from __future__ import annotations

from chimirror.framing import (
    EOF,
    Framing,
    FramingError,
    RejectedMessage,
    ResizeRequest,
    SignalRequest,
    WindowRequest,
)
from chimirror.io.write_buffer import HIGH
from chimirror.protocol.frame_reader import Binary, Close, Ping, Pong
from chimirror.session.connection import OPEN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from chimirror.framing import Buffer, Request
    from chimirror.log.output_logger import OutputLogger
    from chimirror.process.application_process import ApplicationProcess
    from chimirror.protocol import CloseReason
    from chimirror.protocol.frame_reader import Event
    from chimirror.session import SessionContext
    from chimirror.session.connection import Connection

NO_FRAMING = Framing()
# Places in `SessionContext.traffic`.
BYTES_IN, BYTES_OUT, MESSAGES_IN, MESSAGES_OUT = range(4)
MAX_EVENTS = 128  # events of one call that are processed one by one


class Relay:
    """Relay between connection and application, both created by the subclass.

    Args:
        context: shared by all sessions of this process.
        session_id: 32 hexadecimal digits.
    """

    __slots__ = (
        "_last_activity",
        "_logged_streams",
        "_output_logger",
        "_context",
        "process",
        "bytes_in",
        "bytes_out",
        "connection",
        "framing",
        "session_id",
        "messages_in",
        "messages_out",
        "reason",
    )
    process: ApplicationProcess
    connection: Connection

    def __init__(self, context: SessionContext, session_id: str) -> None:
        self._context = context
        self.session_id = session_id
        # created with the first logged output
        self._output_logger: OutputLogger | None = None
        self._logged_streams: tuple[str, ...] = ()
        self._last_activity = 0.0
        self.bytes_in = self.bytes_out = 0
        self.messages_in = self.messages_out = 0
        self.reason = ""
        self.framing = NO_FRAMING

    # Defined by the subclass

    @property
    def user(self) -> str:
        """Name of the client, "" if it is not known."""
        raise NotImplementedError

    def close(self, reason: CloseReason) -> None:
        """Close the session."""
        raise NotImplementedError

    def on_close(self, event: Close) -> None:
        """Called with a close frame of the client."""
        raise NotImplementedError

    def end_application(self) -> None:
        """Start the stop sequence of the application."""
        raise NotImplementedError

    def on_first_line(self) -> None:
        """Called before the first output goes to the log."""
        raise NotImplementedError

    # Client to application

    def on_frames(self, events: list[Event], size: int) -> None:
        """Called with messages and control frames in their order of arrival.

        Args:
            size: number of received bytes, frame headers included.
        """
        self.bytes_in += size
        traffic = self._context.traffic
        if traffic is not None:
            traffic[BYTES_IN] += size
        block = self.framing.decode_batch(events) if events else b""
        if block is None:
            self._on_each(events)
            return
        self._last_activity = self._context.loop.now
        if block:  # empty for a fragment of a message
            self.messages_in += len(events)
            if traffic is not None:
                traffic[MESSAGES_IN] += len(events)
            self.process.write([block])
            if (
                self.process.stdin_buffer is not None
                or self.connection.write_buffer is not None
            ):
                self._apply_backpressure()

    def _on_each(self, events: list[Event]) -> None:
        """Process the first events one by one. The others wait for their turn."""
        if len(events) > MAX_EVENTS:
            self.connection.put_back(events[MAX_EVENTS:])
            del events[MAX_EVENTS:]
        lines: list[bytes] = []
        answers: list[bytes] = []  # to refused messages
        ping: Ping | None = None
        traffic = self._context.traffic
        for event in events:
            if isinstance(event, (bytes, Binary)):
                self.messages_in += 1
                if traffic is not None:
                    traffic[MESSAGES_IN] += 1
                self._last_activity = self._context.loop.now
                self._on_message(event, lines, answers)
            elif isinstance(event, Ping):
                ping = event  # RFC 6455, 5.5.3: answering the most recent is enough
            elif not isinstance(event, Pong):
                self._finish_batch(lines, answers, ping)
                if isinstance(event, Close):
                    self.on_close(event)
                else:
                    self.close(event.close_reason)
                return
        self._finish_batch(lines, answers, ping)

    def _finish_batch(
        self, lines: list[bytes], answers: list[bytes], ping: Ping | None
    ) -> None:
        """Write the decoded messages, and the answers as one unit."""
        if ping is not None:
            self.connection.send_pong(ping.payload)
        self._send(answers, len(answers))
        self._write_stdin(lines)

    def _on_message(
        self, message: bytes | Binary, lines: list[bytes], answers: list[bytes]
    ) -> None:
        if self.connection.state != OPEN:
            return
        if isinstance(message, Binary):
            request = self.framing.decode_binary(message.payload)
        else:
            request = self.framing.decode(message)
        if type(request) is bytes:
            if request:
                lines.append(request)
        elif isinstance(request, RejectedMessage):
            answer = self.framing.error_message(request.text)
            if answer:
                answers.append(answer)
        elif isinstance(request, FramingError):
            self._send(answers, len(answers))
            answers.clear()
            self._on_framing_error(request, lines)
        else:
            self._write_stdin(lines)
            self._perform(request, answers)

    def _perform(self, request: Request, answers: list[bytes]) -> None:
        """Carry out a request that is no input, in order with the input."""
        if request is EOF:
            self.process.end_input()
        elif isinstance(request, SignalRequest):
            self.process.signal(request.name, backpressure=True)
        elif isinstance(request, ResizeRequest):
            self.process.resize(request.columns, request.rows)
        else:
            assert isinstance(request, WindowRequest)
            if not self.process.set_window(request.size):
                text = f"bytes is less than before: found {request.size}"
                answers.append(self.framing.error_message(text))

    def _on_framing_error(self, error: FramingError, lines: list[bytes]) -> None:
        """Deliver the input before an error of the client, and close."""
        if error.received:
            lines.append(error.received)
        self._write_stdin(lines)
        self.close(error.full_reason())

    def _write_stdin(self, lines: list[bytes]) -> None:
        """Write the decoded messages to standard input."""
        if lines:
            self.process.write(lines)
            lines.clear()
        self._apply_backpressure()

    def _apply_backpressure(self) -> None:
        """Stop reading from a client that sends too fast or does not read."""
        if self.connection.state == OPEN and (
            self.process.is_input_full or self.connection.queued_bytes > 2 * HIGH
        ):
            self.connection.pause_reading()

    def on_stdin_buffer_low(self) -> None:
        """Called when the stdin buffer is low. Resumes reading from the client."""
        self._last_activity = self._context.loop.now
        if (
            self.connection.state == OPEN
            and self.connection.queued_bytes <= 2 * HIGH
            and not self.process.is_input_full
        ):
            self.connection.resume_reading()

    # Application to client

    def on_output(self, stream: str, chunk: bytes) -> None:
        """Called with output of the application."""
        if stream in self._logged_streams:
            self._log(stream, chunk)
            return
        self._last_activity = self._context.loop.now
        try:
            buffers, messages = self.framing.encode(stream, chunk)
        except FramingError as error:
            self._send(*error.sent)
            reason = error.full_reason()
            self.reason = reason.text
            self.connection.close(reason.code, reason.text, discard=False)
            self.end_application()
            return
        self._send(buffers, messages)
        if (
            self.connection.write_buffer is not None
            and self.connection.queued_bytes > self.process.max_queued
        ):
            self.process.pause_output()

    def on_late_output(self, stream: str, chunk: bytes) -> None:
        """Called with output during the stop. Only the log gets it."""
        if stream in self._logged_streams:
            self._log(stream, chunk)

    def _log(self, stream: str, chunk: bytes) -> None:
        if self._output_logger is None:
            from chimirror.log.output_logger import OutputLogger

            self.on_first_line()
            log, source = self._context.event_log, self.process
            self._output_logger = OutputLogger(log, self.session_id, source, self.user)
        self._output_logger.write(stream, chunk)

    def _send(self, buffers: Sequence[Buffer], messages: int) -> None:
        if buffers:
            size = len(buffers[0]) if len(buffers) == 1 else sum(map(len, buffers))
            self._count_output(size, messages)
            self.connection.send(buffers)

    def _count_message(self, frame: bytes) -> bytes:
        """Count one message from the server, unless the frame is empty."""
        if frame:
            self._count_output(len(frame), 1)
        return frame

    def _count_output(self, size: int, messages: int) -> None:
        self.messages_out += messages
        self.bytes_out += size
        traffic = self._context.traffic
        if traffic is not None:
            traffic[BYTES_OUT] += size
            traffic[MESSAGES_OUT] += messages

    def on_output_buffer_low(self) -> None:
        """Called when queued output is low. Resumes reading from the application."""
        self._last_activity = self._context.loop.now
        self.process.resume_output()
        if not self.process.is_input_full:
            self.connection.resume_reading()
