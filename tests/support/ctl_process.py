"""A server of the tests, and paths on which chimirror-ctl finds only that server.

Import the fixtures by name.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from chimirror.ctl.paths import HostPaths
from chimirror.host import runtime_dir
from processes import until
from serve import Service, server
from websocket_peer import Peer


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    """A server with two workers that waits for its sessions at its end."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with server(tmp_path, ["cat"], "--workers=2", "--drain-timeout=1h") as found:
        yield found


@pytest.fixture
def host(tmp_path: Path, service: Service) -> HostPaths:
    return only_this_server(tmp_path, service)


@contextmanager
def connected(service: Service) -> Iterator[Peer]:
    with Peer(service.connect()) as peer:
        assert peer.open().status == 101
        yield peer


def only_this_server(tmp_path: Path, service: Service) -> HostPaths:
    """Return host paths on which no other server is visible."""
    place = runtime_dir.directory(os.environ, os.geteuid())
    real = Path(place or tmp_path) / "servers" / str(service.pid)
    until((real / "0").exists, "its control socket")
    servers = tmp_path / "alone" / "servers"
    servers.mkdir(parents=True)
    (servers / str(service.pid)).symlink_to(real)
    return HostPaths((str(tmp_path / "alone"),), run=str(tmp_path / "run"))
