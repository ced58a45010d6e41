"""Messages between a spawn client and a spawn handler: one JSON object per packet.

They travel between a worker and the zygote, between a worker and the supervisor, and
between a local client and chimirror-zygote. chimirror-protocol(7) describes them. Pure:
encodes and decodes packets. The first member names the message, and unknown members are
ignored.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Never, get_args

import orjson

from chimirror.io.packet_socket import PacketError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

Texts = Mapping[str, str]
Numbers = Mapping[str, int]
Ends = Sequence[Sequence[Any]]
Signals = Sequence[Sequence[Any]]
MAX_SESSIONS = 1000  # per packet, and signals or ends
MAX_REASON = 1000  # characters of a text in a response
MAX_SESSION_ID = 256  # bytes
MAX_PID = (1 << 31) - 1
NOTHING: Mapping[str, Never] = {}


class MessageError(PacketError):
    """A packet that is no valid message.

    Attributes:
        start: the number of the StartRequest that it was meant to be, or 0.
    """

    def __init__(self, text: str, start: int = 0) -> None:
        super().__init__(text)
        self.start = start


class StartRequest(NamedTuple):
    """Start an application. The reply carries the same number."""

    start: int
    environment: Texts = NOTHING
    stderr: bool = True  # a third pipe, otherwise the null device
    command: Sequence[str] = ()  # from an application file, which a worker has read
    directory: str = ""  # its working directory
    pty: bool = False  # a terminal, for standard error too
    control: bool = False  # a control channel in addition
    user: Sequence[int] = ()  # of the command: a user, its group, its other groups
    size: Sequence[int] = ()  # columns and rows of the terminal
    cgroup: str = ""  # directory of the cgroup that it is started in


class StartReply(NamedTuple):
    """An application runs. The packet carries the requested descriptors.

    They are stdin, stdout, stderr if requested, and last the control channel. With a
    terminal, stdin and stdout are the master, twice.
    """

    started: int
    pid: int
    session: str = ""


class StartFailed(NamedTuple):
    """An application could not be started."""

    failed: int
    reason: str
    shortage: bool = False  # the lack may pass in a moment


class ExitNotice(NamedTuple):
    """Applications have ended: the pid, status and survivors of each.

    The status is negative for a signal, and null if it is lost. Survivors tells if the
    process group has outlived the application.
    """

    exited: Ends


class SignalProcess(NamedTuple):
    """Signal the process group of an application.

    With a session, the pid must still belong to it. The application may have ended, and
    the pid may have been reused, before this message arrives.
    """

    signal: int
    pid: int
    session: str = ""


class SignalBatch(NamedTuple):
    """Signals of a worker: the number, pid and session of each, in order.

    SignalsTaken answers, and the worker sends the next batch only then. Signals that
    wait until then are merged, so a flood of them costs little.
    """

    signals: Signals


class SignalsTaken(NamedTuple):
    """The signals of a SignalBatch have been sent."""

    taken: int


class FinishRequest(NamedTuple):
    """These sessions have ended: end the strays of their applications."""

    finish: Sequence[str]


class SessionsOver(NamedTuple):
    """These sessions have ended: the surviving process group of each, or 0.

    A zygote or a worker sends it to the supervisor.
    """

    over: Numbers


class AdoptRequest(NamedTuple):
    """The zygote of this generation is dead: these sessions were started over it."""

    adopt: Numbers  # running applications, by session
    ended: Numbers = NOTHING  # exits reported before: surviving process groups, or 0
    zygote: int = 0
    more: bool = False  # another AdoptRequest follows


class ZygoteLinkMessage(NamedTuple):
    """The packet carries a link to the zygote of this generation."""

    zygote: int


class WorkerLinkMessage(NamedTuple):
    """The packet carries a link for the requests of a worker."""

    link: int
    worker: int = 0  # its number


class Ready(NamedTuple):
    """The zygote is ready to start applications."""

    ready: bool = True


class StopRequest(NamedTuple):
    """End all applications at once."""

    stop: bool = True


class RequestRefused(NamedTuple):
    """The sender gets no service. The text says why."""

    refused: str


Message = (
    StartRequest
    | StartReply
    | StartFailed
    | ExitNotice
    | SignalProcess
    | SignalBatch
    | SignalsTaken
    | FinishRequest
    | SessionsOver
    | AdoptRequest
    | ZygoteLinkMessage
    | WorkerLinkMessage
    | Ready
    | StopRequest
    | RequestRefused
)
KINDS: dict[str, type[Message]] = {kind._fields[0]: kind for kind in get_args(Message)}


def encode(message: Message) -> bytes:
    """Encode a message.

    Undecodable bytes in an environment travel as lone surrogates. orjson rejects these
    in both directions, but needs 1 µs for a start request, and json 8 µs.
    """
    members = message._asdict()
    try:
        return orjson.dumps(members)
    except TypeError:
        return json.dumps(members, separators=(",", ":")).encode()


def decode(packet: bytes) -> Message:
    """Decode a packet.

    Raises:
        MessageError: The packet is no valid message.
    """
    try:
        members = orjson.loads(packet)
    except ValueError:
        members = _decode_slowly(packet)
    if not isinstance(members, dict) or not members:
        raise MessageError("it is no JSON object")
    name = next(iter(members))
    kind = KINDS.get(name)
    if kind is None:
        raise MessageError(f"{name[:MAX_REASON]!r} is not a known message")
    values: list[Any] = []
    for field, rule, default in _SHAPES[name]:
        value = members.get(field, default)
        if not rule(value):
            problem = "is wrong" if field in members else "is missing"
            raise MessageError(f"{name}: {field} {problem}", _start_number(members))
        values.append(value)
    return kind(*values)


def _start_number(members: dict[str, object]) -> int:
    """Return the number of a faulty StartRequest, or 0."""
    number = members.get("start")
    return number if isinstance(number, int) and _is_number(number) else 0


def _decode_slowly(packet: bytes) -> object:
    try:
        return json.loads(packet)
    except (ValueError, RecursionError) as error:
        raise MessageError("it is not JSON") from error


def _is_number(value: object) -> bool:
    return type(value) is int and 0 <= value < 1 << 53


def _is_pid(value: object) -> bool:
    return type(value) is int and 0 <= value <= MAX_PID


def _is_signal(value: object) -> bool:
    return type(value) is int and 0 < value <= 64


def _is_status(value: object) -> bool:
    return value is None or (type(value) is int and -128 < value < 256)


def _is_flag(value: object) -> bool:
    return type(value) is bool


def _is_text(value: object) -> bool:
    return type(value) is str


def _are_ends(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_end, value))


def _is_end(value: object) -> bool:
    if not isinstance(value, list) or len(value) != 3:
        return False
    pid, status, survivors = value
    return _is_pid(pid) and _is_status(status) and _is_flag(survivors)


def _are_signals(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_signal_entry, value))


def _is_signal_entry(value: object) -> bool:
    if not isinstance(value, list) or len(value) != 3:
        return False
    number, pid, session = value
    return _is_signal(number) and _is_pid(pid) and _is_text(session)


def _are_texts(value: object) -> bool:
    return isinstance(value, dict) and set(map(type, value.values())) <= {str}


def _is_list(value: object) -> bool:
    return isinstance(value, list | tuple) and set(map(type, value)) <= {str}


def _are_sessions(value: object) -> bool:
    """Return True for sessions with a pid each. They are looked for in environments."""
    return isinstance(value, dict) and all(
        _is_pid(pid) and is_session(session) for session, pid in value.items()
    )


def is_session(value: str) -> bool:
    """Return True for a session id that is short, and a text that can be encoded."""
    try:
        return len(value.encode(errors="surrogateescape")) <= MAX_SESSION_ID
    except UnicodeEncodeError:
        return False


def _are_ids(value: object) -> bool:
    if not isinstance(value, list | tuple) or len(value) == 1:
        return False
    return all(type(each) is int and 0 <= each < (1 << 32) - 1 for each in value)


def _is_terminal_size(value: object) -> bool:
    if not isinstance(value, list | tuple) or len(value) not in (0, 2):
        return False
    return all(type(each) is int and 0 < each < 1 << 16 for each in value)


_RULES: dict[str, Callable[[object], bool]] = {
    **dict.fromkeys(("start", "started", "failed"), _is_number),
    **dict.fromkeys(("zygote", "link", "worker", "taken"), _is_number),
    "pid": _is_pid,
    "signals": _are_signals,
    "signal": _is_signal,
    **dict.fromkeys(("stderr", "shortage", "pty", "control"), _is_flag),
    **dict.fromkeys(("more", "ready", "stop"), _is_flag),
    **dict.fromkeys(("directory", "cgroup", "session", "reason"), _is_text),
    "refused": _is_text,
    "environment": _are_texts,
    **dict.fromkeys(("command", "finish"), _is_list),
    "user": _are_ids,
    "size": _is_terminal_size,
    "exited": _are_ends,
    **dict.fromkeys(("over", "adopt", "ended"), _are_sessions),
}
_MISSING = object()  # not accepted by any rule
_SHAPES = {
    name: [
        (field, _RULES[field], kind._field_defaults.get(field, _MISSING))
        for field in kind._fields
    ]
    for name, kind in KINDS.items()
}
