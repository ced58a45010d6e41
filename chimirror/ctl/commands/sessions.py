"""Verbs that show live sessions: sessions, show."""

from __future__ import annotations

import ipaddress
import os
import time

from chimirror.config import quantities, values
from chimirror.ctl import discovery, formats, procfs, session_info
from chimirror.ctl.cgroups import CgroupHierarchy
from chimirror.ctl.messages import CommandError
from chimirror.ctl.output import Column
from chimirror.text import escape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from chimirror.ctl.output import OutputWriter
    from chimirror.ctl.paths import HostPaths
    from chimirror.ctl.session_info import SessionInfo
    from chimirror.ctl.usage import CommandLine

    Row = dict[str, object]

# A narrow terminal omits the columns with the highest rank first.
COLUMNS = (
    Column("id", "ID"),
    Column("peer", "PEER"),
    Column("age", "AGE", formats.duration),
    Column("application", "APPLICATION", keep="end", least=12),
    Column("state", "STATE", rank=4),
    Column("bytes_in", "IN", formats.size, rank=3),
    Column("bytes_out", "OUT", formats.size, rank=3),
    Column("messages_in", "MSG-IN", formats.number, rank=6),
    Column("messages_out", "MSG-OUT", formats.number, rank=6),
    Column("cpu", "CPU", formats.cpu, rank=2),
    Column("memory", "MEMORY", formats.size, rank=1),
    Column("tasks", "TASKS", formats.number, rank=5),
)
# Printed only if a session has a user.
USER = Column("user", "USER", keep="start", least=8)
DETAILS = (
    *COLUMNS[:3],
    Column("started", "STARTED", formats.local_time),
    *COLUMNS[3:],
    Column("command", "COMMAND"),
    Column("framing", "FRAMING"),
    Column("pid", "PID", formats.number),
    Column("application_pid", "APPLICATION PID", formats.number),
    Column("unit", "UNIT"),
    Column("server", "SERVER", formats.number),
    Column("memory_max", "MEMORY LIMIT", formats.exact_size),
    Column("tasks_max", "TASKS LIMIT", formats.number),
    Column("cpu_quota", "CPU LIMIT", lambda cores: f"{cores:.0%}"),
    Column("processes", "PROCESSES"),
)
KEYS = {"in": "bytes_in", "out": "bytes_out"}
SORTS = (
    "id",
    "peer",
    "user",
    "age",
    "application",
    "state",
    "in",
    "out",
    "cpu",
    "memory",
    "tasks",
)
WATCH_INTERVAL = 1.0  # seconds between two tables of --watch
CLEAR_SCREEN = "\x1b[H\x1b[2J"


def sessions(
    given: CommandLine,
    host: HostPaths,
    output: OutputWriter,
    pause: Callable[[float], None] = time.sleep,
) -> int:
    """Print the live sessions, once or every second."""
    is_wanted, name = row_filter(given), sort_name(given)
    status = _print_sessions(given, host, output, is_wanted, name)
    while "--watch" in given:
        pause(WATCH_INTERVAL)
        output.measure()
        status = _print_sessions(given, host, output, is_wanted, name)
    return status


def sort_name(given: CommandLine) -> str:
    """Return the column of --sort.

    Raises:
        CommandError: There is no such column.
    """
    key = given.options.get("--sort", "age")
    if key not in SORTS:
        raise CommandError(os.EX_USAGE, f"--sort: write one of {', '.join(SORTS)}")
    return KEYS.get(key, key)


def _print_sessions(
    given: CommandLine,
    host: HostPaths,
    output: OutputWriter,
    is_wanted: Callable[[Row], bool],
    name: str,
) -> int:
    found = discovery.discover(host)
    status = found.warn_incomplete()
    now = discovery.now()
    # Scripts read one session in each line.
    spares = found.spares if output.width or "--json" in given else []
    listed = [*found.sessions, *spares]
    rows = [row for session in listed if is_wanted(row := session.row(now))]
    sort_rows(rows, name)
    if "--json" in given:
        output.json(rows)
        return status
    if output.width and "--no-trunc" not in given:
        session_info.shorten_ids(rows, [session.id for session in listed])
    if output.width and "--watch" in given:
        output.write(CLEAR_SCREEN)
    print_table(given, COLUMNS, rows, output)
    return status


def print_table(
    given: CommandLine,
    columns: Sequence[Column],
    rows: Sequence[Row],
    output: OutputWriter,
) -> None:
    """Print sorted rows of sessions and spares. The column of --sort always stays."""
    name = sort_name(given)
    shown = [
        column._replace(rank=0) if column.name == name else column
        for column in with_user(columns, rows, output)
    ]
    count = sum(row["state"] == session_info.SPARE for row in rows)
    full, watch = "--no-trunc" in given, "--watch" in given
    output.table(shown, rows, "session", full=full, screenful=watch, spares=count)


