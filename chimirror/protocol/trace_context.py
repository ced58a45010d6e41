"""The trace of a request, in variables without HTTP_ (OpenTelemetry).

TRACEPARENT and TRACESTATE follow W3C Trace Context, BAGGAGE follows W3C Baggage. A text
that breaks their grammar is left out as a whole, as these standards ask for. Loaded
with the first request that has such a field.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.protocol.http import HTTPRequest

_HEX = b"0123456789abcdef"
_LOWER = b"abcdefghijklmnopqrstuvwxyz"
_DIGITS = b"0123456789"
_KEY = _LOWER + _DIGITS + b"_-*/"
_STATE_VALUE = bytes(sorted(set(range(0x20, 0x7F)) - set(b",=")))
# RFC 9110, section 5.6.2
_TOKEN = b"!#$%&'*+-.^_`|~" + _DIGITS + _LOWER + _LOWER.upper()
_BAGGAGE_VALUE = bytes(sorted(set(range(0x21, 0x7F)) - set(b'",;\\')))
MAX_MEMBERS = 32  # of tracestate
MAX_KEY = 256  # bytes
MAX_VALUE = 256
MAX_BAGGAGE = 8192  # bytes
MAX_ENTRIES = 64  # of baggage
_BLANK = b" \t"


def variables(request: HTTPRequest) -> dict[str, str]:
    """Return the variables of the trace fields that are well formed."""
    found: dict[str, str] = {}
    parents = request.get_all(b"traceparent")
    if len(parents) == 1 and is_traceparent(parents[0]):
        found["TRACEPARENT"] = parents[0].decode("ascii")
        state = b",".join(request.get_all(b"tracestate"))
        if state and is_tracestate(state):
            found["TRACESTATE"] = state.decode("ascii")
    baggage = b",".join(request.get_all(b"baggage"))
    if baggage and is_baggage(baggage):
        found["BAGGAGE"] = baggage.decode("ascii")
    return found


def is_traceparent(value: bytes) -> bool:
    """Tell whether this is a traceparent (Trace Context, section 3.2).

    A later version may have more after the four parts of version 00.
    """
    head, rest = value[:55], value[55:]
    parts = head.split(b"-")
    if [len(part) for part in parts] != [2, 32, 16, 2]:
        return False
    version, trace, parent, _ = parts
    if b"".join(parts).translate(None, _HEX) or version == b"ff":
        return False
    if rest and (version == b"00" or rest[:1] != b"-"):
        return False
    return rest.translate(None, _STATE_VALUE) == b"" and bool(
        trace.strip(b"0") and parent.strip(b"0")
    )


def is_tracestate(value: bytes) -> bool:
    """Tell whether this is a tracestate (Trace Context, section 3.3)."""
    members = [part.strip(_BLANK) for part in value.split(b",")]
    members = [member for member in members if member]
    keys = [member.partition(b"=")[0] for member in members]
    return (
        0 < len(members) <= MAX_MEMBERS
        and len(set(keys)) == len(keys)
        and all(map(_is_member, members))
    )


def _is_member(member: bytes) -> bool:
    key, equals, value = member.partition(b"=")
    tenant, at, system = key.partition(b"@")
    if at:
        is_key = (
            0 < len(tenant) <= 241
            and tenant[:1] in _split(_LOWER + _DIGITS)
            and 0 < len(system) <= 14
            and system[:1] in _split(_LOWER)
        )
    else:
        is_key = 0 < len(key) <= MAX_KEY and key[:1] in _split(_LOWER)
    return (
        is_key
        and not (tenant + system).translate(None, _KEY)
        and bool(equals and value)
        and len(value) <= MAX_VALUE
        and not value.translate(None, _STATE_VALUE)
    )


def _split(letters: bytes) -> set[bytes]:
    return {bytes([letter]) for letter in letters}


def is_baggage(value: bytes) -> bool:
    """Tell whether this is baggage (W3C Baggage, section 3.3)."""
    members = value.split(b",")
    return (
        len(value) <= MAX_BAGGAGE
        and len(members) <= MAX_ENTRIES
        and all(map(_is_entry, members))
    )


def _is_entry(member: bytes) -> bool:
    first, *properties = member.split(b";")
    return _is_pair(first, needs_value=True) and all(
        _is_pair(each, needs_value=False) for each in properties
    )


def _is_pair(text: bytes, *, needs_value: bool) -> bool:
    key, equals, value = text.partition(b"=")
    key, value = key.strip(_BLANK), value.strip(_BLANK)
    return (
        bool(key and (equals or not needs_value))
        and not key.translate(None, _TOKEN)
        and not value.translate(None, _BAGGAGE_VALUE)
    )
