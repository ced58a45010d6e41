"""The verb that shows the journal of one session: log."""

from __future__ import annotations

import os
import time

from chimirror.ctl import choose, journal, sources
from chimirror.ctl.failure import Failure
from chimirror.ctl.journal import WHEN, Journal
from chimirror.system.escape import printable
from chimirror.system.records import SESSION_ENDED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from chimirror.ctl.host import Host
    from chimirror.ctl.journal import Record
    from chimirror.ctl.table import Output
    from chimirror.ctl.usage import Given

FIELDS = ("MESSAGE", "MESSAGE_ID", "SYSLOG_IDENTIFIER", "_COMM", "_PID")
# After these there is nothing to follow any more.
LAST = (SESSION_ENDED, journal.UNIT_FAILED, journal.UNIT_SUCCEEDED)


def log(given: Given, host: Host, output: Output) -> int:
    """What was logged of a session, and with --follow what will be."""
    (text,) = given.ids
    with Journal(host) as entries:
        identity = _identity(text, host, entries)
        over = _print(entries.about(identity, FIELDS), output)
        while "--follow" in given and not over:
            entries.wait()
            over = _print(entries.more(FIELDS), output)
    return os.EX_OK


def _identity(text: str, host: Host, entries: Journal) -> str:
    """The session that is meant, live or in the journal."""
    live = {one.id for one in sources.gather(host).sessions}
    identity = choose.pick(text, live | entries.identities())
    if identity is None:
        missing = f"no session {choose.prefix(text)}, neither live nor in the journal"
        raise Failure(os.EX_NOINPUT, missing)
    return identity


def _print(records: Iterable[Record], output: Output) -> bool:
    """Print records; whether the last one is among them."""
    over = False
    for record in records:
        output.write(line(record))
        over = over or record.get("MESSAGE_ID") in LAST
    return over


def line(record: Record) -> str:
    """As journalctl(1) shows it."""
    seconds = int(record[WHEN]) / 1e6
    stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
    who = record.get("SYSLOG_IDENTIFIER") or record.get("_COMM", "unknown")
    pid = record.get("_PID", "")
    # What has several lines keeps them, and none of them looks like the next record.
    text = printable(record.get("MESSAGE", "").rstrip(), "\n").replace("\n", "\n    ")
    return f"{stamp} {printable(who)}{f'[{pid}]' if pid else ''}: {text}\n"
