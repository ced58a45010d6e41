"""chimirror-ctl --host with real servers behind real ssh(1) and sshd(8).

tests/unit/ctl/test_hosts.py has the answers of hosts that fail or lie.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from ctl_process import connected, only_this_server
from serve import Service, server
from ssh_hosts import SshHosts
from websocket_peer import Peer, upgrade

CTL = (sys.executable, "-P", "-m", "chimirror.ctl.main")


@pytest.fixture
def ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SshHosts:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    hosts = SshHosts(tmp_path)
    monkeypatch.setenv("CHIMIRROR_SSH", str(hosts.program))
    return hosts


@pytest.fixture
def services(tmp_path: Path, ssh: SshHosts) -> Iterator[dict[str, Service]]:
    """Two hosts, `a` and `b`, each with a server."""
    found: dict[str, Service] = {}
    with ExitStack() as stack:
        for name in ("a", "b"):
            place = tmp_path / f"place-{name}"
            place.mkdir()
            found[name] = stack.enter_context(server(place, ["cat"], "--workers=1"))
            (runtime,) = only_this_server(place, found[name]).runtime_dirs
            ssh.add(name, Path(runtime))
        yield found


def ctl(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*CTL, *words], capture_output=True, text=True)


def ctl_json(*words: str) -> list[dict[str, object]]:
    done = ctl(*words, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    found: list[dict[str, object]] = json.loads(done.stdout)
    return found


def peer_of(peer: Peer) -> str:
    host, port = peer.socket.getsockname()
    return f"{host}:{port}"


def test_the_sessions_of_two_hosts(services: dict[str, Service]) -> None:
    with ExitStack() as stack:
        expected = set()
        for name in ("a", "b", "b"):
            peer = stack.enter_context(connected(services[name]))
            expected.add((name, peer_of(peer)))
        rows = ctl_json("--host", "a,b")
        assert {(row["host"], row["peer"]) for row in rows} == expected
        assert rows == sorted(rows, key=lambda row: -float(str(row["age"])))
        for row in rows:
            assert row["server"] == services[str(row["host"])].pid
        filtered = ctl_json("--host", "a,b", "--peer", next(iter(expected))[1])
        assert len(filtered) == 1


def test_drain_and_undrain(services: dict[str, Service]) -> None:
    with connected(services["b"]):
        done = ctl("drain", "--host", "a,b")
        assert done.stdout == "a: sessions left: 0\nb: sessions left: 1\n"
        assert (done.returncode, done.stderr) == (0, "")
        for service in services.values():
            with Peer(service.connect()) as peer:
                peer.send_raw(upgrade("/", "json", ()))
                assert peer.refusal().status == 503
        done = ctl("undrain", "--host", "a")
        assert done.stdout == f"a: accepts sessions: server {services['a'].pid}\n"
        with connected(services["a"]):
            assert [row["host"] for row in ctl_json("--host", "b,a")] == ["b", "a"]


def test_hosts_that_fail_hide_no_others(
    ssh: SshHosts, services: dict[str, Service]
) -> None:
    ssh.add("bare")
    with connected(services["a"]), ssh.dead("dead"):
        done = ctl("--host", "dead,bare,a,none.invalid")
        assert [line.split("\t")[0] for line in done.stdout.splitlines()] == [
            *("host", "a"),
        ]
        assert done.returncode == os.EX_UNAVAILABLE
        dead, bare, unknown = done.stderr.splitlines()
        assert dead.startswith("chimirror-ctl: dead: ssh: connect to host 127.0.0.1")
        assert "Connection refused; ssh dead has to log in with no question" in dead
        assert "chimirror-ctl: bare: " in bare
        assert "not found; install chimirror there" in bare
        assert "none.invalid" in unknown


def test_a_host_that_does_not_know_the_user(
    ssh: SshHosts, services: dict[str, Service], tmp_path: Path
) -> None:
    """No password is asked for: the questions of several hosts would mix."""
    (tmp_path / "user_key.pub").write_text("")
    done = ctl("drain", "--host", "a")
    assert (done.returncode, done.stdout) == (os.EX_UNAVAILABLE, "")
    assert "Permission denied (publickey)" in done.stderr
    (tmp_path / "known_hosts").write_text("")
    assert "Host key verification failed" in ctl("--host", "a").stderr
    with connected(services["a"]):
        pass
