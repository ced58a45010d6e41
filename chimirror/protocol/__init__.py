"""The wire protocol, as pure functions and state machines: bytes in, values out.

Layer 0. Knows no descriptor, no clock, no process and no session.
chimirror-protocol(7) describes the whole protocol. This file holds the table of close
codes and reasons (RFC 6455, section 7.4), each exactly once.

- http, addresses, forwarded, proxy_protocol: the request head, and its source
- policy, handshake, terminal_size, request_cache, routes, cgi: the decision about a
  request
- frame_format, frame_reader, frame_runs, frame_fallback: WebSocket frames
- json_text, json_members: strict JSON (RFC 8259), checked and split into members
- jsonrpc: JSON-RPC 2.0 on control connections

Imports no other package of chimirror. Besides the standard library, `frame_fallback`
imports wsproto, `json_text` and `jsonrpc` import orjson. The bridge loads this file
before the first byte, so it imports nothing itself.
"""

from __future__ import annotations

# Scopes of a close reason, besides the names of framings.
RECEIVE = "receive"  # applications with --direction receive
CONTROL = "control"  # control connections

MAX_TERMINAL_SIZE = 65535  # columns or rows: the kernel's fields have two bytes
MAX_WINDOW = 2**53 - 1  # bytes: the largest integer that is exact in JavaScript


class CloseReason:
    """Code and reason of one kind of close frame.

    Attributes:
        code: The close code.
        text: The reason in the frame, at most 123 bytes.
        pattern: The reason as documents show it. Differs from the text where a part
            of the text varies: `exit N`.
        meaning: The explanation in manifests and in chimirror-protocol(7).
        scope: Empty if the reason concerns every session, else the name of a framing,
            RECEIVE or CONTROL.
        retry: Another session may succeed without a change. False too where the
            session did what it should.
    """

    __slots__ = ("code", "meaning", "pattern", "retry", "scope", "text")

    def __init__(
        self,
        code: int,
        pattern: str,
        meaning: str,
        scope: str = "",
        text: str = "",
        *,
        retry: bool = False,
    ) -> None:
        self.code = code
        self.pattern = pattern
        self.meaning = meaning
        self.scope = scope
        self.text = text or pattern
        self.retry = retry

    def with_text(self, text: str) -> CloseReason:
        """Return this reason with the actual text of a pattern."""
        row = self.code, self.pattern, self.meaning, self.scope
        return CloseReason(*row, text, retry=self.retry)


# Every close code and reason that the server sends, in the order of the manual.
CLOSE_REASONS = (
    EXIT_ZERO := CloseReason(1000, "exit 0", "the application exited with status 0"),
    CLOSED_BY_CONTROL := CloseReason(
        1000, "closed", "a control connection closed the session"
    ),
    CONTROL_OVER := CloseReason(1000, "control over", "the session has ended", CONTROL),
    IDLE_TIMEOUT := CloseReason(
        1001, "idle", "no message for longer than --idle-timeout"
    ),
    SESSION_TIMEOUT := CloseReason(
        1001, "time", "the session exceeded --session-timeout"
    ),
    DRAIN := CloseReason(
        1001, "drain", "the server shuts down; connect again", retry=True
    ),
    CLOSED_BY_OPERATOR := CloseReason(
        1001,
        "closed by operator",
        "an operator closed the session; do not connect again by yourself",
    ),
    KILLED_BY_OPERATOR := CloseReason(
        1001,
        "killed by operator",
        "an operator killed the application; do not connect again by yourself",
    ),
    PROTOCOL_ERROR := CloseReason(1002, "protocol", "the client violated RFC 6455"),
    BINARY_FRAME := CloseReason(
        1003,
        "binary",
        "the client sent a binary frame, in lines and lsp one that is not UTF-8",
    ),
    NOT_UTF8 := CloseReason(1007, "not UTF-8", "a message is not UTF-8"),
    LINE_BREAK := CloseReason(
        1007,
        "line break outside JSON",
        "a message of several lines is not a JSON text; send each line alone",
        "lines",
    ),
    NOT_JSON := CloseReason(1007, "not JSON", "a message is not a JSON text", "lsp"),
    BAD_CLIENT_HEADER := CloseReason(
        1007,
        "bad header",
        "the client's byte stream has something other than a header",
        "lsp",
    ),
    RECEIVE_ONLY := CloseReason(
        1008, "this application only sends", "the client sent input", RECEIVE
    ),
    NOT_AUTHORIZED := CloseReason(
        1008, "not authorized", "the first message is not a JSON-RPC request", CONTROL
    ),
    AUTHORIZE_TIMEOUT := CloseReason(
        1008, "not authorized in time", "authorize did not succeed in time", CONTROL
    ),
    AUTHORIZE_FAILED := CloseReason(
        1008, "TEXT", "authorize failed, with this error message", CONTROL
    ),
    MESSAGE_TOO_BIG := CloseReason(
        1009, "over --max-message", "a message is too large"
    ),
    CONTROL_TOO_BIG := CloseReason(
        1009, "over 262144 bytes", "a control message is too large", CONTROL
    ),
    AUTHORIZE_TOO_BIG := CloseReason(
        1009,
        "over 4096 bytes before authorize",
        "a control message is too large for a client that has not authorized",
        CONTROL,
    ),
    EXIT_STATUS := CloseReason(
        1011, "exit N", "the application exited with a status other than 0"
    ),
    EXIT_SIGNAL := CloseReason(1011, "signal NAME", "a signal ended the application"),
    OUT_OF_MEMORY := CloseReason(
        1011, "out of memory", "the system had no memory left for the application"
    ),
    INTERNAL_ERROR := CloseReason(
        # The client learns nothing else of an internal error.
        1011,
        "error ...",
        "an internal error of the server",
        text="error internal",
    ),
    LINE_NOT_UTF8 := CloseReason(
        1011,
        "line not UTF-8",
        "the application printed a line that is not text",
        "lines",
    ),
    LINE_TOO_LONG := CloseReason(
        1011,
        "line over --max-line",
        "the application printed too long a line",
        "lines",
    ),
    BAD_HEADER := CloseReason(
        1011,
        "bad header",
        "the application printed something other than a header",
        "lsp",
    ),
    HEADER_TOO_LONG := CloseReason(
        1011,
        "header over 4096 bytes",
        "the application printed too long a header",
        "lsp",
    ),
    BODY_TOO_LONG := CloseReason(
        1011,
        "body over --max-line",
        "the application announced too long a body",
        "lsp",
    ),
    BODY_NOT_UTF8 := CloseReason(
        1011, "body not UTF-8", "the application printed a body that is not text", "lsp"
    ),
    OUTPUT_CUT_OFF := CloseReason(
        1011,
        "output cut off",
        "the application ended within a body or its header",
        "lsp",
    ),
)
