"""The verbs that show live sessions: sessions, show."""

from __future__ import annotations

import ipaddress
import os
import time

from chimirror import units
from chimirror.ctl import choose, processes, sources, table
from chimirror.ctl.cgroups import Trees
from chimirror.ctl.failure import Failure
from chimirror.ctl.table import Column

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from chimirror.ctl.host import Host
    from chimirror.ctl.live import Live
    from chimirror.ctl.table import Output
    from chimirror.ctl.usage import Given

    Row = dict[str, object]

COLUMNS = (
    Column("id", "ID"),
    Column("peer", "PEER"),
    Column("age", "AGE", table.duration),
    Column("application", "APPLICATION"),
    Column("state", "STATE"),
    Column("bytes_in", "IN", table.size),
    Column("bytes_out", "OUT", table.size),
    Column("messages_in", "MSG-IN", table.number, spare=True),
    Column("messages_out", "MSG-OUT", table.number, spare=True),
    Column("cpu", "CPU", table.cpu),
    Column("memory", "MEMORY", table.size),
    Column("tasks", "TASKS", table.number),
)
ONE = (
    *COLUMNS[:3],
    Column("started", "STARTED", lambda usec: moment(int(usec))),
    *COLUMNS[3:],
    Column("command", "COMMAND"),
    Column("framing", "FRAMING"),
    Column("pid", "PID", table.number),
    Column("application_pid", "APPLICATION PID", table.number),
    Column("unit", "UNIT"),
    Column("server", "SERVER", table.number),
    Column("memory_max", "MEMORY LIMIT", table.size),
    Column("tasks_max", "TASKS LIMIT", table.number),
    Column("cpu_quota", "CPU LIMIT", lambda cores: f"{cores:.0%}"),
    Column("processes", "PROCESSES"),
)
KEYS = {"in": "bytes_in", "out": "bytes_out"}
SORTS = (
    "id",
    "peer",
    "age",
    "application",
    "state",
    "in",
    "out",
    "cpu",
    "memory",
    "tasks",
)
PERIOD = 1.0  # seconds between two looks of --watch
CLEAR = "\x1b[H\x1b[2J"


def moment(usec: int) -> str:
    """A time as people read it, in the local zone."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(usec / 1e6))


def sessions(
    given: Given,
    host: Host,
    output: Output,
    pause: Callable[[float], None] = time.sleep,
) -> int:
    """A table of the live sessions, once or every second."""
    wanted = selection(given)
    key = given.options.get("--sort", "age")
    if key not in SORTS:
        raise Failure(os.EX_USAGE, f"--sort: write one of {', '.join(SORTS)}")
    status = _once(given, host, output, wanted, key)
    while "--watch" in given:
        pause(PERIOD)
        output.measure()
        status = _once(given, host, output, wanted, key)
    return status


def _once(
    given: Given, host: Host, output: Output, wanted: Callable[[Row], bool], key: str
) -> int:
    found = sources.gather(host)
    status = found.complain()
    now = sources.now()
    rows = [row for one in found.sessions if wanted(row := one.row(now))]
    order(rows, KEYS.get(key, key))
    if "--json" in given:
        output.json(rows)
        return status
    hidden = 0
    if output.width:
        short = choose.shortest([one.id for one in found.sessions])
        for row in rows:
            row["id"] = str(row["id"])[:short]
        if "--watch" in given:
            output.write(CLEAR)
            # The head stays in sight: two lines are its and the last one's.
            hidden = max(len(rows) - max(output.height - 3, 1), 0)
    output.table(COLUMNS, rows[: len(rows) - hidden])
    if hidden:
        output.write(f"… and {hidden} more\n")
    return status


def order(rows: list[Row], name: str) -> None:
    """Texts from A to Z, numbers from the largest down, what is not known last."""

    def key(row: Row) -> tuple[bool, float, str, str]:
        value, identity = row[name], str(row["id"])
        if isinstance(value, int | float):
            return False, -value, "", identity
        return not value, 0, str(value), identity

    rows.sort(key=key)


def selection(given: Given) -> Callable[[Row], bool]:
    """The filters of the command line, as one question."""
    tests = [peers(given), applications(given), *_ages(given)]
    return lambda row: all(test(row) for test in tests)


def peers(given: Given) -> Callable[[Row], bool]:
    """--peer: an address, a network, or a part of the text."""
    text = given.options.get("--peer", "")
    try:
        network = ipaddress.ip_network(text.strip("[]"), strict=False)
    except ValueError:
        return lambda row: text in str(row["peer"])
    return lambda row: _within(network, str(row["peer"]))


def _within(network: ipaddress.IPv4Network | ipaddress.IPv6Network, peer: str) -> bool:
    """Whether `127.0.0.1:4711` or `[::1]:4711` is in a network."""
    host = peer
    if peer.startswith("["):
        host = peer[1:].partition("]")[0]
    elif peer.count(":") == 1:
        host = peer.partition(":")[0]
    try:
        return ipaddress.ip_address(host) in network
    except ValueError:
        return False  # a Unix socket's


def applications(given: Given) -> Callable[[Row], bool]:
    """--application: a part of its name or of its command."""
    text = given.options.get("--application", "")
    return lambda row: text in str(row["application"]) or text in str(row["command"])


def _ages(given: Given) -> list[Callable[[Row], bool]]:
    try:
        name = "--older"
        least = units.grace(given.options.get(name, "0"))
        name = "--younger"
        most = units.grace(given.options.get(name, "100y"))
    except ValueError as error:
        raise Failure(os.EX_USAGE, f"{name}: {error}") from None
    return [lambda row: least <= _age(row) <= most]


def _age(row: Row) -> float:
    age = row["age"]
    assert isinstance(age, float)
    return age


def show(given: Given, host: Host, output: Output) -> int:
    """All about one session."""
    found = sources.gather(host)
    (one,) = choose.live(found, given.ids)
    row = one.row(sources.now())
    trees = Trees(host)
    limits = trees.limits(one.group) if one.unit else None
    row["memory_max"] = limits and limits.memory
    row["tasks_max"] = limits and limits.tasks
    row["cpu_quota"] = limits and limits.cpu
    row["processes"] = _processes(host, trees, one)
    if "--json" in given:
        output.json(row)
        return os.EX_OK
    row["processes"] = "; ".join(f"{p} {c}" for p, c in _processes(host, trees, one))
    output.pairs(ONE, row)
    return os.EX_OK


def _processes(host: Host, trees: Trees, one: Live) -> list[tuple[int, str]]:
    """The processes of a session, with their command lines."""
    if one.unit:
        pids = trees.processes(one.group)
    else:
        group = processes.groups(host.proc, {one.application_pid} - {0})
        pids = [member.pid for member in group.get(one.application_pid, [])]
    return [(pid, processes.command(host.proc, pid)) for pid in pids]
