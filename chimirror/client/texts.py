"""How a peer's words are made safe to print, and what close codes mean.

Pure. Everything that a server supplied passes through `safe` before it is shown: one
line, no control characters, of bounded length.
"""

from __future__ import annotations

CAP = 1000  # characters of a peer's text that we are willing to print

# RFC 6455, section 7.4.1, and the registry of IANA.
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
    1011: "failure at the other end",
    1012: "restart",
    1013: "try again later",
}


def safe(text: str, cap: int = CAP) -> str:
    """Make a peer's text printable: one line, escaped, at most `cap` characters."""
    # Cut before the work as well as after it: the text may be a megabyte.
    words = " ".join(text[: 4 * cap].split(" ")).strip("\r\n\t ")
    line = "".join(map(_visible, words))
    return line if len(line) <= cap and len(text) <= 4 * cap else line[:cap] + "..."


def _visible(character: str) -> str:
    # isprintable() is false for controls, C1, separators, surrogates, unassigned
    # code points and for the format characters that reorder a line (bidi).
    if character.isprintable():
        return character
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def printable(data: bytes, cap: int = CAP) -> str:
    """The same for bytes, which need not be UTF-8."""
    return safe(data[: 16 * cap].decode("utf-8", "backslashreplace"), cap)


def close_text(code: int, reason: str) -> str:
    """A close frame in words: `close 1001 (going away): idle`."""
    meaning = CLOSE_CODES.get(code)
    text = f"close {code}" + (f" ({meaning})" if meaning else "")
    return f"{text}: {safe(reason, 256)}" if reason else text
