"""Points in time as operators write them: `2h`, `today`, `2026-11-21 10:30`."""

from __future__ import annotations

import os
from datetime import datetime, timedelta

from chimirror import units
from chimirror.ctl.failure import Failure

_FORMS = ("%Y-%m-%d", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S")


def since(text: str, now: datetime) -> int:
    """Microseconds since 1970, of a time in the local zone.

    Raises:
        Failure: it is no time.
    """
    return int(_point(text.strip(), now).timestamp() * 1_000_000)


def _point(text: str, now: datetime) -> datetime:
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    if text == "today":
        return midnight
    if text == "yesterday":
        return midnight - timedelta(days=1)
    for form in _FORMS:
        try:
            return datetime.strptime(text, form).astimezone()
        except ValueError:
            pass
    try:
        ago = units.grace(text.removeprefix("-").removesuffix(" ago"))
    except ValueError:
        wrong = f'--since: "{text}" is not a time; write 2h, today or 2026-11-21'
        raise Failure(os.EX_USAGE, wrong) from None
    return now - timedelta(seconds=ago)
