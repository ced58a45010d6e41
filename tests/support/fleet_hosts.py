"""Booted hosts with chimirror-server.service, and a journal host, on one network.

Each is a machine (`systemd_machine`). Their files are those of examples/fleet, placed
where the first line of each file says, with the addresses of the network. The first
host is installed with the command of the README, and the others start with its disk.
A host can serve by bridges instead (`bridges`).
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from chimirror.log.records import SESSION_ENDED, SESSION_STARTED
from fleet_balancer import HOSTS
from fleet_network import Network
from library_wheels import pack
from processes import until
from systemd_machine import Machine, boot, disk

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "fleet"
SERVER = "chimirror-server.service"
SOCKETS = (
    "chimirror-server.socket",
    "chimirror-server-agent.socket",
    "chimirror-server-metrics.socket",
)
BRIDGE_SOCKETS = ("chimirror.socket", "chimirror-agent.socket")
EACH, BRIDGES = "Each host", "A host of bridges"  # what the first lines of files say
UPLOAD = "systemd-journal-upload.service"
REMOTE = "systemd-journal-remote.socket"
JOURNALS = "/var/log/journal/remote"
NUMBERS = dict(zip(HOSTS, (11, 12, 13), strict=True))
JOURNAL_NUMBER = 3
# Other tests, and the clients, take the processors.
PATIENT = "--handshake-timeout 200"
FIRST_HOST = "10.0.0.11"


class Host:
    """A host of the fleet.

    Attributes:
        name: as in haproxy.cfg.
        machine: the machine.
        number: the last part of its address.
    """

    def __init__(self, name: str, machine: Machine, number: int) -> None:
        self.name = name
        self.machine = machine
        self.number = number

    def place(self, name: str, kind: str = EACH, **changes: str) -> None:
        """Install a file of the example, with this address and these replacements.

        Args:
            name: of the file.
            kind: of this host: the place is that in the line which begins with it.
            changes: new values of variables.
        """
        content = (EXAMPLES / name).read_text()
        found = re.search(rf"(?m)^# {kind}: ([^\s,]+)", content)
        assert found, name
        content = content.replace(FIRST_HOST, f"10.0.0.{self.number}")
        for old, new in changes.items():
            content, count = re.subn(rf"(?m)^{old}=.*", f"{old}={new}", content)
            assert count == 1, old
        self.machine.write(found[1], content)

    def configure(
        self, *, sessions: int = 20000, drain: str = "10min", options: str = ""
    ) -> None:
        """Write chimirror.conf with these limits. It holds from the next start on."""
        line = shipped_options("chimirror.conf")
        assert line.endswith("--drain-timeout 10min")
        line = f"{line.removesuffix('10min')}{drain} {PATIENT} {options}".strip()
        changes = {"CHIMIRROR_MAX_SESSIONS": str(sessions), "CHIMIRROR_OPTIONS": line}
        self.place("chimirror.conf", **changes)

    def start(self) -> None:
        """Start everything, with the files placed before."""
        self.machine.do("hostname", self.name)
        self.machine.do("systemctl", "daemon-reload")
        self.machine.do("systemctl", "start", *SOCKETS, UPLOAD)

    def restart(self) -> None:
        """Restart the server, which drains first."""
        self.machine.do("systemctl", "restart", SERVER)

    def sessions(self) -> list[Any]:
        """Return the sessions, as chimirror-ctl lists them."""
        found: list[Any] = json.loads(
            self.machine.do("chimirror-ctl", "sessions", "--json")
        )
        return found


def shipped_options(name: str) -> str:
    """Return CHIMIRROR_OPTIONS of a file of the example."""
    content = (EXAMPLES / name).read_text()
    (line,) = re.findall(r"(?m)^CHIMIRROR_OPTIONS=(.*)$", content)
    return str(line)


@contextmanager
def bridges(host: Host) -> Iterator[None]:
    """Let a host serve its sessions by bridges, within this context."""
    for name in ("server-socket.conf", "agent-socket.conf"):
        host.place(name, BRIDGES)
    options = f"{shipped_options('bridges.conf')} {PATIENT}"
    host.machine.do("systemctl", "stop", *SOCKETS)
    host.place("bridges.conf", BRIDGES, CHIMIRROR_OPTIONS=options)
    host.machine.do("systemctl", "daemon-reload")
    host.machine.do("systemctl", "start", *BRIDGE_SOCKETS)
    try:
        yield
    finally:
        host.machine.do("systemctl", "stop", *BRIDGE_SOCKETS)
        host.configure()
        host.machine.do("systemctl", "start", *SOCKETS)


class JournalHost:
    """The host that receives the journals of all hosts."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    def records(self, message_id: str) -> list[dict[str, str]]:
        """Return the received records with this MESSAGE_ID."""
        argv = ["journalctl", f"--directory={JOURNALS}", "--output=json", "--quiet"]
        fields = "--output-fields=CHIMIRROR_SESSION,CHIMIRROR_REASON,_HOSTNAME"
        said = self.machine.do(*argv, fields, f"MESSAGE_ID={message_id}")
        return [json.loads(line) for line in said.splitlines()]

    def started(self) -> set[str]:
        """Return the ids of the sessions whose start has been received."""
        return {one["CHIMIRROR_SESSION"] for one in self.records(SESSION_STARTED)}

    def ended(self) -> dict[str, str]:
        """Return the reasons of the sessions whose end has been received, by id."""
        found = self.records(SESSION_ENDED)
        return {one["CHIMIRROR_SESSION"]: one["CHIMIRROR_REASON"] for one in found}

    def lost(self, name: str) -> set[str]:
        """Return ids of sessions that a host has lost, as chimirror-fleet(7) says."""
        page = (ROOT / "man" / "chimirror-fleet.7").read_text()
        (command,) = re.findall(r"(?s)(journalctl [^.]*? \| sort \| uniq -u)", page)
        command = command.replace("\\e\n", "").replace("=three", f"={name}")
        return set(self.machine.do("sh", "-c", command).split())

    def await_starts(self, ids: set[str]) -> None:
        until(lambda: ids <= self.started(), "the records of all starts")

    def await_ends(self, ids: set[str]) -> None:
        until(lambda: ids <= self.ended().keys(), "the records of all ends")


