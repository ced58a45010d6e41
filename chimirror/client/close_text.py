"""Describes close codes in words, and whether another session may succeed. Pure.

tests/support/retry_cases.json has the cases of all clients.
"""

from __future__ import annotations

from chimirror.text import escape_line

# RFC 6455, section 7.4.1, and the IANA registry of close codes.
CLOSE_CODES = {
    1000: "normal",
    1001: "going away",
    1002: "protocol error",
    1003: "binary refused",
    1005: "no code given",
    1006: "connection cut",
    1007: "not UTF-8",
    1008: "policy",
    1009: "message too big",
    1010: "extension missing",
    1011: "failure at the other end",
    1012: "restart",
    1013: "try again later",
    1014: "bad gateway",
    3000: "unauthorized",
    3003: "forbidden",
    3008: "timeout",
}

# The reason for which a server closes sessions that outlast its own end.
DRAIN = "drain"

# Closes after which another session may succeed: chimirror-protocol(7), section CLOSE.
RETRY_CODES = frozenset({1006, 1012, 1013, 1014})
RETRY_REASONS = frozenset({(1001, ""), (1001, DRAIN)})


def is_retry_useful(code: int, reason: str) -> bool:
    """Whether another session may succeed without a change.

    Args:
        code: Code of the close frame, 1006 without a close frame.
        reason: Its reason.
    """
    return code in RETRY_CODES or (code, reason) in RETRY_REASONS


def close_text(code: int, reason: str) -> str:
    """Describe a close frame: `close 1001 (going away): idle`."""
    meaning = CLOSE_CODES.get(code)
    text = f"close {code}" + (f" ({meaning})" if meaning else "")
    if reason:
        text += f": {escape_line(reason, 256)}"
    return f"{text} (the server is shutting down)" if reason == DRAIN else text
