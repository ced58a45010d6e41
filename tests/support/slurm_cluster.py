"""A cluster of Slurm on this host: munged, slurmctld and four slurmd, as root.

Each node has a slurmd of its own port and name. Without cgroups, Slurm tracks the
processes of a job by their process group, and measures their memory once a second.
Its timeouts suit a busy host. Knows nothing of chimirror. Manual pages:
slurm.conf(5), munged(8).
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from processes import (
    PATIENCE,
    comm,
    ended,
    listening,
    parent_of,
    processes,
    read,
    until,
)
from serve import reserved

NODES = ("n1", "n2", "n3", "n4")
SLOTS = 50  # jobs of one processor for each node
CONFIG = """\
ClusterName=chimirror
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={ports[0]}
AuthInfo=socket={directory}/munge.socket
SlurmUser=root
StateSaveLocation={directory}/state
SlurmdSpoolDir={directory}/%n
SlurmctldPidFile={directory}/slurmctld.pid
SlurmdPidFile={directory}/%n.pid
SlurmctldLogFile={directory}/slurmctld.log
SlurmdLogFile={directory}/%n.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
MessageTimeout=60
SlurmdTimeout={patience}
UnkillableStepTimeout=600
InactiveLimit=300
KillWait=2
ReturnToService=2
{nodes}
PartitionName=games Nodes={names} Default=YES LLN=YES State=UP
"""


class SlurmCluster:
    """A running cluster. Its commands find it by the variable SLURM_CONF."""

    def __init__(self, directory: Path, ports: list[int], patience: int) -> None:
        self.directory = directory
        self.ports = dict(zip(("ctl", *NODES), ports, strict=True))
        lines = [
            f"NodeName={name} NodeAddr=127.0.0.1 NodeHostname=localhost Port={port} "
            f"CPUs={SLOTS} RealMemory=6000"
            for name, port in zip(NODES, ports[1:], strict=True)
        ]
        text = CONFIG.format(
            directory=directory,
            ports=ports,
            patience=patience,
            nodes="\n".join(lines),
            names=",".join(NODES),
        )
        self.config = directory / "slurm.conf"
        self.config.write_text(text)
        (directory / "munge.key").write_bytes(secrets.token_bytes(128))
        (directory / "munge.key").chmod(0o400)
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        here = self.directory
        munged = [
            *("munged", "--foreground", "--force", f"--key-file={here}/munge.key"),
            *(f"--socket={here}/munge.socket", f"--pid-file={here}/munged.pid"),
            *(f"--log-file={here}/munged.log", f"--seed-file={here}/munged.seed"),
        ]
        self.run_daemon("munged", munged)
        until(lambda: listening(here / "munge.socket"), "munged listens")
        self.run_daemon("slurmctld", ["slurmctld", "-D", "-i"])
        until(lambda: listening(self.ports["ctl"]), "slurmctld listens")
        for name in NODES:
            self.start_node(name)
        until(lambda: set(self.states().values()) == {"idle"}, "all nodes are idle")

    def start_node(self, name: str) -> None:
        self.run_daemon(name, ["slurmd", "-D", "-N", name])
        until(lambda: listening(self.ports[name]), f"{name} listens")

    def run_daemon(self, name: str, argv: list[str]) -> None:
        env = os.environ | {"SLURM_CONF": str(self.config)}
        with (self.directory / f"{name}.output").open("ab") as output:
            self.daemons[name] = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=env
            )

    def do(self, *argv: str) -> str:
        """Run a command of Slurm. Returns its output."""
        env = os.environ | {"SLURM_CONF": str(self.config)}
        return subprocess.run(
            argv, check=True, stdout=subprocess.PIPE, text=True, env=env
        ).stdout

    def states(self) -> dict[str, str]:
        """Return the state of each node, for example `idle` or `down`."""
        said = self.do("sinfo", "--noheader", "--Node", "--format=%N %T")
        return dict(line.split() for line in said.splitlines())

    def jobs(self) -> dict[str, str]:
        """Return the node of each job that is not over, by the name of the job."""
        said = self.do("squeue", "--noheader", "--format=%j %N")
        rows = [line.split() for line in said.splitlines()]
        return {row[0]: row[1] if row[1:] else "" for row in rows}

    def tasks(self, node: str = "") -> list[int]:
        """Return all processes of jobs, or those of one node."""
        wanted = f"SLURMD_NODENAME={node}".encode()
        own = f"SLURM_CONF={self.config}".encode()
        found = []
        for process in processes():
            variables = read(f"/proc/{process.pid}/environ").split(b"\0")
            named = [each for each in variables if each.startswith(wanted)]
            if own in variables and named and (not node or wanted in named):
                found.append(process.pid)
        return found

    def kill_node(self, node: str) -> None:
        """Kill a node as a loss of power does: slurmd, its steps and their tasks."""
        tasks = self.tasks(node)
        steps = {parent_of(pid) for pid in tasks}
        self.daemons[node].kill()
        self.daemons[node].wait()
        steps = {pid for pid in steps if comm(pid).startswith("slurmstepd")}
        for pid in (*steps, *tasks):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        for pid in (*steps, *tasks):
            assert ended(pid, PATIENCE)

    def stop(self) -> None:
        for daemon in reversed(self.daemons.values()):
            daemon.terminate()
        for daemon in self.daemons.values():
            daemon.wait(PATIENCE)


@contextmanager
def slurm_cluster(directory: Path, patience: int = 300) -> Iterator[SlurmCluster]:
    """Run a cluster within this context, and wait until its processes have ended.

    Args:
        directory: of all its files.
        patience: seconds after which a node without an answer is down.
    """
    with ExitStack() as stack:
        ports = [stack.enter_context(reserved()) for _ in range(1 + len(NODES))]
        cluster = SlurmCluster(directory, ports, patience)
        stack.callback(cluster.stop)
        cluster.start()
        yield cluster
        until(lambda: not cluster.tasks(), "no process of a job is left")
