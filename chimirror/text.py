r"""Escapes untrusted text for logs and terminals.

Guarantees: the result is printable Unicode. It moves no cursor, breaks no line and does
not change the direction of writing. The functions never fail. Pure: knows nothing of
the place where the text is shown.

`escape` is for fields: unambiguous, bounded in bytes, `\xNN` for each byte that is not
printable. `escape_name` is for names of users. `printable` is for text that is already
a line or a traceback. `escape_line` is for messages that the client library shows to
users: bounded in characters.
`nearest` and `similar` correct misspelt names, `counted` has the plural.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_FIELD = 256  # bytes of UTF-8
MAX_LINE = 1000  # characters
SHORT_ID = 8  # characters of a session id that are shown at least


def counted(count: int, noun: str, none: str = "0") -> str:
    """Count things in words: `0 lines`, `1 line`, `3 lines`.

    Args:
        count: The number of things.
        noun: Their name in the singular.
        none: The word for no things.
    """
    return f"{count or none} {noun}{'s' * (count != 1)}"


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the known name that a misspelt one most likely means, "" for none.

    The beginning of a known name is the best match.
    """
    close = similar(name, known)
    return close[0] if close else ""


def similar(name: str, known: Iterable[str], cutoff: float = 0.6) -> list[str]:
    """Return the known names that begin with a name, or else the one most like it.

    Letters are compared without regard to case.

    Args:
        name: Of bounded length.
        known: At most a few hundred names: each takes about 4 µs.
        cutoff: The least similarity, from 0 to 1.
    """
    from difflib import get_close_matches

    lower = name.lower()
    names = {each.lower(): each for each in known}
    begun = [each for each in names if lower and each.startswith(lower)]
    close = begun or get_close_matches(lower, names, n=1, cutoff=cutoff)
    return [names[each] for each in close]


class _EscapeTable(dict[int, str]):
    """Table for str.translate: the text shown for each code point."""

    __slots__ = ()

    def __missing__(self, code: int) -> str:
        # The result is not stored: a peer must not fill this process's memory.
        char = chr(code)
        return char if char.isprintable() else self.escaped(char)

    def escaped(self, char: str) -> str:
        return "".join([f"\\x{b:02x}" for b in char.encode("utf-8", "surrogateescape")])


class _CodePointTable(_EscapeTable):
    r"""Table that shows a code point by its number, such as `\u202e`."""

    __slots__ = ()

    def escaped(self, char: str) -> str:
        return char.encode("unicode_escape", "surrogatepass").decode("ascii")


_ASCII = {code: chr(code) for code in range(0x20, 0x7F)}
_STRICT = _EscapeTable({**_ASCII, 0x5C: "\\\\"})
_TEXT = _EscapeTable({**_ASCII, 0x09: "\t"})
_LINES = _EscapeTable({**_ASCII, 0x09: "\t", 0x0A: "\n"})
_CODE_POINTS = _CodePointTable(_ASCII)


def escape(value: str | bytes, cap: int = MAX_FIELD) -> str:
    """Escape a peer's value to one line, and double its backslashes.

    Two different values never have the same result, unless they were cut.

    Returns:
        At most `cap` bytes of UTF-8. A value that was cut ends in an ellipsis.
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
    return shorten(text, cap)


def escape_name(name: str) -> str:
    """Escape and shorten the name of a user, which is printable in valid identities.

    Backslashes stay single: names of Windows domains have them.
    """
    return shorten(printable(name))


def short_id(session: str) -> str:
    """Return the form of a session id that messages and tables show."""
    return session[:SHORT_ID]


def shorten(text: str, cap: int = MAX_FIELD) -> str:
    """Cut printable text to at most `cap` bytes of UTF-8, with an ellipsis."""
    encoded = text.encode()
    if len(encoded) <= cap:
        return text
    return encoded[: cap - 3].decode("utf-8", "ignore") + "…"


def printable(value: str | bytes, keep: str = "") -> str:
    """Escape text for a log. Tabs stay, and the length is not limited.

    Args:
        value: The text.
        keep: A line feed, if line feeds stay too, or else empty.
    """
    text = _decode(value)
    if text.isprintable():
        return text
    return text.translate(_LINES if keep else _TEXT)


def escape_line(value: str | bytes, cap: int = MAX_LINE) -> str:
    """Escape a peer's text to one line, without white space at its ends.

    Args:
        value: The text. Bytes need not be UTF-8.
        cap: Length of the result in characters. Three dots mark a text that was cut.
    """
    # Cut before the work as well as after it: the text may be a megabyte.
    if isinstance(value, bytes):
        value = value[: 16 * cap].decode("utf-8", "backslashreplace")
    line = value[: 4 * cap].strip("\r\n\t ").translate(_CODE_POINTS)
    return line if len(line) <= cap and len(value) <= 4 * cap else line[:cap] + "..."


def _decode(value: str | bytes) -> str:
    if isinstance(value, str):
        value = value.encode("utf-8", "backslashreplace")  # lone surrogates
    return value.decode("utf-8", "surrogateescape")
