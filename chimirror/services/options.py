"""Options of one pipe. Pure."""

from __future__ import annotations

from typing import Any, TypedDict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

MAX_MESSAGE = 32 << 20  # bytes


class PipeOptions(TypedDict, total=False):
    """Options of `Server.pipe` and `connect`.

    Attributes:
        max_message: Size of the longest message to this process, in bytes. Default:
            32 MiB.
        enc_hook: Called with a value that msgspec does not know. Returns one it knows.
        dec_hook: Called with a type that msgspec does not know, and a value. Returns a
            value of that type.
    """

    max_message: int
    enc_hook: Callable[[Any], Any]
    dec_hook: Callable[[type, Any], Any]


class Unset:
    """The type of UNSET: None can be the type of a service."""


UNSET = Unset()
