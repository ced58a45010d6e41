"""The configuration of podman for a test: all its files lie in its own directories."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CONTAINERS = """\
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1000:1000"]
[engine]
runtime = "runc"
[network]
network_config_dir = "{directory}/networks"
"""
STORAGE = """\
[storage]
driver = "overlay"
graphroot = "{directory}/graph"
runroot = "{runroot}"
"""


@contextmanager
def podman_storage(directory: Path) -> Iterator[dict[str, str]]:
    """Configure podman until the end of the context.

    The runtime is runc, which takes a host with cgroups of both versions.

    Yields:
        The environment variables of podman.
    """
    containers, storage = directory / "containers.conf", directory / "storage.conf"
    # Podman cleans up after no container if runroot has more than 50 characters. Each
    # end then takes 20 seconds.
    with tempfile.TemporaryDirectory(prefix="podman-", dir="/run") as runroot:
        containers.write_text(CONTAINERS.format(directory=directory))
        storage.write_text(STORAGE.format(directory=directory, runroot=runroot))
        try:
            yield {
                "CONTAINERS_CONF": str(containers),
                "CONTAINERS_STORAGE_CONF": str(storage),
            }
        finally:
            subprocess.run(["umount", "--quiet", directory / "graph" / "overlay"])
