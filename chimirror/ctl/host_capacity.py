"""The number of sessions that each resource of this machine allows.

Reads proc(5), and takes the settings of units from its caller. A memory size of the
sessions that are live counts. Without them, that of the smallest application does.
Knows nothing of findings.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from chimirror.config import parser
from chimirror.ctl import formats, procfs
from chimirror.ctl.cgroups import CgroupHierarchy
from chimirror.server import capacity
from chimirror.text import counted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from chimirror.ctl.paths import HostPaths
    from chimirror.ctl.session_info import SessionInfo

    Properties = dict[str, str]

# Bytes of a session with the smallest application. A bridge is a Python interpreter.
SERVER_MEMORY, BRIDGE_MEMORY = 90_000, 5_000_000
# Bytes of the kernel and the worker for a session of a server, beside its processes.
SERVER_OVERHEAD = 80_000
# Open files of the kernel, with the mapped libraries of an application.
SERVER_FILES, BRIDGE_FILES = 25, 50
MAX_PID = 1 << 22  # the largest kernel.pid_max
SAMPLE = 50  # live sessions that are measured
LOOPBACK = re.compile(r"(127\.[0-9.]+|\[::1\]):[0-9]+ \(Stream\)")
NETWORK = re.compile(r".*:[0-9]+ \(Stream\)")


class Bound(NamedTuple):
    """The number of sessions that one resource allows.

    Attributes:
        resource: Its name in JSON.
        sessions: The number, at least 0.
        cause: The setting or the size that is the limit.
        advice: How to raise it.
    """

    resource: str
    sessions: int
    cause: str
    advice: str


class SessionKind(NamedTuple):
    """What one kind of session takes, and the settings of its units.

    Attributes:
        sessions: Live sessions of this kind.
        processes: Processes of one session.
        files: Open files of one session.
        memory: Bytes of a session where none is live.
        overhead: Bytes beside the measured processes.
        tasks: TasksMax= of the units in which all sessions are, as systemd shows it.
        memory_max: MemoryMax= of these units, likewise.
        descriptors: LimitNOFILE= of a server, None for bridges.
        listens: Listen= of the socket, as systemd shows it.
        user_processes: LimitNPROC= of a server, which has a user of its own.
        has_default: Whether the server chooses its limit, without --max-sessions.
    """

    sessions: Sequence[SessionInfo]
    processes: int
    files: int
    memory: int
    overhead: int
    tasks: Sequence[str]
    memory_max: Sequence[str]
    descriptors: str | None
    listens: str
    user_processes: str = ""
    has_default: bool = False


def bounds(host: HostPaths, service: SessionKind) -> list[Bound]:
    """Return the bounds that are known, the lowest first."""
    found = [
        *_memory(host, service),
        *_processes(host, service),
        *_default(host, service),
        *_descriptors(service),
        *_files(host, service),
        *_connections(host),
        *_ports(host, service.listens),
    ]
    return sorted(found, key=lambda bound: bound.sessions)


def _memory(host: HostPaths, service: SessionKind) -> Iterator[Bound]:
    fields = _meminfo(host)
    if not {"MemTotal", "MemAvailable"} <= fields.keys():
        return
    count = len(service.sessions)
    each = _memory_of_each(host, service)
    free = fields["MemAvailable"] - fields["MemTotal"] // 16 + count * each
    origin = f"as the {count} live ones" if count else "the smallest application"
    text = f"memory, {each // 1000:,} kB each, {origin}"
    advice = "take more memory or more hosts: chimirror-fleet(7)"
    most = min((int(text) for text in service.memory_max if text.isdigit()), default=0)
    if most and most < free:
        free, text = most, f"{text}, of MemoryMax={formats.exact_size(most)}"
        advice = "chimirror-ctl limit --memory-max SIZE"
    yield Bound("memory", max(0, free // each), text, advice)


def _memory_of_each(host: HostPaths, service: SessionKind) -> int:
    """Return the bytes of one session: measured where some are live."""
    sample = service.sessions[:: max(1, len(service.sessions) // SAMPLE)][:SAMPLE]
    groups = {session.application_pid for session in sample if not session.unit} - {0}
    members = procfs.groups(host.proc, groups) if groups else {}
    sizes = []
    for session in sample:
        if session.unit:
            sizes.append(session.usage.memory or 0)
            continue
        processes = members.get(session.application_pid, [])
        sizes.append(sum(procfs.proportional(host.proc, one.pid) for one in processes))
    known = [size for size in sizes if size]
    if not known:
        return service.memory
    return max(service.memory, sum(known) // len(known) + service.overhead)


def _processes(host: HostPaths, service: SessionKind) -> Iterator[Bound]:
    known = sorted(_process_limits(host, service))
    if known:
        lowest, cause, advice = known[0]
        count = capacity.left_for_applications(lowest) // service.processes
        yield Bound("processes", count, f"processes, {cause}", advice)


def _process_limits(
    host: HostPaths, service: SessionKind
) -> Iterator[tuple[int, str, str]]:
    """Yield each limit on processes, its name with the number, and a larger one."""
    for name in ("kernel.pid_max", "kernel.threads-max"):
        limit = _number(f"{host.proc}/sys/{name.replace('.', '/')}")
        if limit:
            larger = min(4 * limit, MAX_PID) if name == "kernel.pid_max" else 4 * limit
            yield limit, f"{name} {limit:,}", f"sysctl {name}={larger}"
    for text in service.tasks:
        if text.isdigit():
            advice = f"chimirror-ctl limit --tasks-max {4 * int(text)}"
            yield int(text), f"TasksMax={text}", advice
    if service.user_processes.isdigit():
        limit = int(service.user_processes)
        yield limit, f"LimitNPROC={limit}", f"LimitNPROC={4 * limit} in the unit"
    limit = CgroupHierarchy(host).limits("").tasks
    if limit:
        yield limit, f"pids.max {limit:,}", "a larger limit for this container"


def _default(host: HostPaths, service: SessionKind) -> Iterator[Bound]:
    """The default of a server whose sandbox hides /proc/sys, and that has no limit."""
    cgroup = CgroupHierarchy(host).limits("").tasks
    known = map(str.isdigit, (*service.tasks, service.user_processes))
    if service.has_default and not cgroup and not any(known):
        yield Bound(
            "default",
            capacity.left_for_applications(capacity.UNKNOWN_PROCESSES),
            "CHIMIRROR_MAX_SESSIONS=off, as the unit cannot read kernel.pid_max",
            "chimirror-ctl limit --sessions N",
        )


def _descriptors(service: SessionKind) -> Iterator[Bound]:
    """Divide the descriptors of one worker for each core, with control channels."""
    if service.descriptors is None or not service.descriptors.isdigit():
        return
    config = parser.parse_server(["--control", "--", "program"])
    room = capacity.room_per_worker(config, int(service.descriptors))
    workers = capacity.cores()
    yield Bound(
        "descriptors",
        workers * room.sessions - 1,
        f"descriptors, {workers} workers of {int(service.descriptors):,}",
        "set --workers in CHIMIRROR_OPTIONS, or a larger LimitNOFILE=",
    )


def _files(host: HostPaths, service: SessionKind) -> Iterator[Bound]:
    most = _number(f"{host.proc}/sys/fs/file-max")
    if most:
        cause, advice = f"fs.file-max {most:,}", f"sysctl fs.file-max={4 * most}"
        yield Bound("files", most // service.files, cause, advice)


def _connections(host: HostPaths) -> Iterator[Bound]:
    """Connections that the kernel tracks, where a filter uses that."""
    name = "net.netfilter.nf_conntrack_max"
    most = _number(f"{host.proc}/sys/{name.replace('.', '/')}")
    if most:
        cause, advice = f"{name} {most:,}", f"sysctl {name}={4 * most}"
        yield Bound("conntrack", most * 15 // 16, cause, advice)


def _ports(host: HostPaths, listens: str) -> Iterator[Bound]:
    """Ports of a proxy on this machine, the only client of loopback addresses."""
    lines = listens.splitlines()
    loopback = [line for line in lines if LOOPBACK.fullmatch(line)]
    if not loopback or len(loopback) < len(lines):
        return  # a Unix socket has no ports, and other hosts have ports of their own
    size = ports_of_an_address(host)
    if size:
        name = "net.ipv4.ip_local_port_range"
        count = counted(len(loopback), "listening socket")
        text = f"{name}, {size:,} ports of a proxy here for {count}"
        advice = f"sysctl {name}='1024 65535', more ListenStream=, or a Unix socket"
        yield Bound("ports", size * len(loopback), text, advice)


def ports_of_an_address(host: HostPaths) -> int | None:
    """Return the number of ports from which one address connects to another."""
    text = procfs.read(f"{host.proc}/sys/net/ipv4/ip_local_port_range").split()
    if len(text) != 2:
        return None
    return max(0, int(text[1]) - int(text[0]) + 1)


def _meminfo(host: HostPaths) -> dict[str, int]:
    """Return /proc/meminfo in bytes."""
    found = {}
    for line in procfs.read(f"{host.proc}/meminfo").decode().splitlines():
        words = line.split()
        if len(words) > 1 and words[1].isdigit():
            found[words[0].rstrip(":")] = int(words[1]) * 1024
    return found


def _number(path: str) -> int | None:
    text = procfs.read(path).strip()
    return int(text) if text.isdigit() else None
