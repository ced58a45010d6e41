"""Sets up a forked child: its cgroup, its descriptors and its user.

Knows no loop and no session. Follows fork(2), setresuid(2), credentials(7) and
cgroups(7).
"""

from __future__ import annotations

from chimirror.builtin_modules import DEV_NULL, os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def set_descriptors(fds: Mapping[int, int], *, pty: bool) -> None:
    """Give the child its standard descriptors, and further ones.

    Without a terminal, it leads its own process group. With one, it leads a session.

    Args:
        fds: descriptors by the numbers that they get. Without 2, standard error is the
            null device.
        pty: True if the descriptor for 0 is a terminal, which 1 and 2 share.
    """
    if pty:
        os.login_tty(fds[0])
    else:
        os.setpgid(0, 0)
        for number in (0, 1, 2):
            if number in fds:
                os.dup2(fds[number], number)
        if 2 not in fds:
            null = os.open(DEV_NULL, os.O_RDWR | os.O_CLOEXEC)
            os.dup2(null, 2)
            os.close(null)
    # last: the number may have been that of another descriptor
    for number, fd in fds.items():
        if number == fd:
            os.set_inheritable(fd, True)
        elif number > 2:
            os.dup2(fd, number)


def join_cgroup(path: str) -> None:
    """Move this process into a cgroup, with all processes that it will start.

    Raises:
        OSError: There is no such cgroup, or this process may not enter it.
    """
    fd = os.open(f"{path}/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, b"0")
    finally:
        os.close(fd)


def switch_user(ids: Sequence[int], *, pty: bool) -> None:
    """Become another user for good. Needs root.

    Args:
        ids: the user, its primary group and its other groups.
        pty: True to give standard input, a terminal, to this user.

    Raises:
        OSError: This process may not become that user.
    """
    user, group, *others = ids
    if pty:
        os.fchown(0, user, -1)
    os.setgroups([group, *others])
    os.setresgid(group, group, group)
    os.setresuid(user, user, user)
