"""Reads the size of a terminal that a client offers among its subprotocols.

The size is known before the application starts. Every message of a client comes later,
and a page in a browser can set no other field of its handshake. Loaded with the first
such offer. chimirror-protocol(7), section Handshake.
"""

from __future__ import annotations

from chimirror.protocol import MAX_TERMINAL_SIZE
from chimirror.protocol.http import HTTPError, quote


def parse_sizes(sizes: list[bytes]) -> tuple[int, int]:
    """Return columns and rows.

    Args:
        sizes: The offered sizes, without the prefix of their subprotocol.

    Raises:
        HTTPError: 400, the size is malformed, or there are several.
    """
    columns, _, rows = sizes[0].partition(b"x")
    if len(sizes) > 1:
        text = f"{len(sizes)} sizes of a terminal were offered; offer one"
    elif _is_number(columns) and _is_number(rows):
        return int(columns), int(rows)
    else:
        text = (
            f'malformed size of a terminal "{quote(sizes[0])}"; offer columns and rows '
            f"from 1 to {MAX_TERMINAL_SIZE}, as in chimirror.size.80x24"
        )
    raise HTTPError(400, text, cause="subprotocol")


def _is_number(text: bytes) -> bool:
    is_decimal = text.isdigit() and not text.startswith(b"0")
    return is_decimal and len(text) <= 5 and int(text) <= MAX_TERMINAL_SIZE
