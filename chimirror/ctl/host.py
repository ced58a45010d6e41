"""Where on this machine everything is: directories, and nothing about what they hold.

Tests make a machine of their own by giving other directories.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from chimirror.system import runtime

SLICE = "chimirror.slice"


class Host(NamedTuple):
    """A machine.

    Attributes:
        places: the RUNTIME directories (system/runtime) that we may look into.
        run: what systemd and the journal keep in /run.
        etc: where configuration is.
        log: where the journal is that lasts.
    """

    places: tuple[str, ...]
    cgroups: str = "/sys/fs/cgroup"
    proc: str = "/proc"
    run: str = "/run"
    etc: str = "/etc"
    log: str = "/var/log"

    @property
    def booted(self) -> bool:
        """Whether systemd is process 1 here; sd_booted(3)."""
        return os.path.isdir(f"{self.run}/systemd/system")


def this_host() -> Host:
    """The machine that we run on."""
    return Host(tuple(runtime.every(os.environ, os.geteuid())))