class Fleet:
    """Three hosts and their journal host."""

    def __init__(
        self, network: Network, hosts: dict[str, Host], journal: JournalHost
    ) -> None:
        self.network = network
        self.hosts = hosts
        self.journal = journal


def prepare(host: Host) -> None:
    """Place all files of the example on a host."""
    names = ("server-socket", "agent-socket", "metrics-socket", "server-service")
    for name in (*names, "journal-upload", "journal-upload-service"):
        host.place(f"{name}.conf")
    host.configure()
    host.start()


def start_journal_host(machine: Machine) -> JournalHost:
    machine.do("hostname", "journal")
    host = Host("journal", machine, JOURNAL_NUMBER)
    host.place("journal-remote-service.conf", "The journal host")
    machine.do("systemctl", "daemon-reload")
    machine.do("systemctl", "start", REMOTE)
    return JournalHost(machine)


@contextmanager
def fleet(network: Network, wheels: Path) -> Iterator[Fleet]:
    """Boot the hosts and the journal host.

    Args:
        wheels: an empty directory for the libraries of the installation.
    """
    pack(wheels)
    with ExitStack() as stack:
        journal_machine = stack.enter_context(boot())
        network.attach(journal_machine, JOURNAL_NUMBER)
        journal = start_journal_host(journal_machine)
        first = stack.enter_context(boot(wheels))
        first.install(wheels)
        machines = [first]
        with disk(first) as over:
            machines += [stack.enter_context(boot(over=over)) for _ in HOSTS[1:]]
        hosts = {}
        for (name, number), machine in zip(NUMBERS.items(), machines, strict=True):
            network.attach(machine, number)
            hosts[name] = Host(name, machine, number)
            prepare(hosts[name])
        yield Fleet(network, hosts, journal)


def kill(host: Host) -> None:
    """Kill a host with all of its processes at once, as a loss of power does."""
    subprocess.run(["kill", "-KILL", str(host.machine.init)], check=True)
