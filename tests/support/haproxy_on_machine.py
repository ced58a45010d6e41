"""HAProxy in front of chimirror.socket, on a systemd machine of the tests.

It asks chimirror-agent.socket about the capacity that is left, ten times a second.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from processes import until
from systemd_machine import PORT, Machine

BALANCED_PORT = 30800
UNIT = "haproxy-of-tests.service"
CONFIG = "/run/haproxy-of-tests.cfg"
STATISTICS = "/run/haproxy-of-tests.socket"
TEXT = f"""\
global
    stats socket {STATISTICS} level admin
defaults
    mode http
    timeout connect 60s
    timeout client 300s
    timeout server 300s
    timeout tunnel 300s
    # Without it, an answer has to come within agent-inter.
    timeout check 60s
frontend clients
    bind 127.0.0.1:{BALANCED_PORT}
    default_backend hosts
backend hosts
    default-server weight 100 agent-check agent-port 30758 agent-inter 100ms
    server one 127.0.0.1:{PORT}
"""


@contextmanager
def haproxy(machine: Machine) -> Iterator[None]:
    """Run HAProxy within this context, from its first answer of the agent on."""
    machine.write(CONFIG, TEXT)
    program = ("/usr/sbin/haproxy", "-db", "-f", CONFIG)
    machine.do("systemd-run", f"--unit={UNIT}", "--collect", *program)
    try:
        until(lambda: server_state(machine)["agent_status"] == "L7OK", "an agent-check")
        yield
    finally:
        machine.do("systemctl", "stop", UNIT)


def server_state(machine: Machine) -> dict[str, str]:
    """Return the fields of `show stat` about the server."""
    done = machine.run("socat", "-", f"UNIX-CONNECT:{STATISTICS}", stdin="show stat\n")
    lines = [line for line in done.stdout.splitlines() if line]
    if done.returncode or not lines:
        return {"agent_status": ""}
    names = lines[0].removeprefix("# ").split(",")
    (row,) = (line for line in lines if line.startswith("hosts,one,"))
    return dict(zip(names, row.split(","), strict=True))
