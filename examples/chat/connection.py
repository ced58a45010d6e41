"""One connection of `chat server`: frames, timers and back-pressure.

Reading pauses while this client or its partner does not read what has been sent to it.
So the memory of a connection is bounded, and a fast sender waits for a slow reader. A
client that does not read for one interval is disconnected. Frames are handled in
batches: other clients have their turn in between.

At its end, the connection sends its last message, closes its direction, and discards
input: to close a socket with unread input would destroy what has been sent.

Knows nothing of requests and chats: a UserDirectory handles the messages.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, cast

import chat_pb2 as pb
from chat.framing import FrameDecoder, FrameError, decode_message, encode_frame
from chat.violation import Violation, invalid

if TYPE_CHECKING:
    from chat.served_connections import ServedConnections
    from chat.users import OnlineUser, Timer

BATCH = 8  # frames
HIGH_WATER, LOW_WATER = 65_536, 16_384  # bytes that wait for a client
LINGER = 2.0  # seconds for a client to read the last message
SILENT_INTERVALS = 3  # without a message: the client has vanished

logger = logging.getLogger("chat")


class ServedConnection(asyncio.BufferedProtocol):
    """The connection of one client, which becomes a user by logging in."""

    _transport: asyncio.Transport
    _address = ""

    def __init__(self, served: ServedConnections) -> None:
        self._served = served
        self._settings = served.settings
        self._loop = served.loop
        self._decoder = FrameDecoder()
        self._user: OnlineUser | None = None
        self._is_closing = False
        self._is_reading = True
        self._batch: Timer | None = None  # of frames that are already here
        self.is_blocked = False
        self._has_sent = False  # since the last check of silence
        self._last_frame = self._loop.time()
        self._timer: Timer | None = None  # of login, silence and end
        self._blocked_timer: Timer | None = None

    # Called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(HIGH_WATER, LOW_WATER)
        peer = transport.get_extra_info("peername") or ("(gone)", 0)
        self._address = f"{peer[0]} {peer[1]}"
        self._served.add_guest(self)
        if self._served.is_stopping:
            self.fail(pb.Failure.STOPPING, "the server ends")
        else:
            self._await_login()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._served.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Called when the client has sent something. Discards it at the end."""
        if self._is_closing:
            return
        self._decoder.feed(self._served.buffer[:nbytes])
        self._handle_batch()

    def eof_received(self) -> None:
        """Called when the client has closed its direction: the user disconnects."""
        if not self._is_closing:
            size = self._decoder.size
            self._log(f"disconnected{' within a frame' if size else ''}")
            self._leave()
        # The transport closes itself, once the client has read the rest.
        self._cancel_timers()
        self._timer = self._loop.call_later(LINGER, self._transport.abort)

    def connection_lost(self, error: Exception | None) -> None:
        if error:
            self._log(f"lost: {error}")
        self._leave()
        self._cancel_timers()
        self._served.remove(self)

    def pause_writing(self) -> None:
        """Called when the client does not read."""
        self.is_blocked = True
        interval = self._settings.interval
        text = f"nothing read for {interval:g} s"
        self._blocked_timer = self._loop.call_later(
            interval, partial(self.fail, pb.Failure.TOO_SLOW, text)
        )
        self._on_blocked_changed()

    def resume_writing(self) -> None:
        self.is_blocked = False
        if self._blocked_timer:
            self._blocked_timer.cancel()
        self._on_blocked_changed()

    # Called by the directory

    def send(self, message: pb.FromServer) -> None:
        """Send a message. Does nothing for a connection that has ended."""
        if not self._is_closing:
            self._has_sent = True
            self._transport.write(encode_frame(message))

    def fail(self, code: pb.Failure.Code, text: str) -> None:
        """Report a failure, log the user out and disconnect."""
        if self._is_closing:
            return
        self._log(f"{pb.Failure.Code.Name(code)}: {text}")
        self.send(pb.FromServer(failure=pb.Failure(code=code, text=text)))
        self._leave()
        self._set_reading()
        try:
            self._transport.write_eof()
        except OSError:  # the client has already reset the connection
            self._transport.abort()
            return
        self._timer = self._loop.call_later(LINGER, self._transport.abort)

    def abort(self, reason: str) -> None:
        """Disconnect at once, without a message."""
        self._log(f"aborted: {reason}")
        self._is_closing = True
        self._cancel_timers()
        self._transport.abort()

    def on_partner_changed(self) -> None:
        """Called when a chat has begun or ended, or the partner reads again or not."""
        if not (self._is_reading or self._must_wait):
            self._handle_later()
        self._set_reading()

    # Parts of the above

    def _await_login(self) -> None:
        timeout = self._settings.login_timeout
        text = f"no login within {timeout:g} s"
        self._timer = self._loop.call_later(
            timeout, partial(self.fail, pb.Failure.TIMED_OUT, text)
        )

    def _handle_later(self) -> None:
        """Handle the next batch when other clients have had their turn."""
        self._batch = self._batch or self._loop.call_soon(self._handle_batch)

    def _handle_batch(self) -> None:
        """Handle some of the received frames."""
        if self._batch:
            self._batch.cancel()
            self._batch = None
        try:
            for _ in range(BATCH):
                if self._must_wait:
                    break
                frame = self._decoder.next_frame()
                if frame is None:
                    break
                self._handle(decode_message(pb.FromClient, frame))
            else:
                self._handle_later()
        except Violation as error:
            self.fail(error.code, str(error))
        except FrameError as error:
            self.fail(pb.Failure.INVALID_MESSAGE, str(error))
        except Exception:
            logger.exception("%s: internal error", self._address)
            self._leave()
            self._transport.abort()
        self._set_reading()

    def _handle(self, message: pb.FromClient) -> None:
        self._last_frame = self._loop.time()
        kind = message.WhichOneof("kind")
        user, directory = self._user, self._served.directory
        if user is None:
            if kind != "login":
                raise invalid("the first message is no login")
            self._log_in(message.login)
        elif kind == "list_users":
            directory.list_users(user)
        elif kind == "start_chat":
            directory.start_chat(user, message.start_chat)
        elif kind == "answer_chat":
            directory.answer_chat(user, message.answer_chat)
        elif kind == "content":
            directory.pass_on(user, message.content)
        elif kind == "exit_chat":
            directory.exit_chat(user, message.exit_chat.chat)
        elif kind != "keep_alive":
            raise invalid("a second login" if kind else "an unknown message")

    def _log_in(self, login: pb.Login) -> None:
        user = self._served.directory.log_in(self, login)
        self._user = user
        self._served.on_logged_in(self)
        self._log("logged in")
        settings = self._settings
        answer = pb.LoggedIn(
            name=user.name,
            resume_token=user.resume_token,
            interval=round(settings.interval * 1000),
            answer_timeout=round(settings.answer_timeout * 1000),
        )
        self.send(pb.FromServer(logged_in=answer))
        self._cancel_timers()
        self._check_silence_later()

    def _check_silence_later(self) -> None:
        half = self._settings.interval / 2
        self._timer = self._loop.call_later(half, self._check_silence)

    def _check_silence(self) -> None:
        """Send something if nothing has been sent, and expect the same of the client.

        Called twice per interval. While reading is paused, the client is not silent.
        """
        silence = self._settings.interval * SILENT_INTERVALS
        if self._is_reading and self._loop.time() - self._last_frame > silence:
            self.fail(pb.Failure.TIMED_OUT, f"no message for {silence:g} s")
            return
        if not self._has_sent:
            self.send(pb.FromServer(keep_alive=pb.KeepAlive()))
        self._has_sent = False
        self._check_silence_later()

    @property
    def _must_wait(self) -> bool:
        """True while no further message of this client can be handled."""
        if self._is_closing or self.is_blocked:
            return True
        partner = self._user.partner if self._user else None
        return bool(partner and partner.endpoint.is_blocked)

    def _on_blocked_changed(self) -> None:
        partner = self._user.partner if self._user else None
        if partner:
            partner.endpoint.on_partner_changed()
        self.on_partner_changed()

    def _set_reading(self) -> None:
        """Read if further messages can be handled, or are discarded."""
        may_read = self._is_closing or not (self._must_wait or self._batch)
        if may_read == self._is_reading:
            return
        self._is_reading = may_read
        if may_read:
            self._last_frame = self._loop.time()
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def _leave(self) -> None:
        """Log the user out, and handle no further message."""
        self._is_closing = True
        user, self._user = self._user, None
        if user:
            self._served.add_guest(self)
            self._served.directory.log_out(user)
        self._cancel_timers()

    def _cancel_timers(self) -> None:
        for timer in (self._timer, self._blocked_timer):
            if timer:
                timer.cancel()

    def _log(self, text: str) -> None:
        name = f" {self._user.name}" if self._user else ""
        logger.info("%s%s: %s", self._address, name, text)
