"""Tests --metrics and --agent of chimirror-server: real sessions, workers and kills.

What they report is compared with the records of the same server.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from chimirror.ctl.paths import HostPaths
from chimirror.server.metrics_table import REGION_SIZE
from chimirror.server.short_connections import MAX_CONNECTIONS
from ctl_process import only_this_server
from fake_host import ctl
from metrics_client import (
    OPTIONS,
    Samples,
    agent,
    endpoint,
    get,
    ready,
    recorded_ends,
    recorded_starts,
    scrape,
)
from processes import descriptors, require_access, until
from serve import Service, preloading, server
from websocket_peer import NO_CLOSE, Closed, Peer, stdin, upgrade

SHELL = ["sh", "-c", "while read -r line; do eval $line; done"]
OPEN = ("chimirror_sessions", frozenset({("application", ""), ("state", "open")}))


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    options = (*OPTIONS, "--workers=2", "--max-sessions=20", "--stop-grace=0")
    with server(tmp_path, SHELL, *options) as found:
        yield found


@pytest.fixture
def host(tmp_path: Path, service: Service) -> HostPaths:
    return only_this_server(tmp_path, service)


@contextmanager
def sessions(service: Service, count: int) -> Iterator[list[Peer]]:
    """Open sessions, each of which has echoed a line."""
    with ExitStack() as stack:
        peers = [stack.enter_context(Peer(service.connect())) for _ in range(count)]
        for peer in peers:
            assert peer.open(framing="stdio").status == 101
            run(peer, b"echo hi")
            assert peer.output(3) == b"hi\n"
        yield peers


def run(peer: Peer, line: bytes) -> None:
    """Let the shell of a session run a line."""
    peer.send(stdin(line + b"\n"))


def await_sessions(service: Service, count: int) -> Samples:
    """Wait until this many sessions are open and none is in another state."""
    found: list[Samples] = []

    def ask() -> bool:
        found[:] = [scrape(service)]
        total = found[0].sum("chimirror_sessions")
        return found[0][OPEN] == total == count

    until(ask, f"{count} sessions")
    return found[0]


# Samples


def test_sums_equal_the_records(service: Service) -> None:
    with sessions(service, 6) as (one, two, three, four, five, six):
        samples = await_sessions(service, 6)
        assert samples.sum("chimirror_capacity_sessions") == 20
        run(one, b"exit 3")
        run(two, b"kill -KILL $$")
        three.send_close(1000)
        four.send_close(4321)
        five.reset()
        six.send_raw(b"\xff\xff")
        assert one.transcript(wait=False).closed == Closed(1011, "exit 3")
        # A client that left earlier would be the reason of the end.
        assert two.transcript(wait=False).closed == Closed(1011, "signal KILL")
        for peer in (three, four, six):
            peer.transcript(wait=False)
    service.await_ends(6)
    samples = await_sessions(service, 0)
    reasons, sums = recorded_ends(service.log)
    assert reasons == {
        "exit 3": 1,
        "signal KILL": 1,
        "client close 1000": 1,
        "client close 4xxx": 1,
        "client gone": 1,
        "protocol": 1,
    }
    assert samples.by_label("chimirror_sessions_ended_total", "reason") == reasons
    for name in ("bytes", "messages"):
        counted = samples.by_label(f"chimirror_{name}_total", "direction")
        for direction in ("in", "out"):
            expected = sums[f"{name}_{direction}".upper()]
            assert counted[direction] == expected > 0
    starts = recorded_starts(service.log)
    assert samples.sum("chimirror_start_seconds_count") == len(starts) == 6
    whole = samples.sum("chimirror_start_seconds_sum")
    assert whole == pytest.approx(sum(starts), abs=6e-6)  # records have microseconds
    assert 0 < whole < 6 * 200


def test_refusals(service: Service) -> None:
    # More than the log records one by one.
    for _ in range(30):
        with Peer(service.connect()) as peer:
            peer.send_raw(b"GET / HTTP/1.1\r\nHost: elsewhere.example\r\n\r\n")
            assert peer.refusal().status == 403
    with Peer(service.connect()) as peer:
        peer.send_raw(upgrade("/?x", "json", ("Origin: http://evil.example",)))
        assert peer.refusal().status == 403
    refused = scrape(service).by_label("chimirror_refusals_total", "cause")
    assert refused == {"host": 30, "origin": 1}


def test_a_program_that_cannot_start(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/cat\n")
    program.chmod(0o755)
    with server(tmp_path, [str(program)], *OPTIONS) as service:
        program.unlink()
        with Peer(service.connect()) as peer:
            assert peer.open().status == 500
        samples = await_sessions(service, 0)
        assert samples.by_label("chimirror_refusals_total", "cause") == {"start": 1}
        assert not samples.sum("chimirror_sessions_ended_total")


def test_both_formats_have_the_same_samples(service: Service) -> None:
    with sessions(service, 1):
        text, new = scrape(service), scrape(service, open_metrics=True)
    varying = {key for key in text if key[0] == "chimirror_loop_lag_seconds"}
    assert varying
    assert text.keys() == new.keys()
    assert {k: v for k, v in text.items() if k not in varying} == {
        k: v for k, v in new.items() if k not in varying
    }


def test_names_of_applications(tmp_path: Path) -> None:
    apps = tmp_path / "apps"
    apps.mkdir()
    for name in ("one", "two"):
        (apps / f"{name}.toml").write_text('command = ["cat"]\n')
    options = ("--apps", str(apps), *OPTIONS)
    with server(tmp_path, [], *options) as service:
        for name in ("one", "one", "two"):
            with Peer(service.connect()) as peer:
                assert peer.open(f"/{name}").status == 101
                peer.send_close(1000)
                peer.transcript()
        service.await_ends(3)
        ended = scrape(service).by_label(
            "chimirror_sessions_ended_total", "application"
        )
        assert ended == {"one": 2, "two": 1}


# Deaths


def test_sessions_of_killed_workers_are_lost(service: Service) -> None:
    with sessions(service, 3) as peers:
        for peer in peers:
            peer.send_close(1000)
            peer.transcript()
    service.await_ends(3)
    before = await_sessions(service, 0)
    workers = service.workers()
    with sessions(service, 8) as peers:
        alive = await_sessions(service, 8)
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
        for peer in peers:
            assert peer.transcript(wait=False).closed.code == NO_CLOSE
    until(lambda: len(set(service.workers()) - set(workers)) == 2, "new workers")
    with sessions(service, 1) as (peer,):
        peer.send_close(1000)
        peer.transcript()
    service.await_ends(4)
    samples = await_sessions(service, 0)
    reasons, _ = recorded_ends(service.log)
    ended = samples.by_label("chimirror_sessions_ended_total", "reason")
    assert ended == {**reasons, "lost": 8}
    restarts = samples.by_label("chimirror_restarts_total", "process")
    assert restarts == {"worker": 2}
    for name in ("chimirror_bytes_total", "chimirror_messages_total"):
        counts = [
            found.by_label(name, "direction") for found in (before, alive, samples)
        ]
        for direction in ("in", "out"):
            values = [count[direction] for count in counts]
            assert values == sorted(set(values))  # nothing was lost
    lags = {
        dict(labels)["process"]
        for name, labels in samples
        if name == "chimirror_loop_lag_seconds"
    }
    assert lags == {"supervisor", "worker 0", "worker 1"}


def test_a_worker_that_is_stuck(service: Service) -> None:
    worker = service.workers()[0]
    os.kill(worker, signal.SIGSTOP)
    try:
        until(
            lambda: max(lag for lag in lags(service)) > 1.0,
            "the lag of a stopped worker",
        )
    finally:
        os.kill(worker, signal.SIGCONT)
    until(lambda: max(lags(service)) < 1.0, "the end of the lag")


def lags(service: Service) -> list[float]:
    samples = scrape(service)
    return [v for (name, _), v in samples.items() if "loop_lag" in name]


def test_a_zygote_that_ends(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text("def main():\n    print('up', flush=True)\n")
    with preloading(tmp_path, "module:main", *OPTIONS) as service:
        (zygote,) = service.zygotes()
        os.kill(zygote, signal.SIGKILL)

        def restarts() -> dict[str, int]:
            return scrape(service).by_label("chimirror_restarts_total", "process")

        until(lambda: restarts() == {"zygote": 1}, "the restart of the zygote")
        with Peer(service.connect()) as peer:
            assert peer.open().status == 101
            assert peer.output(3) == b"up\n"


def test_no_application_shares_the_counters(tmp_path: Path) -> None:
    """A copy of a preloaded application could write them otherwise."""
    text = (
        "import sys\ndef main():\n    print('up', flush=True)\n    sys.stdin.read()\n"
    )
    (tmp_path / "module.py").write_text(text)
    options = (*OPTIONS, "--workers=1")
    with preloading(tmp_path, "module:main", *options) as service:
        require_access(service.pid)
        with Peer(service.connect()) as peer:
            assert peer.open().status == 101
            assert peer.output(3) == b"up\n"
            (worker,), (zygote,) = service.workers(), service.zygotes()
            (copy,) = service.applications()
            assert shares_counters(service.pid)
            assert shares_counters(worker)
            assert not shares_counters(zygote)
            assert not shares_counters(copy)


def shares_counters(pid: int) -> bool:
    """Return True if a process has the memory of a supervisor and one worker."""
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        first, last = (int(word, 16) for word in line.split()[0].split("-"))
        if "rw-s" in line and last - first == 2 * REGION_SIZE:
            return True
    return False


def test_spares(tmp_path: Path) -> None:
    with server(tmp_path, ["cat"], *OPTIONS, "--spares=2") as service:
        until(lambda: scrape(service).sum("chimirror_spares") == 2, "two spares")
        with Peer(service.connect()) as peer:
            assert peer.open().status == 101
            await_sessions(service, 1)


# Status


def test_drain_and_undrain(service: Service, host: HostPaths) -> None:
    with sessions(service, 5):
        assert (ready(service), agent(service)) == (
            (200, "ready\n"),
            "ready up 75%\n",
        )
        ctl(host, "drain")
        assert (ready(service), agent(service)) == ((503, "draining\n"), "drain\n")
        assert scrape(service)[OPEN] == 5
        ctl(host, "undrain")
        assert (ready(service), agent(service)) == (
            (200, "ready\n"),
            "ready up 75%\n",
        )


def test_a_full_server(service: Service) -> None:
    with sessions(service, 20) as peers:
        assert (ready(service), agent(service)) == ((503, "full\n"), "ready up 0%\n")
        with Peer(service.connect()) as peer:
            assert peer.open().status == 503
        assert get(endpoint(service, "metrics"), "/live").status == 200
        peers[0].send_close(1000)
        peers[0].transcript()
        until(lambda: agent(service) == "ready up 5%\n", "room for one session")
        assert ready(service) == (200, "ready\n")


def test_a_server_that_stops_answers_until_its_last_session(service: Service) -> None:
    with sessions(service, 1) as (peer,):
        os.kill(service.pid, signal.SIGTERM)
        until(lambda: ready(service) == (503, "stopping\n"), "the stop")
        assert agent(service) == "drain\n"
        assert scrape(service)[OPEN] == 1
        run(peer, b"exit 0")
        peer.transcript(wait=False)
    service.process.wait(200)
    metrics = endpoint_of_log(service)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(metrics, 200)


def endpoint_of_log(service: Service) -> tuple[str, int]:
    import re

    where = re.search(r"serving metrics on ([^\s\"]+):(\d+)", service.log.read_text())
    assert where
    return where[1], int(where[2])


# Requests


@pytest.mark.parametrize(
    ("path", "method", "fields", "status", "text"),
    [
        ("/live", "GET", {}, 200, "live"),
        ("/live", "HEAD", {}, 200, ""),
        ("/metrics?name[]=up", "GET", {}, 200, "chimirror_spares 0"),
        ("/", "GET", {}, 404, "ask for /metrics, /live, /ready"),
        ("/metrics", "POST", {}, 405, "write GET, HEAD"),
        ("/metrics", "GET", {"Origin": "http://127.0.0.1"}, 403, "pages of browsers"),
        ("/metrics", "GET", {"Host": "evil.example"}, 403, "--host evil.example"),
        ("/metrics", "GET", {"Host": "Known.Example:1"}, 200, "chimirror_spares"),
        ("/metrics", "GET", {"Host": "a b"}, 400, "malformed Host"),
    ],
)
def test_requests(
    tmp_path: Path,
    path: str,
    method: str,
    fields: dict[str, str],
    status: int,
    text: str,
) -> None:
    options = (*OPTIONS, "--workers=1", "--host=known.example")
    with server(tmp_path, ["cat"], *options) as service:
        answer = get(endpoint(service, "metrics"), path, method, **fields)
        assert answer.status == status
        assert text in answer.body
        assert answer.fields["connection"] == "close"
        assert not [name for name in answer.fields if name.startswith("access-")]


def test_unix_sockets(tmp_path: Path) -> None:
    path = tmp_path / "metrics"
    options = (f"--metrics=unix:{path}", "--socket-mode=0660")
    with server(tmp_path, ["cat"], *options):
        assert path.stat().st_mode & 0o777 == 0o660
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(200)
            connection.connect(str(path))
            connection.sendall(b"GET /live HTTP/1.0\r\n\r\n")
            assert connection.makefile("rb").read().endswith(b"\r\n\r\nlive\n")
    assert not path.exists()


# Hostile clients

GARBAGE = [
    b"\x16\x03\x01\x02\x00\x01",
    b"\n" * 9000,
    b"GET /metrics HTTP/1.1\r\n" + b"X: y\r\n" * 2000,
    b"x" * 9000,
    b"GET /metrics HTTP/2\r\n\r\n",
    b"POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n",
]


@pytest.mark.parametrize("data", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage(service: Service, data: bytes) -> None:
    address = endpoint(service, "metrics")
    with socket.create_connection(address, 200) as connection:
        connection.sendall(data)
        answer = connection.makefile("rb").read(12)
    assert answer in (
        b"HTTP/1.1 400",
        b"HTTP/1.1 405",
        b"HTTP/1.1 431",
        b"HTTP/1.1 505",
    )
    assert scrape(service)


def test_silent_clients_give_way(service: Service) -> None:
    """A thousand connections neither keep a scraper out nor disturb a session."""
    addresses = [endpoint(service, name) for name in ("metrics", "the agent")]
    with sessions(service, 2) as peers, ExitStack() as stack:
        before = descriptors(service.pid)
        for address in addresses:
            for number in range(1000):
                one = stack.enter_context(socket.create_connection(address, 200))
                if number % 2:
                    one.sendall(b"GET /met")
                if not number % 100:
                    assert scrape(service)[OPEN] == 2
                    assert agent(service) == "ready up 90%\n"
        # Connections, and those that the next turn closes.
        most = before + 2 * (MAX_CONNECTIONS + 64)
        until(lambda: descriptors(service.pid) <= most, "a bound on connections")
        for peer in peers:
            run(peer, b"echo still")
            assert peer.output(6) == b"still\n"


def test_connections_do_not_outlive_their_answer_in_a_new_worker(
    service: Service,
) -> None:
    """A worker that is forked meanwhile keeps no copy of a connection."""
    address = endpoint(service, "metrics")
    with socket.create_connection(address, 200) as connection:
        connection.sendall(b"GET /live HTTP/1.1\r\nHost: localhost\r\n")
        before = service.workers()
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        until(lambda: len(set(service.workers()) - set(before)) == 2, "new workers")
        connection.sendall(b"\r\n")
        assert connection.makefile("rb").read().endswith(b"live\n")
