"""Reads the list of applications of a server, and writes it as a table.

The list is that of chimirror-protocol(7), MANIFEST. All texts in it are untrusted: they
are escaped and cut.
"""

from __future__ import annotations

import json
from typing import NamedTuple

from chimirror.client import NotConnected
from chimirror.client.resource import get
from chimirror.text import escape_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from chimirror.client.handshake import ConnectionParams

PATH = ".well-known/chimirror"
WIDTH = 80  # columns
MAX_NAME_COLUMN = 24
MAX_NAME, MAX_PURPOSE = 64, 300  # characters


class Entry(NamedTuple):
    """An application. The texts are printable."""

    name: str
    purpose: str


def read(servers: Sequence[ConnectionParams]) -> list[Entry]:
    """Return the applications of the first server that is available.

    Raises:
        NotConnected: There is no list.
    """
    try:
        catalog = json.loads(get(servers, _path_on))
    except (ValueError, RecursionError):
        catalog = None
    entries = catalog.get("applications") if isinstance(catalog, dict) else None
    if not isinstance(entries, list):
        raise NotConnected(f"{servers[0].target} has no list of applications")
    return [_entry(entry) for entry in entries if isinstance(entry, dict)]


def _path_on(server: ConnectionParams) -> str:
    """Return the path of the list.

    A path that ends in a slash is taken for that of a server behind a proxy.
    """
    path = server.target.uri.path
    return f"{path if path.endswith('/') else '/'}{PATH}"


def _entry(entry: dict[str, object]) -> Entry:
    kinds = ["terminal"] if entry.get("pty") is True else []
    direction = entry.get("direction")
    kinds += ["only sends"] if direction == "receive" else []
    kinds += ["only receives"] if direction == "send" else []
    purpose = _text(entry, "purpose", MAX_PURPOSE) or _text(entry, "title", MAX_PURPOSE)
    words = [purpose, f"({', '.join(kinds)})" if kinds else ""]
    name = _text(entry, "name", MAX_NAME) or "(without a name)"
    return Entry(name, " ".join(filter(None, words)))


def _text(entry: dict[str, object], name: str, cap: int) -> str:
    value = entry.get(name)
    return escape_line(value, cap) if isinstance(value, str) else ""


def table(entries: Sequence[Entry]) -> str:
    """Return the entries as a table of at most 80 columns, by name."""
    from textwrap import wrap

    rows = [("NAME", "PURPOSE"), *sorted(entries)]
    column = min(max(len(name) for name, _ in rows), MAX_NAME_COLUMN) + 2
    lines: list[str] = []
    for name, purpose in rows:
        first, *more = wrap(purpose, WIDTH - column) or [""]
        if len(name) > column - 2:
            lines += [name, " " * column + first]
        else:
            lines.append(f"{name:{column}}{first}".rstrip())
        lines += [" " * column + line for line in more]
    return "\n".join(lines) + "\n"
