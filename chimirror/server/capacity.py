"""The numbers of connections that descriptors and process ids allow on this machine.

Reads getrlimit(2), proc(5) and the pids controller of both cgroup versions. Returns
numbers only and knows nothing of workers as processes or of sessions.
"""

from __future__ import annotations

import os
import resource
from typing import NamedTuple

from chimirror.host import cgroup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.config import Config

PER_SESSION = 4  # descriptors: socket, stdin, stdout, stderr. A spare has no socket.
CONTROL_CHANNEL = 1  # one more, for an application with a control channel
PER_CONTROL = 3  # descriptors: client, gateway and controller of a control connection
# descriptors of a worker for everything else. 32 of them keep cgroups open. 60 are for
# applications that are being started, and for spares that make room for sessions.
RESERVED = 128
# Half of a small limit is reserved. Of the rest, one in 16 each goes to handshakes and
# responses, and then one in 64 to control at least.
_RESERVED_PART, _PENDING_PART, _CONTROL_PART = 2, 16, 64
UNKNOWN_PROCESSES = 1 << 15  # where no limit can be read, as in a sandbox
OTHER_PROCESSES = 512  # process ids that are left for the rest of the machine


def raise_descriptor_limit() -> int:
    """Raise the soft descriptor limit to the hard one. Returns the former soft one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return soft


def descriptor_limits(soft: int) -> tuple[int, int]:
    """Return a soft descriptor limit, at most the hard one, and the hard one."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return (soft if hard == resource.RLIM_INFINITY else min(soft, hard)), hard


def set_descriptor_limit(soft: int) -> None:
    """Set the soft descriptor limit to `soft`, or to the hard one if that is lower."""
    resource.setrlimit(resource.RLIMIT_NOFILE, descriptor_limits(soft))


class Room(NamedTuple):
    """Numbers of connections that the descriptors of one worker allow.

    Attributes:
        sessions: sessions. They leave `control` to control connections.
        control: control connections, even if all sessions are there. Control
            connections may also use the room of sessions that are not there.
        pending: handshakes, and as many responses, with one descriptor each.
        pending_per_source: handshakes, or responses, of one source.
        per_session: descriptors of one session.
    """

    sessions: int
    control: int
    pending: int
    pending_per_source: int
    per_session: int = PER_SESSION

    def has_session(self, sessions: int, control: int) -> bool:
        """Return True if there is room for one more session.

        Args:
            sessions: number of sessions that are there.
            control: number of control connections that are there.
        """
        return self._fits(sessions + 1, max(control, self.control))

    def has_control(self, sessions: int, control: int) -> bool:
        """Return True if there is room for one more control connection."""
        return self._fits(sessions, control + 1)

    def _fits(self, sessions: int, control: int) -> bool:
        whole = self.per_session * self.sessions + PER_CONTROL * self.control
        return self.per_session * sessions + PER_CONTROL * control <= whole


def room_per_worker(config: Config, soft: int | None = None) -> Room:
    """Divide the descriptors of one worker, so that it never meets EMFILE.

    Args:
        config: the command line. A low limit on descriptors allows fewer handshakes
            than --max-handshakes. Application files may have control channels.
        soft: the descriptors of the worker. Without it, those of this process.
    """
    max_handshakes = config.max_handshakes
    per_source = config.max_handshakes_per_source
    has_channels = config.control or config.apps is not None
    per_session = PER_SESSION + (CONTROL_CHANNEL if has_channels else 0)
    if soft is None:
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if soft == resource.RLIM_INFINITY:
        soft = 1 << 20
    reserved = RESERVED + _authorizer_descriptors(config)
    left = max(0, soft - min(reserved, soft // _RESERVED_PART))
    pending = max(2, min(max_handshakes, left // _PENDING_PART))
    share = min(per_source or max_handshakes, max_handshakes)
    share = max(1, share * pending // max_handshakes)
    left -= 2 * pending
    control = max(1, left // PER_CONTROL // _CONTROL_PART)
    # One session more than a single worker admits: plan_workers.
    sessions = max(2, (left - PER_CONTROL * control) // per_session)
    return Room(sessions, control, pending, share, per_session)


def _authorizer_descriptors(config: Config) -> int:
    """Return the descriptors of a worker for the questions to an authorizer."""
    if config.authorize is None or config.authorize.argv:
        return 0  # a helper process has three pipes
    from chimirror.access.authorizer import MAX_ASKED

    return MAX_ASKED


def processes() -> int:
    """Return the number of applications, of one process each, that can run at once."""
    limits = [_number("/proc/sys/kernel/pid_max"), _cgroup_pids_max()]
    if os.getuid() != 0:
        soft = resource.getrlimit(resource.RLIMIT_NPROC)[0]
        limits.append(None if soft == resource.RLIM_INFINITY else soft)
    known = [limit for limit in limits if limit is not None]
    return left_for_applications(min(known, default=UNKNOWN_PROCESSES))


def left_for_applications(limit: int) -> int:
    """Return the processes that applications can have, of a limit on all processes."""
    return max(1, limit - min(OTHER_PROCESSES, limit // 8))


def cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def plan_workers(config: Config) -> tuple[int, int, Room]:
    """Calculate the number of workers and sessions.

    The workers together hold at least one session more than the server admits. So a
    worker always accepts, and rejects the next client.

    Args:
        config: the command line. Without --workers there is one worker per core,
            without --max-sessions there are as many sessions as possible.

    Returns:
        The number of workers, of sessions of the server, and the room of one worker.
    """
    workers, max_sessions = config.workers, config.max_sessions
    room = room_per_worker(config)
    if workers is None:
        workers = cores()
        if max_sessions is not None:
            workers = max(workers, -(-(max_sessions + 1) // room.sessions))
    most = workers * room.sessions - 1
    if max_sessions is None:
        max_sessions = min(most, processes())
    return workers, max(1, min(max_sessions, most)), room


def _cgroup_pids_max() -> int | None:
    groups = cgroup.memberships()
    found = []
    for controller, root in (("", cgroup.ROOT), ("pids", f"{cgroup.ROOT}/pids")):
        if controller in groups:
            found += _limits(root, groups[controller])
    return min(found, default=None)


def _limits(root: str, path: str) -> list[int]:
    """Read the limits of a cgroup and of its ancestors. Each of them applies."""
    found = []
    while path.strip("/"):
        found.append(_number(f"{root}{path}/pids.max"))
        path = path.rpartition("/")[0]
    # the root of a container's cgroup namespace has a limit
    found.append(_number(f"{root}/pids.max"))
    return [limit for limit in found if limit is not None]


def _number(path: str) -> int | None:
    """Read the number in a file. Returns None for `max` or if there is no such file."""
    try:
        with open(path) as file:
            return int(file.read())
    except (OSError, ValueError):
        return None
