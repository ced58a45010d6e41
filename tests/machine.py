"""A throw-away machine with a real systemd as PID 1, and chimirror installed in it.

Law: the installation is the README's one command, run as on a fresh host; the machine
goes with the tests that share it, even if they are killed. It is no child of ours, so
that what runs in it is not taken for something that a test has left behind.
Ignorance: no network, hence no package index; the libraries that run these tests are
packed up again as wheels.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import shutil
import socket
import subprocess
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
WITH_SYSTEMD = ROOT / "tests" / "with-systemd"
NEEDED = ("chimirror", "hatchling")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CLONE_NEWNET = 0x40000000  # setns(2)
PORT = 30747
KEPT = ("/etc", "/opt/chimirror")  # what is set, what is installed, and where else
LISTED = "share/chimirror/installed"
SOCKETS = ("chimirror.socket", "chimirror-server.socket", "chimirror-zygote.socket")


class Machine:
    """The inside, as seen from the tests.

    Args:
        init: the number that its PID 1 has here.
        cgroups: which hierarchies it has: unified, hybrid or legacy.
    """

    def __init__(self, init: int, cgroups: str) -> None:
        self.init = init
        self.cgroups = cgroups

    def run(
        self, *argv: str, stdin: str = "", **env: str
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command as root; its output and errors together."""
        return subprocess.run(
            ["nsenter", "--all", "--target", str(self.init), "--", *argv],
            env={"PATH": PATH, "LANG": "C.UTF-8"} | env,
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def do(self, *argv: str, stdin: str = "", **env: str) -> str:
        """Runs a command that has to succeed; what it says."""
        done = self.run(*argv, stdin=stdin, **env)
        assert done.returncode == 0, f"{argv}: {done.returncode}\n{done.stdout}"
        return done.stdout

    def path(self, name: str) -> Path:
        """A file of the inside, as it is reached from here."""
        return Path(f"/proc/{self.init}/root{name}")

    def write(self, name: str, text: str) -> None:
        """Creates a file inside, with its directory."""
        self.path(name).parent.mkdir(parents=True, exist_ok=True)
        self.path(name).write_text(text)

    def connect(self, port: int = PORT) -> socket.socket:
        """A connection over the machine's own loopback."""
        with self.network():
            return socket.create_connection(("127.0.0.1", port), timeout=30)

    @contextmanager
    def network(self) -> Iterator[None]:
        """What is opened meanwhile is on the machine's network, and stays there."""
        here = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        there = os.open(f"/proc/{self.init}/ns/net", os.O_RDONLY)
        try:
            _enter(there)
            yield
        finally:
            _enter(here)
            os.close(here)
            os.close(there)

    # What is set up in it

    def configure(self, *command: str, options: str = "", **variables: str) -> None:
        """/etc/chimirror/chimirror.conf, which the next session obeys."""
        lines = [f"CHIMIRROR_OPTIONS='{options}'"]
        lines += [f"{name}='{value}'" for name, value in variables.items()]
        if command:
            lines.append(f"CHIMIRROR_COMMAND='{' '.join(command)}'")
        self.write("/etc/chimirror/chimirror.conf", "\n".join(lines) + "\n")

    def drop_in(self, unit: str, section: str, *lines: str) -> None:
        """What an operator writes with `systemctl edit --runtime`."""
        text = "\n".join([f"[{section}]", *lines]) + "\n"
        self.write(f"/run/systemd/system/{unit}.d/test.conf", text)
        self.do("systemctl", "daemon-reload")

    def reset(self) -> None:
        """As after the installation: the socket listens, and nobody is there."""
        for top in ("/run", "/etc"):
            for path in self.path(f"{top}/systemd/system").glob("chimirror*.d"):
                shutil.rmtree(path)
        shutil.rmtree(self.path("/etc/chimirror"), ignore_errors=True)
        self.do("systemctl", "daemon-reload")
        self.do("systemctl", "stop", *SOCKETS, "chimirror.slice")
        for status in self.path("/run/chimirror/sessions").iterdir():
            status.unlink()  # of bridges that were killed
        self.do("systemctl", "reset-failed")
        self.do("systemctl", "start", "chimirror.socket")

    # What is seen of it

    def slice(self) -> Path:
        """The cgroup of all sessions."""
        mount = {"unified": "", "hybrid": "/unified", "legacy": "/systemd"}
        return self.path(f"/sys/fs/cgroup{mount[self.cgroups]}/chimirror.slice")

    def sessions(self) -> list[str]:
        """The units of the bridge that have a cgroup."""
        return sorted(path.name for path in self.slice().glob("chimirror@*"))

    def processes(self, unit: str) -> list[int]:
        """Those in a unit's cgroup, by the numbers that they have here."""
        try:
            text = (self.slice() / unit / "cgroup.procs").read_text()
        except FileNotFoundError:
            return []
        return [int(word) for word in text.split()]

    def state(self, unit: str) -> str:
        """Such as `active` or `failed`."""
        return self.run("systemctl", "is-active", unit).stdout.strip()

    def journal(self, **match: str) -> list[dict[str, str]]:
        """Entries with these fields, oldest first."""
        self.do("journalctl", "--sync")
        words = [f"{name}={value}" for name, value in match.items()]
        said = self.do("journalctl", "--output=json", "--quiet", *words)
        return [json.loads(line) for line in said.splitlines()]

    def install(self, wheels: Path) -> None:
        """The one command of the README, with an index of our own."""
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
def boot(*binds: Path, over: Path | None = None) -> Iterator[Machine]:
    """A machine for as long as the context lasts.

    Args:
        binds: directories that are seen inside too, read-only.
        over: what another machine has kept.
    """
    options = [f"--bind-ro={bind}" for bind in (ROOT, *binds)]
    options += [f"--over={over}"] if over else []
    words = [word for option in options for word in option.split("=", 1)]
    inside = 'echo "$WITH_SYSTEMD_INIT $WITH_SYSTEMD_CGROUPS"; exec cat'
    argv = [str(WITH_SYSTEMD), *words, "--", "sh", "-c", inside]
    # The parent between us and it ends at once, and with the pipe ends the machine.
    starter = ["sh", "-c", 'setsid "$@" <&3 3<&- & echo $!', "sh", *argv]
    life, held = os.pipe()
    os.set_inheritable(life, True)
    command = ["sh", "-c", 'exec 3<&0; exec "$@" 3<&0', "sh", *starter]
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
    """What is installed in a machine and set in it, as an archive."""
    kept = [*KEPT, *machine.path(f"{KEPT[1]}/{LISTED}").read_text().split()]
    names = [name.removeprefix("/") for name in kept]
    with tempfile.NamedTemporaryFile(suffix=".tar") as file:
        argv = ["tar", "--create", "--directory", str(machine.path("/")), *names]
        subprocess.run(argv, stdout=file, check=True)
        yield Path(file.name)


@contextmanager
def restarted(machine: Machine) -> Iterator[Machine]:
    """A machine that starts with what the other has on its disk, and no more."""
    with disk(machine) as over, boot(over=over) as found:
        yield found


def _await_end(pid: int) -> None:
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([handle], [], [], 30)[0], "the machine goes on"
    finally:
        os.close(handle)


def pack(directory: Path) -> None:
    """Makes wheels of the installed libraries that an installation needs."""
    for name in sorted(_closure()):
        if name != "chimirror":
            _pack(distribution(name), directory)


def _closure() -> set[str]:
    found: set[str] = set()
    waiting = list(NEEDED)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        for text in distribution(name).requires or ():
            wanted = Requirement(text)
            if wanted.marker is None or wanted.marker.evaluate({"extra": ""}):
                waiting.append(wanted.name)
    return found


def _pack(library: Distribution, directory: Path) -> None:
    """One wheel: its files, and a RECORD of those alone."""
    (tag, *_) = [
        line.partition(": ")[2]
        for line in (library.read_text("WHEEL") or "").splitlines()
        if line.startswith("Tag: ")
    ]
    name = library.name.replace("-", "_")
    listed = [file for file in library.files or () if ".." not in file.parts]
    kept = [file for file in listed if "__pycache__" not in file.parts]
    with zipfile.ZipFile(directory / f"{name}-{library.version}-{tag}.whl", "w") as to:
        for file in kept:
            if file.name != "RECORD":
                to.write(str(file.locate()), str(file))
        (record,) = (file for file in kept if file.name == "RECORD")
        to.writestr(str(record), "".join(f"{file},,\n" for file in kept))


def missing() -> str:
    """What keeps this machine from booting another one; empty: nothing."""
    if os.getuid():
        return "only root can boot a machine"
    tools = ("nsenter", "unshare", "make", "systemctl")
    return " ".join(f"no {tool}" for tool in tools if not shutil.which(tool))
