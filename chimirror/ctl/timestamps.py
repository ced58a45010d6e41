"""Parses times as operators write them: `2h`, `today`, `2026-11-21 10:30`."""

from __future__ import annotations

import os
from datetime import datetime, timedelta

from chimirror.config import quantities
from chimirror.ctl.messages import CommandError

_FORMS = ("%Y-%m-%d", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S")


def since(text: str, now: datetime) -> int:
    """Parse a local time. Returns microseconds since 1970.

    Raises:
        CommandError: The text is not a time.
    """
    return int(_parse(text.strip(), now).timestamp() * 1_000_000)


def _parse(text: str, now: datetime) -> datetime:
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
        ago = quantities.parse_grace(text.removeprefix("-").removesuffix(" ago"))
    except ValueError:
        wrong = f'--since: "{text}" is not a time; write 2h, today or 2026-11-21'
        raise CommandError(os.EX_USAGE, wrong) from None
    return now - timedelta(seconds=ago)
