"""chimirror-ctl metrics on a machine with a real systemd and journal.

The reference parser of Prometheus reads the text. The counters are compared with the
sessions of the test and with history.
"""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack, suppress

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ctl_on_machine import await_open_sessions, ctl, ctl_failure, ctl_json
from machine_sessions import (
    await_named,
    closed_abruptly,
    echo,
    ended,
    open_session,
    refused,
    serve_many,
    wait_until_idle,
)
from processes import comm, until
from systemd_machine import Machine
from websocket_peer import Peer, upgrade

pytestmark = pytest.mark.timeout(300)

CAT = "/usr/bin/cat"
STATE, OUTPUT = "/run/metrics.json", "/run/metrics.prom"

Samples = dict[tuple[str, tuple[str, ...]], float]


@pytest.fixture
def machine(machine: Machine) -> Machine:
    machine.configure(CAT)
    machine.do("rm", "-f", STATE, OUTPUT)
    return machine


def parsed(text: str) -> Samples:
    """Return each sample by its name and the values of its labels."""
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def measured(machine: Machine, *words: str) -> Samples:
    machine.do("chimirror-ctl", "metrics", "--output", OUTPUT, *words)
    assert machine.path(OUTPUT).stat().st_mode & 0o777 == 0o644
    return parsed(machine.path(OUTPUT).read_text())


def ended_counts(samples: Samples) -> dict[tuple[str, ...], float]:
    return of_family(samples, "chimirror_sessions_ended_total")


def of_family(samples: Samples, name: str) -> dict[tuple[str, ...], float]:
    return {
        labels: value for (found, labels), value in samples.items() if found == name
    }


def traffic(samples: Samples) -> list[float]:
    return [
        samples[f"chimirror_{name}_total", (direction,)]
        for name in ("bytes", "messages")
        for direction in ("in", "out")
    ]


def lose_a_session(machine: Machine, peer: Peer) -> None:
    """Kill the bridge of the only session, and all processes of its unit."""
    (one,) = await_open_sessions(machine, 1)
    await_named(machine, one["unit"], "cat")
    for pid in machine.processes(one["unit"]):
        if comm(pid) != "cat":
            with suppress(ProcessLookupError):  # systemd has ended it
                os.kill(pid, signal.SIGKILL)
    assert closed_abruptly(peer)
    wait_until_idle(machine)


def test_live_sessions(machine: Machine) -> None:
    ctl(machine, "limit", "--runtime", "--sessions", "50")
    with ExitStack() as stack:
        for _ in range(3):
            echo(open_session(machine, stack))
        serve_many(machine)
        echo(open_session(machine, stack, 30748))  # that of a server
        await_open_sessions(machine, 4)
        samples = parsed(ctl(machine, "metrics"))
        assert of_family(samples, "chimirror_sessions") == {("", "open"): 3}
        assert samples["chimirror_capacity_sessions", ()] == 50
    wait_until_idle(machine)


def test_counters_go_on_from_run_to_run(machine: Machine) -> None:
    before = measured(machine, "--state", STATE)
    former = ended_counts(before)
    with ExitStack() as stack:
        echo(open_session(machine, stack))
    wait_until_idle(machine)
    with Peer(machine.connect()) as peer:
        peer.send_raw(upgrade("/", "json", ()).replace(b"Version: 13", b"Version: 12"))
        assert peer.refusal().status == 426
        refused(machine, peer)
    with ExitStack() as stack:
        lose_a_session(machine, open_session(machine, stack))
    after = measured(machine, "--state", STATE)
    added = {key: n - former.get(key, 0) for key, n in ended_counts(after).items()}
    assert sum(added.values()) == 2
    assert added["", "lost"] == 1
    assert measured(machine, "--state", STATE) == after
    # The journal loses everything, and the counters stay.
    machine.do("journalctl", "--rotate", "--vacuum-time=1us")
    assert ctl_json(machine, "history", "--lines", "all") == []
    assert measured(machine, "--state", STATE) == after
    with ExitStack() as stack:
        echo(open_session(machine, stack))
    wait_until_idle(machine)
    last = measured(machine, "--state", STATE)
    assert sum(ended_counts(last).values()) == sum(ended_counts(after).values()) + 1
    assert traffic(last)[3] == traffic(after)[3] + 1
    started = "chimirror_start_seconds_count", ()
    assert last[started] == before[started] + 3