def with_user(
    columns: Sequence[Column], rows: Sequence[Row], output: OutputWriter
) -> Sequence[Column]:
    """Add the column of users, if a row has one.

    It follows the peer on a terminal. In a pipe it is the last one: the fields that
    scripts count stay where they are.
    """
    if not any(row.get("user") for row in rows):
        return columns
    position = len(columns)
    if output.width:
        position = [column.name for column in columns].index("peer") + 1
    return (*columns[:position], USER, *columns[position:])


def sort_rows(rows: list[Row], name: str) -> None:
    """Sort rows: texts ascending, numbers descending, unknown values last."""

    def key(row: Row) -> tuple[bool, float, str, str]:
        value, identity = row.get(name), str(row["id"])
        if isinstance(value, int | float):
            return False, -value, "", identity
        return not value, 0, str(value), identity

    rows.sort(key=key)


def row_filter(given: CommandLine) -> Callable[[Row], bool]:
    """Return one test that combines all filters of the command line."""
    tests = [*common_filters(given), *_age_filters(given)]
    return lambda row: all(test(row) for test in tests)


def common_filters(given: CommandLine) -> list[Callable[[Row], bool]]:
    """Return the filters that live and ended sessions share."""
    return [peer_filter(given), user_filter(given), application_filter(given)]


def peer_filter(given: CommandLine) -> Callable[[Row], bool]:
    """Return the filter of --peer: an address, a network, or a part of the text."""
    text = given.options.get("--peer", "")
    try:
        network = values.ip_network(text.strip("[]"), strict=False)
    except ValueError:
        return lambda row: text in str(row["peer"])
    return lambda row: _within(network, str(row["peer"]))


def _within(network: ipaddress.IPv4Network | ipaddress.IPv6Network, peer: str) -> bool:
    """Return whether `127.0.0.1:4711` or `[::1]:4711` is in a network."""
    host = peer
    if peer.startswith("["):
        host = peer[1:].partition("]")[0]
    elif peer.count(":") == 1:
        host = peer.partition(":")[0]
    try:
        return ipaddress.ip_address(host) in network
    except ValueError:
        return False  # the peer of a Unix socket


def user_filter(given: CommandLine) -> Callable[[Row], bool]:
    """Return the filter of --user: the name, as given or as a table shows it."""
    name = given.options.get("--user")

    def is_of_user(row: Row) -> bool:
        user = str(row.get("user", ""))
        return name is None or name in (user, escape(user))

    return is_of_user


def application_filter(given: CommandLine) -> Callable[[Row], bool]:
    """Return the filter of --application: a part of the name or of the command."""
    text = given.options.get("--application", "")
    return lambda row: text in str(row["application"]) or text in str(row["command"])


def _age_filters(given: CommandLine) -> list[Callable[[Row], bool]]:
    try:
        name = "--older"
        min_age = quantities.parse_grace(given.options.get(name, "0"))
        name = "--younger"
        max_age = quantities.parse_grace(given.options.get(name, "100y"))
    except ValueError as error:
        raise CommandError(os.EX_USAGE, f"{name}: {error}") from None
    return [lambda row: min_age <= _age(row) <= max_age]


def _age(row: Row) -> float:
    age = row["age"]
    assert isinstance(age, float)
    return age


def show(given: CommandLine, host: HostPaths, output: OutputWriter) -> int:
    """Print all fields of one session, its limits and its processes."""
    found = discovery.discover(host)
    (session,) = found.select(given.ids)
    row = session.row(discovery.now())
    hierarchy = CgroupHierarchy(host)
    limits = hierarchy.limits(session.group) if session.unit else None
    row["memory_max"] = limits and limits.memory
    row["tasks_max"] = limits and limits.tasks
    row["cpu_quota"] = limits and limits.cpu
    row["processes"] = processes = _processes(host, hierarchy, session)
    if "--json" in given:
        output.json(row)
        return os.EX_OK
    row["processes"] = [f"{pid} {command}" for pid, command in processes]
    output.pairs(with_user(DETAILS, [row], output), row)
    return os.EX_OK


def _processes(
    host: HostPaths, hierarchy: CgroupHierarchy, session: SessionInfo
) -> list[tuple[int, str]]:
    """Return pid and command line of each process of a session."""
    if session.unit:
        pids = hierarchy.processes(session.group)
    else:
        group = procfs.groups(host.proc, {session.application_pid} - {0})
        pids = [member.pid for member in group.get(session.application_pid, [])]
    return [(pid, procfs.command(host.proc, pid)) for pid in pids]
