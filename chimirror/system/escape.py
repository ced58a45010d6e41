r"""Text of strangers made fit for logs and terminals.

Law: what comes out is printable Unicode (nothing that moves a cursor, breaks a line
or turns the direction of writing), bounded, and never fails; a byte that is not
printable becomes `\xNN`. Knows nothing of where it is shown.
"""

from __future__ import annotations

CAP = 256  # bytes, of whatever a peer supplied


class _Escapes(dict[int, str]):
    """For str.translate: each code point as it is shown."""

    __slots__ = ()

    def __missing__(self, code: int) -> str:
        # Not kept: a stranger must not fill our memory.
        char = chr(code)
        if char.isprintable():
            return char
        return "".join([f"\\x{b:02x}" for b in char.encode("utf-8", "surrogateescape")])


_ASCII = {code: chr(code) for code in range(0x20, 0x7F)}
_STRICT = _Escapes({**_ASCII, 0x5C: "\\\\"})
_TEXT = _Escapes({**_ASCII, 0x09: "\t"})
_LINES = _Escapes({**_ASCII, 0x09: "\t", 0x0A: "\n"})


def escape(value: str | bytes, cap: int = CAP) -> str:
    """A peer's value on one line; the form is unambiguous, a backslash is doubled.

    Returns:
        At most `cap` bytes of UTF-8; one that was cut ends in an ellipsis.
    """
    if (  # nearly all values, in a tenth of the time
        isinstance(value, str)
        and len(value) <= cap
        and value.isascii()
        and value.isprintable()
        and "\\" not in value
    ):
        return value
    text = _decode(value[: cap + 1])
    if not text.isprintable() or "\\" in text:
        text = text.translate(_STRICT)
    shown = text.encode()
    if len(shown) <= cap:
        return text
    return shown[: cap - 3].decode("utf-8", "ignore") + "…"


def printable(value: str | bytes, keep: str = "") -> str:
    """Text on its way to a log: uncapped; tabs stay, and line ends if `keep` is those.

    Args:
        value: what to show.
        keep: "" or a line feed.
    """
    text = _decode(value)
    if text.isprintable():
        return text
    return text.translate(_LINES if keep else _TEXT)


def _decode(value: str | bytes) -> str:
    if isinstance(value, str):
        value = value.encode("utf-8", "backslashreplace")  # lone surrogates
    return value.decode("utf-8", "surrogateescape")
