"""The directories of this machine. Knows nothing of their content.

Tests give other directories, and so have a machine of their own.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from chimirror.host import runtime_dir

SLICE = "chimirror.slice"


class HostPaths(NamedTuple):
    """The directories of one machine.

    Attributes:
        runtime_dirs: The runtime directories of chimirror that this user may read.
        run: The directory in which systemd and the journal keep volatile state.
        etc: The directory of configuration.
        log: The directory of the persistent journal.
    """

    runtime_dirs: tuple[str, ...]
    cgroups: str = "/sys/fs/cgroup"
    proc: str = "/proc"
    run: str = "/run"
    etc: str = "/etc"
    log: str = "/var/log"

    @property
    def booted(self) -> bool:
        """Whether systemd is process 1 here, as sd_booted(3) tests it."""
        return os.path.isdir(f"{self.run}/systemd/system")


def this_host() -> HostPaths:
    """Return the directories of the machine that this process runs on."""
    return HostPaths(tuple(runtime_dir.all_directories(os.environ, os.geteuid())))