def test_traffic_of_live_and_lost_sessions(machine: Machine) -> None:
    bytes_in, _, messages_in, _ = traffic(measured(machine, "--state", STATE))
    with ExitStack() as stack:
        peer = open_session(machine, stack)
        for _ in range(3):
            echo(peer)
        (one,) = await_open_sessions(machine, 1)
        while ctl_json(machine, "show", one["id"])["messages_in"] < 3:
            pass
        samples = measured(machine, "--state", STATE)
        assert traffic(samples)[2] == messages_in + 3
        assert traffic(samples)[0] > bytes_in
        lose_a_session(machine, peer)
    assert traffic(measured(machine, "--state", STATE)) == traffic(samples)


def test_the_whole_journal_without_a_state(machine: Machine) -> None:
    before = closed_by_operator(machine)
    with ExitStack() as stack:
        peer = open_session(machine, stack)
        echo(peer)
        (one,) = await_open_sessions(machine, 1)
        ctl(machine, "close", one["id"])
        ended(machine, one["id"])
    wait_until_idle(machine)
    after = closed_by_operator(machine)
    assert [new - old for new, old in zip(after, before, strict=True)] == [1, 1]


def closed_by_operator(machine: Machine) -> tuple[float, int]:
    """Return the number in the metrics, and in the history with sessions of servers."""
    counts = ended_counts(parsed(ctl(machine, "metrics")))
    rows = ctl_json(machine, "history", "--lines", "all")
    reason = "closed by operator"
    return counts.get(("", reason), 0), sum(row["reason"] == reason for row in rows)


def test_the_timer_of_the_examples(machine: Machine) -> None:
    place = "/opt/chimirror/share/chimirror/examples/monitoring"
    names = [f"chimirror-metrics.{kind}" for kind in ("service", "timer")]
    units = [f"/run/systemd/system/{name}" for name in names]
    directory = "/var/lib/prometheus/node-exporter"
    machine.do("mkdir", "-p", directory)
    for name, unit in zip(names, units, strict=True):
        machine.do("cp", f"{place}/{name}", unit)
    try:
        machine.do("systemctl", "daemon-reload")
        machine.do("systemd-analyze", "verify", "--man=no", *units)
        with ExitStack() as stack:
            echo(open_session(machine, stack))
            await_open_sessions(machine, 1)
            machine.do("systemctl", "start", names[0])
            file = machine.path(f"{directory}/chimirror.prom")
            samples = parsed(file.read_text())
            assert of_family(samples, "chimirror_sessions") == {("", "open"): 1}
            assert traffic(samples)[2] >= 1
            file.unlink()
            machine.do("systemctl", "start", names[1])
            until(file.exists, "a file of the timer")
        told = machine.journal(SYSLOG_IDENTIFIER="systemd", UNIT=names[0])
        assert told == []
    finally:
        machine.do("systemctl", "stop", *names)
        machine.do("rm", "-r", *units, directory, "/var/lib/chimirror")
        machine.do("systemctl", "daemon-reload")
    wait_until_idle(machine)


def test_a_state_that_cannot_be_read(machine: Machine) -> None:
    machine.write(STATE, '{"version":2}')
    status, text = ctl_failure(machine, "metrics", "--state", STATE)
    assert status == os.EX_DATAERR
    assert "a newer version has written it; remove the file to begin" in text
    assert machine.path(STATE).read_text() == '{"version":2}'
    for option in ("--state", "--output"):
        for path in ("/run", "/run/", ""):
            status, text = ctl_failure(machine, "metrics", f"{option}={path}")
            assert status == os.EX_USAGE
            assert "is a directory; write the name of a file" in text


def test_runs_at_the_same_time(machine: Machine) -> None:
    """Each waits for the former, and counts no record again."""
    with ExitStack() as stack:
        echo(open_session(machine, stack))
    wait_until_idle(machine)
    run = f"chimirror-ctl metrics --state {STATE} --output {OUTPUT}"
    machine.do("sh", "-c", f"{run}.1 & {run}.2 & {run}.3 & wait")
    texts = {machine.path(f"{OUTPUT}.{n}").read_text() for n in (1, 2, 3)}
    machine.do("sh", "-c", f"rm {OUTPUT}.*")
    (text,) = texts
    assert sum(ended_counts(parsed(text)).values()) >= 1
