"""The verb that prints metrics of the bridges of this machine: metrics.

The series are those of a server with --metrics, for bridges in units: the text format
0.0.4 of Prometheus, for the textfile collector of node_exporter. Gauges are measured,
and counters are sums of records in the journal. A journal loses old records. So --state
keeps the sums, and the place in the journal where the next run goes on.
"""

from __future__ import annotations

import fcntl
import json
import os
from contextlib import contextmanager

from chimirror import regular_file
from chimirror.ctl import bridge_totals, discovery, systemd, unit_load, unit_names
from chimirror.ctl.bridge_totals import FIELDS, MESSAGE_IDS, BridgeTotals
from chimirror.ctl.cgroups import CgroupHierarchy
from chimirror.ctl.journal import CURSOR, JournalReader
from chimirror.ctl.json_fields import Malformed, count, decode, text
from chimirror.ctl.messages import CommandError
from chimirror.ctl.record_verifier import RecordVerifier
from chimirror.host.safe_directory import SafeDirectory
from chimirror.metrics import exposition, families
from chimirror.text import escape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from chimirror.ctl.journal import Record
    from chimirror.ctl.output import OutputWriter
    from chimirror.ctl.paths import HostPaths
    from chimirror.ctl.usage import CommandLine
    from chimirror.metrics.exposition import Value

VERSION = 1  # of the file of --state
MAX_STATE = 256 << 20  # bytes: a million live sessions


def metrics(given: CommandLine, host: HostPaths, output: OutputWriter) -> int:
    """Print the metrics, or write them to the file of --output."""
    systemd.require(host)
    state = given.options.get("--state")
    for option in ("--state", "--output"):
        _check_path(option, given.options.get(option))
    if state is None:
        _print(_measure(host, BridgeTotals(), "")[0], given, output)
        return os.EX_OK
    with _opened(state) as directory:
        totals, cursor = _read_state(state)
        content, cursor = _measure(host, totals, cursor)
        value = {"version": VERSION, "cursor": cursor, **totals.to_json()}
        data = json.dumps(value, separators=(",", ":")).encode() + b"\n"
        directory.replace(os.path.basename(state), data, 0o600, durable=True)
        # Before another run begins: older counters may not replace newer ones.
        _print(content, given, output)
    return os.EX_OK


def _print(content: bytes, given: CommandLine, output: OutputWriter) -> None:
    """Print the metrics, or write them to the file of --output."""
    if "--output" not in given:
        output.write(content.decode())
        return
    path = given.options["--output"]
    with _directory(path) as directory:
        directory.replace(os.path.basename(path), content)


def _measure(host: HostPaths, totals: BridgeTotals, cursor: str) -> tuple[bytes, str]:
    """Add new records of the journal. Returns the metrics and the new cursor."""
    with JournalReader(host) as log, JournalReader(host) as other:
        discovered_at = discovery.now()
        found = discovery.discover_bridges(host, CgroupHierarchy(host))
        sessions = [info for info in found.sessions if info.unit]
        # The journal may not have taken records of sessions that are gone by now.
        systemd.run("journalctl", "--sync")
        records = _Remembered(log.forwards(MESSAGE_IDS, FIELDS, cursor))
        totals.add(records, RecordVerifier(other).is_genuine)
        totals.settle(sessions, discovered_at, complete=not found.denied)
    samples = {
        families.SESSIONS.name: bridge_totals.gauges(sessions),
        families.CAPACITY.name: _capacity(host),
        **totals.counters(),
    }
    return exposition.render(samples), records.cursor or cursor


class _Remembered:
    """Iterator over records that remembers the cursor of the last one."""

    def __init__(self, records: Iterator[Record]) -> None:
        self._records = records
        self.cursor = ""

    def __iter__(self) -> Iterator[Record]:
        for record in self._records:
            self.cursor = record[CURSOR]
            yield record


def _capacity(host: HostPaths) -> dict[tuple[str, ...], Value]:
    """Return the capacity of the units of bridges in use, if all have a limit."""
    names = [None, *unit_names.names(host)]
    loads = [unit_load.measure(host, name).services[0] for name in names]
    used = [load.capacity for load in loads if load.state != unit_load.CLOSED]
    known = [capacity for capacity in used if capacity is not None]
    return {(): sum(known)} if known and len(known) == len(used) else {}


# Files


def _check_path(option: str, path: str | None) -> None:
    """Raise CommandError if a path is that of a directory."""
    if path is not None and (not os.path.basename(path) or os.path.isdir(path)):
        text = f"{option}: {escape(path)} is a directory; write the name of a file"
        raise CommandError(os.EX_USAGE, text)


@contextmanager
def _opened(path: str) -> Iterator[SafeDirectory]:
    """Open the directory of a file. Only one process at a time is in this context."""
    with _directory(path) as directory:
        fcntl.flock(directory.fd, fcntl.LOCK_EX)
        yield directory


def _directory(path: str) -> SafeDirectory:
    return SafeDirectory(os.path.dirname(path) or ".")


def _read_state(path: str) -> tuple[BridgeTotals, str]:
    """Read the sums and the cursor of the last run. Empty if there is no file.

    Raises:
        CommandError: The file cannot be used. Nothing is counted again, since that
            would be an increase of every counter.
    """
    try:
        data, _ = regular_file.read(path, MAX_STATE, follow=False)
        value = decode(data)
        if count(value, "version") != VERSION:
            raise Malformed("a newer version has written it")
        return BridgeTotals.from_json(value), text(value, "cursor")
    except FileNotFoundError:
        return BridgeTotals(), ""
    except (Malformed, regular_file.UnusableFile) as error:
        message = f"--state: {path}: {escape(str(error))}; remove the file to begin"
        raise CommandError(os.EX_DATAERR, f"{message} with new counters") from None
