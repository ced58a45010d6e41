"""The journal, read by systemd-python: some records, from the end, never all of it.

Matches on MESSAGE_ID are looked up in the journal's own index, and of each record only
the fields that are wanted are copied. systemd.journal-fields(7), sd_journal(3).
"""

from __future__ import annotations

import os
import select
from glob import glob
from importlib import import_module

from chimirror.ctl.failure import Failure
from chimirror.system.records import NOTE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from chimirror.ctl.host import Host

    Record = dict[str, str]

# systemd's own, of a unit: what became of its main process, and of all of it.
PROCESS_EXIT = "98e322203f7a4ed290d09fe03c09fe15"
UNIT_FAILED = "d9b373ed55a64feb8242e02dbe79a49c"
UNIT_SUCCEEDED = "7ad2d189f7e94e70a38c781354912448"
WHEN = "__REALTIME_TIMESTAMP"  # microseconds since 1970
SESSION = "CHIMIRROR_SESSION"
# The journal's own, of whoever has sent a record.
PID = "_PID"
INVOCATION = "_SYSTEMD_INVOCATION_ID"
WORKER = "CHIMIRROR_WORKER"  # of a server: the pid of one that has died
EXIT = "CHIMIRROR_EXIT"


class Journal:
    """An open journal.

    Raises:
        Failure: there is none, it is not for us, or nothing is there to read it with.
    """

    def __init__(self, host: Host) -> None:
        _need(host)
        self._reader = _reader_class()()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *error: object) -> None:
        self._reader.close()

    def backwards(
        self, kinds: Sequence[str], wanted: Sequence[str], since: int = 0
    ) -> Iterator[Record]:
        """Records of these kinds, the newest first.

        Args:
            kinds: MESSAGE_IDs.
            wanted: the fields to copy.
            since: microseconds since 1970.
        """
        self._reader.flush_matches()
        for kind in kinds:
            self._reader.add_match(MESSAGE_ID=kind)
        self._reader.seek_tail()
        while (record := self._reader.previous(wanted)) is not None:
            if int(record[WHEN]) < since:
                return
            yield record

    def unit_records(self, identity: str) -> list[Record]:
        """What systemd itself has recorded of an invocation, the oldest first."""
        self._reader.flush_matches()
        for kind in (PROCESS_EXIT, UNIT_FAILED, UNIT_SUCCEEDED):
            self._reader.add_match(MESSAGE_ID=kind)
        self._reader.add_match(INVOCATION_ID=identity)
        self._reader.seek_head()
        wanted = ("MESSAGE_ID", "UNIT_RESULT", "EXIT_CODE", "EXIT_STATUS")
        return list(self.more(wanted))

    def worker_ends(self, invocation: str, pid: str) -> list[Record]:
        """What a server has recorded of workers with this pid, the oldest first."""
        self._reader.flush_matches()
        for name, value in (
            ("MESSAGE_ID", NOTE),
            (INVOCATION, invocation),
            (WORKER, pid),
        ):
            self._reader.add_match(f"{name}={value}")
        self._reader.seek_head()
        return list(self.more((EXIT,)))

    def identities(self) -> set[str]:
        """The ids of all sessions that the journal knows, out of its index."""
        return {str(one) for one in self._reader.query_unique(SESSION)}

    def about(self, identity: str, wanted: Sequence[str]) -> Iterator[Record]:
        """All records of one session and of its unit, the oldest first.

        The iterator ends with what is there, and goes on when it is asked again.
        """
        self._reader.flush_matches()
        self._reader.fileno()  # from here on nothing is missed
        for index, name in enumerate((SESSION, INVOCATION, "INVOCATION_ID")):
            if index:
                self._reader.add_disjunction()
            self._reader.add_match(f"{name}={identity}")
        self._reader.seek_head()
        return self.more(wanted)

    def more(self, wanted: Sequence[str]) -> Iterator[Record]:
        """What has come since."""
        while (record := self._reader.following(wanted)) is not None:
            yield record

    def wait(self) -> None:
        """Until something is logged; unlike sd_journal_wait(3), Ctrl-C ends it."""
        poll = select.poll()
        poll.register(self._reader.fileno(), self._reader.get_events())
        poll.poll(self._reader.get_timeout_ms())
        self._reader.process()


def _reader_class() -> Any:
    """systemd-python's Reader, that copies wanted fields only."""
    try:
        # (By name: a type checker takes our own directory systemd/ for the library.)
        library: Any = import_module("systemd.journal").Reader
    except ImportError:
        text = (
            "the journal is read by systemd-python, which is not there; "
            "install chimirror[journal], or python3-systemd of your system"
        )
        raise Failure(os.EX_UNAVAILABLE, text) from None

    class Reader(library):  # type: ignore[misc]  # it has no types
        """Fields as text; a record whole takes ten times as long."""

        def previous(self, wanted: Sequence[str]) -> Record | None:
            return self._copied(wanted) if self._previous() else None

        def following(self, wanted: Sequence[str]) -> Record | None:
            return self._copied(wanted) if self._next() else None

        def _copied(self, wanted: Sequence[str]) -> Record:
            record = {WHEN: str(self._get_realtime())}
            for name in wanted:
                try:
                    record[name] = self._get(name).decode("utf-8", "backslashreplace")
                except KeyError:
                    pass
            return record

    return Reader


def _need(host: Host) -> None:
    """Raises Failure where there is no journal that we may read."""
    places = [f"{host.run}/log/journal", f"{host.log}/journal"]
    places += [path for place in places for path in glob(f"{place}/*")]
    # The system's part of it; users have theirs.
    files = [path for place in places for path in glob(f"{place}/system*.journal")]
    if any(os.access(path, os.R_OK) for path in files):
        return
    closed = [path for path in (*files, *places) if not _open(path)]
    if closed:
        text = f"{closed[0]}: permission denied; ask as root or in group "
        raise Failure(os.EX_NOPERM, text + "systemd-journal")
    text = "there is no journal here; a server records on its standard error"
    raise Failure(os.EX_UNAVAILABLE, text)


def _open(path: str) -> bool:
    """Whether a directory or a file is open to us, or not there at all."""
    mode = os.R_OK | (os.X_OK if os.path.isdir(path) else 0)
    return os.access(path, mode) or not os.path.exists(path)
