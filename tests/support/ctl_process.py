"""Prepares the paths on which chimirror-ctl finds exactly one server of the tests."""

from __future__ import annotations

import os
from pathlib import Path

from chimirror.ctl.paths import HostPaths
from chimirror.host import runtime_dir
from processes import until
from serve import Service


def only_this_server(tmp_path: Path, service: Service) -> HostPaths:
    """Return host paths on which no other server is visible."""
    place = runtime_dir.directory(os.environ, os.geteuid())
    real = Path(place or tmp_path) / "servers" / str(service.pid)
    until((real / "0").exists, "its control socket")
    servers = tmp_path / "alone" / "servers"
    servers.mkdir(parents=True)
    (servers / str(service.pid)).symlink_to(real)
    return HostPaths((str(tmp_path / "alone"),), run=str(tmp_path / "run"))
