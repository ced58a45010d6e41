"""A temporary machine with a real systemd as PID 1, in which chimirror is installed.

The installation is the single command of the README, run as on a fresh host. The
machine ends with the tests that share it, even if they are killed. It is not a child of
this process, so its processes are not mistaken for leftovers of a test. The machine has
no network, hence no package index: `library_wheels` makes the wheels for it.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import select
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

ROOT = Path(__file__).parents[2]
WITH_SYSTEMD = ROOT / "tests" / "support" / "with-systemd"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CLONE_NEWNET = 0x40000000  # setns(2)
PORT = 30747
# Each client has its own port, below those that the kernel gives to others.
CLIENT_PORTS = count(10000)
# configuration and installed files, apart from the files listed in LISTED
KEPT = ("/etc", "/opt/chimirror")
LISTED = "share/chimirror/installed"
SOCKETS = (
    "chimirror.socket",
    "chimirror-server.socket",
    "chimirror-zygote.socket",
    "chimirror-authorize.socket",
    "chimirror-agent.socket",
    "chimirror-server-metrics.socket",
    "chimirror-server-agent.socket",
)


def members(file: Path) -> str:
    """Return the content of cgroup.procs, empty if the group does not exist."""
    try:
        return file.read_text()
    except OSError as error:  # ENODEV: removed between open(2) and read(2)
        if error.errno not in {errno.ENOENT, errno.ENODEV}:
            raise
        return ""


class Machine:
    """The machine, as seen from the tests outside.

    Args:
        init: the process id outside of its PID 1.
        cgroups: its cgroup hierarchies: unified, hybrid or legacy.
    """

    def __init__(self, init: int, cgroups: str) -> None:
        self.init = init
        self.cgroups = cgroups

    def run(
        self, *argv: str, stdin: str = "", **env: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as root. The result contains its output and errors together."""
        return subprocess.run(
            ["nsenter", "--all", "--target", str(self.init), "--", *argv],
            env={"PATH": PATH, "LANG": "C.UTF-8"} | env,
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def do(self, *argv: str, stdin: str = "", **env: str) -> str:
        """Run a command that must succeed. Returns its output."""
        done = self.run(*argv, stdin=stdin, **env)
        if done.returncode != 0:
            recent = self.run("journalctl", "--lines=20", "--no-hostname").stdout
            text = f"{argv}: {done.returncode}\n{done.stdout}\n{recent}"
            raise AssertionError(text)
        return done.stdout

    def path(self, name: str) -> Path:
        """Return the path outside of a file inside."""
        return Path(f"/proc/{self.init}/root{name}")

    def write(self, name: str, text: str) -> None:
        """Create a file inside, and its directory."""
        self.path(name).parent.mkdir(parents=True, exist_ok=True)
        self.path(name).write_text(text)

    def connect(self, port: int = PORT, source: str = "127.0.0.1") -> socket.socket:
        """Connect over the loopback of the machine.

        The client's port is new: the journal keeps records of all former clients.
        """
        client = (source, next(CLIENT_PORTS))
        with self.network():
            return socket.create_connection(("127.0.0.1", port), 60, client)

    @contextmanager
    def network(self) -> Iterator[None]:
        """Open sockets on the network of the machine within this context.

        They stay on that network.
        """
        here = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        there = os.open(f"/proc/{self.init}/ns/net", os.O_RDONLY)
        try:
            _enter(there)
            yield
        finally:
            _enter(here)
            os.close(here)
            os.close(there)

    # Changes to the machine

    def configure(self, *command: str, options: str = "", **variables: str) -> None:
        """Write /etc/chimirror/chimirror.conf, which holds from the next session on."""
        lines = [f"CHIMIRROR_OPTIONS='{options}'"]
        lines += [f"{name}='{value}'" for name, value in variables.items()]
        if command:
            lines.append(f"CHIMIRROR_COMMAND='{' '.join(command)}'")
        self.write("/etc/chimirror/chimirror.conf", "\n".join(lines) + "\n")

    def drop_in(self, unit: str, section: str, *lines: str) -> None:
        """Write a drop-in, as `systemctl edit --runtime` does."""
        text = "\n".join([f"[{section}]", *lines]) + "\n"
        self.write(f"/run/systemd/system/{unit}.d/test.conf", text)
        self.do("systemctl", "daemon-reload")

    def reset(self) -> None:
        """Restore the state after the installation: a listening socket, no session."""
        changed = [
            path
            for top in ("/run", "/etc")
            for path in self.path(f"{top}/systemd/system").glob("chimirror*.d")
        ]
        for path in changed:
            shutil.rmtree(path)
        shutil.rmtree(self.path("/etc/chimirror"), ignore_errors=True)
        commands = (
            f"systemctl stop {' '.join(SOCKETS)} chimirror.slice",
            # Status files of bridges that were killed.
            "find /run/chimirror/sessions -mindepth 1 -delete",
            "rm -f /run/chimirror/drained",
            "systemctl reset-failed",
            "systemctl start chimirror.socket",
            # Records of this test are read before the next test counts its own.
            "journalctl --sync",
        )
        reload = ["systemctl daemon-reload"] if changed else []
        self.do("sh", "-c", " && ".join([*reload, *commands]))

    # State of the machine

    def slice(self) -> Path:
        """Return the cgroup of all sessions."""
        mount = {"unified": "", "hybrid": "/unified", "legacy": "/systemd"}
        return self.path(f"/sys/fs/cgroup{mount[self.cgroups]}/chimirror.slice")

    def sessions(self) -> list[str]:
        """Return the units of bridges that have a cgroup."""
        return sorted(path.name for path in self.slice().glob("chimirror@*"))

    def processes(self, unit: str) -> list[int]:
        """Return the processes of a unit, by their process ids outside.

        Those of its own cgroup come first, then those of the cgroups below.
        """
        # os.walk() passes over groups that are being removed
        groups = [Path(path) for path, _, _ in os.walk(self.slice() / unit)]
        texts = [members(group / "cgroup.procs") for group in groups]
        return [int(word) for text in texts for word in text.split()]

    def state(self, unit: str) -> str:
        """Return the state of a unit, for example `active` or `failed`."""
        return self.run("systemctl", "is-active", unit).stdout.strip()

    def journal(self, **match: str) -> list[dict[str, str]]:
        """Return the journal entries with these fields, oldest first."""
        self.do("journalctl", "--sync")
        words = [f"{name}={value}" for name, value in match.items()]
        said = self.do("journalctl", "--output=json", "--quiet", *words)
        return [json.loads(line) for line in said.splitlines()]

    def install(self, wheels: Path) -> None:
        """Run the installation command of the README, with a local package index."""
        self.do(
            *("make", "--no-print-directory", "-C", str(ROOT), "install"),
            PIP_NO_INDEX="1",
            PIP_FIND_LINKS=str(wheels),
            PIP_ROOT_USER_ACTION="ignore",
            PIP_NO_CACHE_DIR="1",
        )


def _enter(namespace: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


@contextmanager
def boot(
    *binds: Path, over: Path | None = None, image: Path | None = None
) -> Iterator[Machine]:
    """Run a machine for the duration of the context.

    Args:
        binds: directories that are visible inside too, read-only.
        over: archive of files that another machine has kept (`disk`).
        image: directory of another root than that of this host (with-systemd).
    """
    options = [f"--bind-ro={bind}" for bind in (ROOT, *binds)]
    options += [f"--over={over}"] if over else []
    options += [f"--image={image}"] if image else []
    words = [word for option in options for word in option.split("=", 1)]
    inside = 'echo "$WITH_SYSTEMD_INIT $WITH_SYSTEMD_CGROUPS"; exec cat'
    argv = [str(WITH_SYSTEMD), *words, "--", "sh", "-c", inside]
    # The process between this one and the machine ends at once. The machine ends when
    # the pipe is closed.
    spawner = ["sh", "-c", 'setsid "$@" <&3 3<&- & echo $!', "sh", *argv]
    life, held = os.pipe()
    os.set_inheritable(life, True)
    command = ["sh", "-c", 'exec 3<&0; exec "$@" 3<&0', "sh", *spawner]
    process = subprocess.Popen(command, stdin=life, stdout=subprocess.PIPE, text=True)
    os.close(life)
    assert process.stdout is not None
    try:
        outside = int(process.stdout.readline())
        said = process.stdout.readline().split()
        assert len(said) == 2, "the machine did not start"
        process.wait()
        yield Machine(int(said[0]), said[1])
    finally:
        os.close(held)
        process.stdout.close()
        _await_end(outside)


@contextmanager
def disk(machine: Machine) -> Iterator[Path]:
    """Pack the installed files and the configuration of a machine into an archive."""
    kept = [*KEPT, *machine.path(f"{KEPT[1]}/{LISTED}").read_text().split()]
    names = [name.removeprefix("/") for name in kept]
    with tempfile.NamedTemporaryFile(suffix=".tar") as file:
        argv = ["tar", "--create", "--directory", str(machine.path("/")), *names]
        subprocess.run(argv, stdout=file, check=True)
        yield Path(file.name)


@contextmanager
def restarted(machine: Machine) -> Iterator[Machine]:
    """Run a machine that starts with the disk of the other machine and no more."""
    with disk(machine) as over, boot(over=over) as found:
        yield found


def _await_end(pid: int) -> None:
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([handle], [], [], 60)[0], "the machine goes on"
    finally:
        os.close(handle)


def missing() -> str:
    """Return the reason why no machine can be booted here. Empty if one can."""
    if os.getuid():
        return "only root can boot a machine"
    tools = ("nsenter", "unshare", "make", "systemctl")
    return " ".join(f"no {tool}" for tool in tools if not shutil.which(tool))
