"""Users of `chat server`, their requests and their chats.

A state machine without input and output. A user is free, is asking another, is asked
by another, or is in a chat: all but the first are one `Chat`, which two users share.
Contents are passed on and never parsed. Messages about a chat that has ended are
ignored. A message that no correct client sends raises Violation.

Knows neither sockets nor frames, and gets its timers from the event loop.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import chat_pb2 as pb
from chat.limits import KEY_SIZE, MAX_NAME, MAX_SEALED, NONCE_SIZE
from chat.names import InvalidName, name_key, normalize_name
from chat.violation import Violation, check_size, invalid

if TYPE_CHECKING:
    from collections.abc import Callable

TOKEN_SIZE = 16
Reason = pb.ChatNotStarted


class Timer(Protocol):
    """A call in the future."""

    def cancel(self) -> None: ...


class Endpoint(Protocol):
    """The connection of a user."""

    @property
    def is_blocked(self) -> bool:
        """True while the client does not read what has been sent to it."""

    def send(self, message: pb.FromServer) -> None: ...

    def fail(self, code: pb.Failure.Code, text: str) -> None:
        """Report a failure, log the user out and disconnect."""

    def abort(self, reason: str) -> None:
        """Disconnect at once, without a message."""

    def on_partner_changed(self) -> None:
        """Called when a chat with another user has begun or ended."""


@dataclass(eq=False, slots=True)
class OnlineUser:
    """A user who is logged in."""

    name: str
    public_key: bytes
    endpoint: Endpoint
    resume_token: bytes = field(default_factory=lambda: secrets.token_bytes(TOKEN_SIZE))
    chat: Chat | None = None

    @property
    def partner(self) -> OnlineUser | None:
        """The other user of a chat that has started."""
        chat = self.chat
        return chat.other(self) if chat and chat.is_started else None


@dataclass(eq=False, slots=True)
class Chat:
    """A request for a chat, or the chat that came of it."""

    number: int
    caller: OnlineUser
    callee: OnlineUser
    caller_nonce: bytes
    timer: Timer
    is_started: bool = False

    def other(self, user: OnlineUser) -> OnlineUser:
        return self.callee if user is self.caller else self.caller


class UserDirectory:
    """All users of a server. Each method handles one kind of message.

    Args:
        call_later: calls a function after some seconds.
        answer_timeout: seconds in which a request for a chat is to be answered.
        max_users: number of users. A user who logs in again is no further one.
    """

    def __init__(
        self,
        call_later: Callable[[float, Callable[[], object]], Timer],
        answer_timeout: float,
        max_users: int,
    ) -> None:
        self._call_later = call_later
        self._answer_timeout = answer_timeout
        self._max_users = max_users
        self._users: dict[str, OnlineUser] = {}
        self._last_chat = 0
        self._listing: pb.FromServer | None = None  # until a user changes

    def log_in(self, endpoint: Endpoint, login: pb.Login) -> OnlineUser:
        """Add a user.

        Raises:
            Violation: for an invalid key, an invalid name, one that is taken, or too
                many users.
        """
        try:
            name = normalize_name(login.name)
        except InvalidName as error:
            raise Violation(pb.Failure.INVALID_NAME, str(error)) from None
        check_size("public key", login.public_key, KEY_SIZE)
        if holder := self._users.get(name_key(name)):
            token = login.resume_token
            if not secrets.compare_digest(holder.resume_token, token):
                raise Violation(pb.Failure.NAME_TAKEN, f"{name} is logged in")
            text = "you have logged in from another connection"
            holder.endpoint.fail(pb.Failure.REPLACED, text)
        if len(self._users) >= self._max_users:
            text = f"{self._max_users} users are logged in"
            raise Violation(pb.Failure.SERVER_FULL, text)
        user = OnlineUser(name, login.public_key, endpoint)
        self._users[name_key(name)] = user
        self._listing = None
        return user

    def log_out(self, user: OnlineUser) -> None:
        """Forget a user, and tell the other user of the chat or request."""
        del self._users[name_key(user.name)]
        self._listing = None
        chat = user.chat
        if chat is None:
            return
        other = chat.other(user)
        self._end(chat)
        if chat.is_started:
            send_ended(chat, other, pb.ChatEnded.DISCONNECTED)
        else:
            send_not_started(chat, other, Reason.DISCONNECTED)

    def list_users(self, user: OnlineUser) -> None:
        """Send the names of all users."""
        if self._listing is None:
            found = [
                pb.User(name=user.name, available=user.chat is None)
                for _, user in sorted(self._users.items())
            ]
            self._listing = pb.FromServer(users=pb.Users(users=found))
        user.endpoint.send(self._listing)

    def start_chat(self, user: OnlineUser, request: pb.StartChat) -> None:
        """Ask another user, or tell why that is impossible."""
        check_size("nonce", request.nonce, NONCE_SIZE)
        try:
            target = self._users.get(name_key(normalize_name(request.name)))
        except InvalidName:
            target = None
        chat = user.chat
        is_asked = chat and chat.callee is user and not chat.is_started
        if chat and is_asked and chat.caller is target:
            self._start(chat, request.nonce)
        elif reason := refusal_of(user, target):
            name = target.name if target else request.name[:MAX_NAME]
            refusal = pb.ChatNotStarted(name=name, reason=reason)
            user.endpoint.send(pb.FromServer(chat_not_started=refusal))
        elif target:
            self._ask(user, target, request.nonce)

    def answer_chat(self, user: OnlineUser, answer: pb.AnswerChat) -> None:
        """Start the chat for which the user is asked, or tell the caller of a no."""
        chat = self._chat_of(user, answer.chat)
        if chat is None or chat.is_started:
            return  # it has ended, or both have asked each other
        if chat.caller is user:
            raise invalid("an answer to the own request")
        if not answer.accepted:
            self._end(chat)
            send_not_started(chat, chat.caller, Reason.REFUSED)
            return
        check_size("nonce", answer.nonce, NONCE_SIZE)
        self._start(chat, answer.nonce)

    def pass_on(self, user: OnlineUser, content: pb.SealedContent) -> None:
        """Send content to the partner."""
        if not 0 < len(content.sealed) <= MAX_SEALED:
            raise invalid(f"content of {len(content.sealed)} bytes")
        chat = self._chat_of(user, content.chat)
        if chat is None:
            return
        if not chat.is_started:
            raise invalid("content before the chat has started")
        passed = pb.SealedContent(chat=chat.number, sealed=content.sealed)
        chat.other(user).endpoint.send(pb.FromServer(content=passed))

    def exit_chat(self, user: OnlineUser, number: int) -> None:
        """End a chat, withdraw a request or refuse one."""
        chat = self._chat_of(user, number)
        if chat is None:
            return
        self._end(chat)
        if chat.is_started:
            send_ended(chat, chat.other(user), pb.ChatEnded.EXITED)
        elif chat.caller is user:
            send_not_started(chat, chat.callee, Reason.WITHDRAWN)
        else:
            send_not_started(chat, chat.caller, Reason.REFUSED)

    def _chat_of(self, user: OnlineUser, number: int) -> Chat | None:
        """Return the user's chat with this number, or None if it has ended."""
        if not 0 < number <= self._last_chat:
            raise invalid(f"a chat {number}, which has never been")
        chat = user.chat
        return chat if chat and chat.number == number else None

    def _ask(self, caller: OnlineUser, callee: OnlineUser, nonce: bytes) -> None:
        self._last_chat += 1
        number = self._last_chat
        timer = self._call_later(self._answer_timeout, lambda: self._time_out(chat))
        chat = Chat(number, caller, callee, nonce, timer)
        caller.chat = callee.chat = chat
        self._listing = None
        asked = pb.ChatAsked(chat=number, name=callee.name)
        caller.endpoint.send(pb.FromServer(chat_asked=asked))
        requested = pb.ChatRequested(chat=number, name=caller.name)
        callee.endpoint.send(pb.FromServer(chat_requested=requested))

    def _time_out(self, chat: Chat) -> None:
        self._end(chat)
        for user in (chat.caller, chat.callee):
            send_not_started(chat, user, Reason.TIMED_OUT)

    def _start(self, chat: Chat, callee_nonce: bytes) -> None:
        chat.timer.cancel()
        chat.is_started = True
        nonces = {chat.caller: chat.caller_nonce, chat.callee: callee_nonce}
        for user in nonces:
            other = chat.other(user)
            partner = pb.Partner(
                name=other.name, public_key=other.public_key, nonce=nonces[other]
            )
            started = pb.ChatStarted(chat=chat.number, partner=partner)
            user.endpoint.send(pb.FromServer(chat_started=started))
            user.endpoint.on_partner_changed()

    def _end(self, chat: Chat) -> None:
        """Make both users free. The caller of this method tells them."""
        chat.timer.cancel()
        chat.caller.chat = chat.callee.chat = None
        self._listing = None
        if chat.is_started:
            chat.caller.endpoint.on_partner_changed()
            chat.callee.endpoint.on_partner_changed()


def refusal_of(
    user: OnlineUser, target: OnlineUser | None
) -> pb.ChatNotStarted.Reason | None:
    """Return why a user cannot ask another, or None."""
    if user.chat:
        return Reason.OCCUPIED
    if target is None:
        return Reason.NO_SUCH_USER
    if target is user:
        return Reason.YOURSELF
    if target.chat or target.endpoint.is_blocked:
        return Reason.NOT_AVAILABLE
    return None


def send_ended(chat: Chat, user: OnlineUser, reason: pb.ChatEnded.Reason) -> None:
    name = chat.other(user).name
    ended = pb.ChatEnded(chat=chat.number, name=name, reason=reason)
    user.endpoint.send(pb.FromServer(chat_ended=ended))


def send_not_started(
    chat: Chat, user: OnlineUser, reason: pb.ChatNotStarted.Reason
) -> None:
    name = chat.other(user).name
    refusal = pb.ChatNotStarted(chat=chat.number, name=name, reason=reason)
    user.endpoint.send(pb.FromServer(chat_not_started=refusal))
