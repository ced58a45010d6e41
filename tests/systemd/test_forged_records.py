"""An application in its sandbox writes records to the journal that are not true.

It can reach the journal, and names its own session, another one and invented ones.
Neither `history` nor `stats` nor the log of another session changes. Records of
chimirror itself count, also those that the journal reads late.
"""

from __future__ import annotations

import json
from contextlib import ExitStack

import pytest

from chimirror.ctl.journal import UNIT_SUCCEEDED
from chimirror.log.records import (
    APPLICATION_OUTPUT,
    REFUSED,
    SESSION_ENDED,
    SESSION_STARTED,
)
from chimirror.log.serving import SERVING
from ctl_on_machine import await_open_sessions, ctl, ctl_history, ctl_json
from machine_sessions import (
    SERVER_PORT,
    ended,
    open_session,
    own_address,
    serve_many,
    wait_until_idle,
)
from processes import until
from systemd_machine import PORT, Machine
from websocket_peer import Closed, Peer

pytestmark = pytest.mark.timeout(300)

# Sends each object that it reads to the journal as a record, and then echoes it.
FORGER = """
import json, os, socket, sys
journal = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
for line in sys.stdin:
    fields = json.loads(line) | {"CHIMIRROR_FORGER": str(os.getpid())}
    text = "".join(f"{name}={value}\\n" for name, value in fields.items())
    text = text.replace("OWN_PID", str(os.getpid()))
    journal.sendto(text.encode(), "/run/systemd/journal/socket")
    print(line, end="", flush=True)
"""
INVENTED = "0123456789abcdef" * 2
FIELDS = {
    "MESSAGE": "forged\x1b[2J",
    "SYSLOG_IDENTIFIER": "chimirror",
    "PRIORITY": "6",
    "CHIMIRROR_PEER": "192.0.2.1:1",
    "CHIMIRROR_REASON": "forged",
    "CHIMIRROR_CAUSE": "forged",
    "CHIMIRROR_BYTES_IN": "1000000",
}


def forgeries(own: str, other: str) -> list[dict[str, str]]:
    """Return the records to send, those that name the sender first."""
    names = {"MESSAGE_ID": SERVING, "CHIMIRROR_SUPERVISOR": "OWN_PID"}
    found = [names, names | {"CHIMIRROR_WORKER": "OWN_PID"}]
    kinds = (SERVING, SESSION_STARTED, APPLICATION_OUTPUT, SESSION_ENDED)
    for session in (own, other, INVENTED):
        found += [{"MESSAGE_ID": kind, "CHIMIRROR_SESSION": session} for kind in kinds]
    found.append({"MESSAGE_ID": REFUSED})
    about = {"INVOCATION_ID": other, "UNIT_RESULT": "forged"}
    found.append({"MESSAGE_ID": UNIT_SUCCEEDED} | about)
    return [FIELDS | fields for fields in found]


@pytest.mark.parametrize("port", [PORT, SERVER_PORT], ids=["bridge", "server"])
def test_forged_records_change_nothing(machine: Machine, port: int) -> None:
    serve_many(machine)
    machine.write("/opt/forger.py", FORGER)
    machine.configure("/usr/bin/python3", "/opt/forger.py")
    with ExitStack() as stack:
        forger, other = (open_session(machine, stack, port) for _ in range(2))
        ids = {one["peer"]: one["id"] for one in await_open_sessions(machine, 2)}
        own_id, other_id = ids[own_address(forger)], ids[own_address(other)]
        await_start(machine, own_id)
        await_start(machine, other_id)
        before = ctl_json(machine, "stats")
        forged_before = len(machine.journal(CHIMIRROR_REASON="forged"))
        sent = forgeries(own_id, other_id)
        for fields in sent:
            forger.send(fields)
            size = len(json.dumps(fields, separators=(",", ":"))) + 1
            assert len(forger.output(size)) == size
        found = machine.journal(CHIMIRROR_REASON="forged")
        assert len(found) == forged_before + len(sent), "the journal has them"
        rows = ctl_history(machine, "--lines", "all")
        assert not rows.keys() & {own_id, other_id, INVENTED}
        after = ctl_json(machine, "stats")
        for name in ("started", "ended", "failed", "refused", "bytes_in"):
            assert after[name] == before[name]
        assert after["causes"] == before["causes"]
        assert "forged" not in ctl(machine, "log", other_id)
        assert "\x1b" not in ctl(machine, "log", own_id)
        leave(forger)
        leave(other)
        for session in (own_id, other_id):
            await_end(machine, session)
            assert ctl_history(machine)[session]["reason"] == "client close 1000"


def await_start(machine: Machine, session: str) -> None:
    def ask() -> bool:
        said = machine.journal(MESSAGE_ID=SESSION_STARTED, CHIMIRROR_SESSION=session)
        return bool(said)

    until(ask, "the start of the session")


def await_end(machine: Machine, session: str) -> None:
    reason = "client close 1000"

    def ask() -> bool:
        match = {"CHIMIRROR_SESSION": session, "CHIMIRROR_REASON": reason}
        return bool(machine.journal(MESSAGE_ID=SESSION_ENDED, **match))

    until(ask, "the end of the session")


def leave(peer: Peer) -> None:
    peer.send_close(1000)
    assert isinstance(peer.receive(), Closed)


def test_the_last_record_of_a_bridge_that_is_gone(machine: Machine) -> None:
    """The journal reads the record late, and finds no unit of its sender any more."""
    journald = "systemd-journald.service"
    machine.configure("/usr/bin/cat")
    with ExitStack() as stack:
        peer = open_session(machine, stack)
        (one,) = await_open_sessions(machine, 1)
        await_start(machine, one["id"])
        machine.do("systemctl", "kill", "--signal=STOP", journald)
        try:
            leave(peer)
            wait_until_idle(machine)
        finally:
            machine.do("systemctl", "kill", "--signal=KILL", journald)
            machine.do("systemctl", "restart", journald)
    assert "_SYSTEMD_UNIT" not in ended(machine, one["id"])
    assert ctl_history(machine)[one["id"]]["reason"] == "client close 1000"


def test_a_restarted_worker_is_believed(machine: Machine) -> None:
    """The supervisor names its new workers too."""
    serve_many(machine)
    machine.configure("/usr/bin/cat")
    with ExitStack() as stack:
        first = open_session(machine, stack, SERVER_PORT)
        (one,) = await_open_sessions(machine, 1)
        machine.do("kill", "-KILL", str(worker_of(machine, one["id"])))
        until(lambda: lost(machine, one["id"]), "the end of the first session")
        first.close()
        second = open_session(machine, stack, SERVER_PORT)
        (two,) = await_open_sessions(machine, 1)
        leave(second)
        ended(machine, two["id"])
        assert ctl_history(machine)[two["id"]]["reason"] == "client close 1000"


def worker_of(machine: Machine, session: str) -> int:
    await_start(machine, session)
    match = {"MESSAGE_ID": SESSION_STARTED, "CHIMIRROR_SESSION": session}
    return int(machine.journal(**match)[0]["_PID"])


def lost(machine: Machine, session: str) -> bool:
    machine.do("journalctl", "--sync")
    row = ctl_history(machine).get(session)
    return row is not None and row["exit"] == "worker signal KILL"
