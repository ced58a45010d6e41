"""The reason of a session's end as a label with a bounded number of values.

Each new value of a label is a new series for ever. A reason may hold text of a peer or
of an application, which must not make series.
"""

from __future__ import annotations

from chimirror.protocol import CLOSE_REASONS, CONTROL, EXIT_SIGNAL, EXIT_STATUS

ERROR = "error"  # every other reason
LOST = "lost"  # the process that served the session was killed
UNKNOWN = "unknown"  # no reason
# Reasons of a connection that ended without a close frame.
_CONNECTION = ("client gone", "ping timeout")
_VARYING = (EXIT_STATUS, EXIT_SIGNAL)
_FIXED = {
    *_CONNECTION,
    *(
        row.text
        for row in CLOSE_REASONS
        if row.text == row.pattern and row.scope != CONTROL and row not in _VARYING
    ),
}
_MAX_STATUS = 255
_MAX_SIGNAL_NAME = 8  # characters: VTALRM, 64


def reason_label(reason: str) -> str:
    """Return the label for the reason in the record of an end.

    Fixed reasons, `exit N` and `signal NAME` stay as they are. The text after a fixed
    reason is cut off. Codes of a client are kept below 1016, where they have a meaning:
    otherwise `client close 3xxx` or `client close 4xxx`.

    Args:
        reason: The text of the close reason, or what `chimirror-ctl history` shows.
    """
    if not reason:
        return UNKNOWN
    fixed = reason.partition(":")[0]
    if fixed in _FIXED or fixed == LOST:
        return fixed
    kind, _, rest = reason.rpartition(" ")
    if kind == "exit" and _is_number(rest, _MAX_STATUS):
        return reason
    if kind == "signal" and rest.isalnum() and len(rest) <= _MAX_SIGNAL_NAME:
        return reason
    if kind == "client close" and _is_number(rest, 4999):
        return reason if int(rest) < 1016 else f"client close {rest[0]}xxx"
    return ERROR


def _is_number(text: str, largest: int) -> bool:
    return text.isascii() and text.isdecimal() and int(text) <= largest
