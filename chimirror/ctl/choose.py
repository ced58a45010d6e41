"""Which sessions are meant: ids, which may be shortened as long as they are unique."""

from __future__ import annotations

import os
import re
from itertools import pairwise

from chimirror.ctl.failure import Failure
from chimirror.system.escape import escape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from chimirror.ctl.live import Live
    from chimirror.ctl.sources import Found

SHORTEST = 8  # characters of an id that are shown at least
_PREFIX = re.compile(r"[0-9a-f]{1,32}")


def shortest(ids: Sequence[str]) -> int:
    """How many characters tell all of them apart."""
    ranked = sorted(ids)
    most = SHORTEST
    for one, other in pairwise(ranked):
        while one != other and one[:most] == other[:most]:
            most += 1
    return most


def prefix(text: str) -> str:
    """An id, or the beginning of one, as it was typed."""
    if not _PREFIX.fullmatch(text.lower()):
        raise Failure(os.EX_USAGE, f"{escape(text)} is not the beginning of an ID")
    return text.lower()


def pick(text: str, ids: Iterable[str]) -> str | None:
    """The one id that begins so; None where there is none.

    Raises:
        Failure: there are several.
    """
    begun = prefix(text)
    fitting = sorted({one for one in ids if one.startswith(begun)})
    if len(fitting) > 1:
        few = ", ".join(fitting[:4]) + (", …" if len(fitting) > 4 else "")
        many = f"{begun} is ambiguous: {len(fitting)} sessions begin so: {few}"
        raise Failure(os.EX_DATAERR, many)
    return fitting[0] if fitting else None


def live(found: Found, texts: Sequence[str]) -> list[Live]:
    """The live sessions that are meant, each once.

    Raises:
        Failure: one is not there; then none of them is touched.
    """
    known = {one.id: one for one in found.sessions}
    chosen: dict[str, Live] = {}
    for text in texts:
        identity = pick(text, known)
        if identity is None:
            found.complain()
            missing = (
                f"no live session {prefix(text)}; chimirror-ctl sessions lists them"
            )
            raise Failure(os.EX_NOINPUT, missing)
        chosen[identity] = known[identity]
    return list(chosen.values())
