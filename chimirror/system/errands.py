"""What is asked of whoever starts processes, and what it answers: one JSON per packet.

The same packets travel between a worker and the zygote, between a worker and the
supervisor, and between a local client and chimirror-zygote; chimirror-protocol(7)
describes them. Pure: a packet in, an errand out, and back. The first member names the
errand; members that are not known are ignored.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Never, get_args

import orjson

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

Texts = Mapping[str, str]
Numbers = Mapping[str, int]
Ends = Sequence[Sequence[Any]]
SESSIONS = 1000  # in one packet, at most
NOTHING: Mapping[str, Never] = {}


class Nonsense(ValueError):
    """A packet that is no errand."""


class Start(NamedTuple):
    """Start an application; the number is the asker's, for the answer."""

    start: int
    environment: Texts = NOTHING
    stderr: bool = True  # a third pipe, else the null device
    command: Sequence[str] = ()  # of one that was found in a file, by a worker
    directory: str = ""  # where that starts
    pty: bool = False  # a terminal, for its standard error too
    control: bool = False  # a control channel, too


class Started(NamedTuple):
    """It runs; the packet carries its stdin, its stdout and what else was asked for.

    That is stderr, and last the control channel. Of one with a terminal its stdin and
    its stdout are the master, twice.
    """

    started: int
    pid: int
    session: str = ""


class Failed(NamedTuple):
    """It could not be started."""

    failed: int
    reason: str
    shortage: bool = False  # of what may be there again in a moment


class Exited(NamedTuple):
    """Applications have ended: of each its pid, its status, and what is left.

    The status is negative for a signal and null where nobody can know it any more; what
    is left is whether its process group has outlived it.
    """

    exited: Ends


class Signal(NamedTuple):
    """Signal an application's process group.

    With a session, only if the number is still that session's: it may have ended, and
    the number have been given away, before this arrives.
    """

    signal: int
    pid: int
    session: str = ""


class Finish(NamedTuple):
    """These sessions are over: end what their applications have left behind."""

    finish: Sequence[str]


class Over(NamedTuple):
    """These sessions are over: of each, the process group that is left, or 0."""

    over: Numbers


class Adopt(NamedTuple):
    """The zygote of this generation is dead: these sessions were started over it."""

    adopt: Numbers  # applications that ran, by session
    ended: Numbers = NOTHING  # whose exit was told: process groups left, or 0
    zygote: int = 0
    more: bool = False  # another such packet follows


class Zygote(NamedTuple):
    """The packet carries a link to the zygote of this generation."""

    zygote: int


class Link(NamedTuple):
    """The packet carries a link over which a worker will ask."""

    link: int


class Ready(NamedTuple):
    """The zygote has made its preparations."""

    ready: bool = True


class Stop(NamedTuple):
    """End everything at once."""

    stop: bool = True


class Refused(NamedTuple):
    """Nothing will be done for this asker."""

    refused: str


Errand = (
    Start
    | Started
    | Failed
    | Exited
    | Signal
    | Finish
    | Over
    | Adopt
    | Zygote
    | Link
    | Ready
    | Stop
    | Refused
)
KINDS: dict[str, type[Errand]] = {kind._fields[0]: kind for kind in get_args(Errand)}


def encode(errand: Errand) -> bytes:
    """The packet.

    Undecodable bytes in an environment travel as lone surrogates, which orjson refuses
    both ways; it needs 1 µs for a `start` where json needs 8.
    """
    members = errand._asdict()
    try:
        return orjson.dumps(members)
    except TypeError:
        return json.dumps(members, separators=(",", ":")).encode()


def decode(packet: bytes) -> Errand:
    """The errand in a packet.

    Raises:
        Nonsense: it is none.
    """
    try:
        members = orjson.loads(packet)
    except ValueError:
        members = _decode_slowly(packet)
    if not isinstance(members, dict) or not members:
        raise Nonsense("it is no JSON object")
    name = next(iter(members))
    kind = KINDS.get(name)
    if kind is None:
        raise Nonsense(f"{name!r} is no errand")
    values: list[Any] = []
    for field, rule, default in _SHAPES[name]:
        value = members.get(field, default)
        if not rule(value):
            what = "is wrong" if field in members else "is missing"
            raise Nonsense(f"{name}: {field} {what}")
        values.append(value)
    return kind(*values)


def _decode_slowly(packet: bytes) -> object:
    try:
        return json.loads(packet)
    except (ValueError, RecursionError) as error:
        raise Nonsense("it is not JSON") from error


def _is_number(value: object) -> bool:
    return type(value) is int and 0 <= value < 1 << 53


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
    return _is_number(pid) and _is_status(status) and _is_flag(survivors)


def _are_texts(value: object) -> bool:
    return isinstance(value, dict) and set(map(type, value.values())) <= {str}


def _is_list(value: object) -> bool:
    return isinstance(value, list | tuple) and set(map(type, value)) <= {str}


def _are_numbers(value: object) -> bool:
    return isinstance(value, dict) and all(map(_is_number, value.values()))


_RULES: dict[str, Callable[[object], bool]] = {
    **dict.fromkeys(("start", "started", "failed"), _is_number),
    **dict.fromkeys(("pid", "zygote", "link"), _is_number),
    "signal": _is_signal,
    **dict.fromkeys(("stderr", "shortage", "pty", "control"), _is_flag),
    **dict.fromkeys(("more", "ready", "stop"), _is_flag),
    **dict.fromkeys(("directory", "session", "reason", "refused"), _is_text),
    "environment": _are_texts,
    **dict.fromkeys(("command", "finish"), _is_list),
    "exited": _are_ends,
    "over": _are_numbers,
    "adopt": _are_numbers,
    "ended": _are_numbers,
}
_MISSING = object()  # no rule allows it
_SHAPES = {
    name: [
        (field, _RULES[field], kind._field_defaults.get(field, _MISSING))
        for field in kind._fields
    ]
    for name, kind in KINDS.items()
}
