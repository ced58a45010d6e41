"""The server under attack: its start, its processes, what it uses and what is left.

The server has one worker, so that the neighbour shares it with the attackers, and
serves application files: /echo for the neighbour and the starter, /target for the
attack. Its processes are told apart by proc(5). As root, this program and its children
have a /run of their own.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import resource
import select
import shutil
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

from processes import (
    MARK,
    comm,
    descendants,
    descriptors,
    ended,
    field,
    kill_processes,
    marked,
    only_child,
    read,
)

PR_SET_PDEATHSIG = 1  # prctl(2)
CLONE_NEWNS = 0x20000  # unshare(2)
MS_REC, MS_PRIVATE = 0x4000, 0x40000  # mount(2)
LISTENING = re.compile(rb"listening on ([^\s\"]+):(\d+)")
START = 60.0  # seconds for the server to listen
WATCHDOG = 30.0  # seconds, as in chimirror-server.service
LOG_TAIL = 64 << 10  # bytes of the log that are kept
ECHO_FILE = 'command = ["cat"]\nframing = "lines"\n'
MEGABYTE = 1e6
GET_LIST = b"GET /.well-known/chimirror HTTP/1.1\r\nHost: localhost\r\n\r\n"
LIST_TIMEOUT = 5.0


def isolate_run() -> None:
    """Give this process and its children a /run of their own, if it is root's."""
    if os.geteuid() != 0:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS) == 0:
        libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None)
        libc.mount(b"tmpfs", b"/run", b"tmpfs", 0, b"mode=755,size=64m")


def raise_limits() -> None:
    """Raise the limit of descriptors as far as this user may."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def end_with_parent() -> None:
    """Let the kernel end this process when its parent dies."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


class Child:
    """A forked process that runs one function and reports its result as JSON.

    Args:
        function: called with a descriptor that becomes readable when it should end.
        nice: change of the priority, as far as this user may.
    """

    def __init__(self, function: Callable[[int], Any], nice: int = 0) -> None:
        stop, self.stop_fd = os.pipe()
        self.result_fd, result = os.pipe()
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(self.stop_fd)
                os.close(self.result_fd)
                end_with_parent()
                renice(nice)
                text = json.dumps(function(stop)).encode()
                while text:
                    text = text[os.write(result, text) :]
                os._exit(0)
            finally:
                if error := sys.exc_info()[1]:
                    sys.excepthook(type(error), error, error.__traceback__)
                os._exit(1)
        os.close(stop)
        os.close(result)

    def stop(self) -> None:
        """Ask for the end. May be called again."""
        if self.stop_fd >= 0:
            os.close(self.stop_fd)
            self.stop_fd = -1

    def finish(self, timeout: float) -> Any:
        """End the process and return its result, None if there is none in time."""
        self.stop()
        data, deadline = b"", monotonic() + timeout
        while select.select([self.result_fd], [], [], max(0, deadline - monotonic()))[
            0
        ]:
            piece = os.read(self.result_fd, 1 << 16)
            data += piece
            if not piece:
                break
        os.close(self.result_fd)
        if not ended(self.pid, 1):
            os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        return json.loads(data) if data else None


def renice(change: int) -> None:
    try:
        os.nice(change)
    except PermissionError:
        pass  # only root may raise it


class Left(NamedTuple):
    """What a server holds: the rest of an attack if it is more than before."""

    processes: int
    descriptors: int
    files: int
    sessions: int

    def over(self, before: Left) -> Left:
        return Left(*(max(0, a - b) for a, b in zip(self, before, strict=True)))

    def __str__(self) -> str:
        return "/".join(map(str, self)) if any(self) else "none"


class Usage:
    """Memory and processor time of chimirror's own processes since the start.

    A process that dies keeps its last figures. The peak of a process is that of the
    kernel (VmHWM), which is set back here if this user may.
    """

    def __init__(self, target: Target) -> None:
        self.target = target
        self.first: dict[int, tuple[int, float]] = {}
        self.last: dict[int, tuple[int, float]] = {}
        self.workers = set(target.workers())
        for pid in target.own():
            try:
                Path(f"/proc/{pid}/clear_refs").write_text("5")
            except OSError:
                pass
            self.first[pid] = (memory(pid, "VmRSS"), cpu_seconds(pid))

    def sample(self) -> None:
        for pid in self.target.own():
            peak = memory(pid, "VmHWM")
            if peak:
                self.last[pid] = (peak, cpu_seconds(pid))
        self.workers |= set(self.target.workers())

    def growth(self, pids: set[int] | None = None) -> tuple[float, float]:
        """Return peak growth (MB) and processor time (s), of these processes or all."""
        size = spent = 0.0
        for pid, (peak, cpu) in self.last.items():
            if pids is None or pid in pids:
                before = self.first.get(pid, (peak, 0.0))
                size += max(0, peak - before[0])
                spent += cpu - before[1]
        return size / MEGABYTE, spent


def memory(pid: int, name: str) -> int:
    try:
        return field(pid, name)
    except LookupError:
        return 0  # it has ended


def cpu_seconds(pid: int) -> float:
    words = read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    ticks = int(words[11]) + int(words[12]) if len(words) > 12 else 0
    return ticks / os.sysconf("SC_CLK_TCK")


def drain_log(stderr: int, stop: int) -> dict[str, Any]:
    """Read the log of a server. Returns its size and its last lines."""
    size, tail = 0, b""
    while select.select([stderr, stop], [], [])[0]:
        data = (
            os.read(stderr, 1 << 20) if select.select([stderr], [], [], 0)[0] else b""
        )
        if not data:
            break
        size += len(data)
        tail = (tail + data)[-LOG_TAIL:]
    return {"bytes": size, "tail": tail.decode(errors="replace")}


class Target:
    """A running chimirror-server.

    Args:
        program: path of chimirror-server.
        scratch: an empty directory for its application files.
        files: application files by name.
        options: further options.
        fifos: names of FIFOs beside the application files.
        reads_log: whether its log is read after the start.
    """

    def __init__(
        self,
        program: str,
        scratch: Path,
        files: dict[str, str],
        options: tuple[str, ...],
        *,
        fifos: tuple[str, ...] = (),
        reads_log: bool = True,
    ) -> None:
        self.mark = uuid.uuid4().hex
        apps = scratch / "apps"
        apps.mkdir()
        for name, text in {"echo.toml": ECHO_FILE, **files}.items():
            (apps / name).write_text(text)
        for name in fifos:
            os.mkfifo(apps / name)
        self.runtime = scratch / "runtime"
        self.runtime.mkdir(0o700)
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.bind(str(scratch / "notify"))
        self.notify.setblocking(False)
        self.fed = monotonic()
        self.hungry = 0.0  # longest time without a watchdog message
        self.drainer: Child | None = None
        argv = [program, "--workers", "1", "--listen", "127.0.0.1:0"]
        argv += ["--env", f"{MARK}={self.mark}", *options, "--apps", str(apps)]
        env = os.environ | {
            MARK: self.mark,
            "XDG_RUNTIME_DIR": str(self.runtime),
            "NOTIFY_SOCKET": str(scratch / "notify"),
            "WATCHDOG_USEC": str(int(WATCHDOG * 1e6)),
        }
        for name in ("WATCHDOG_PID", "INVOCATION_ID", "JOURNAL_STREAM"):
            env.pop(name, None)
        self.process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=env,
            preexec_fn=end_with_parent,  # noqa: PLW1509 (there are no threads)
        )
        assert self.process.stderr
        self.stderr = self.process.stderr
        try:
            self.address = self.await_address()
        except BaseException:
            self.end()
            raise
        if reads_log:
            fd = self.stderr.fileno()
            self.drainer = Child(lambda stop: drain_log(fd, stop))

    def await_address(self) -> tuple[str, int]:
        said, deadline = b"", monotonic() + START
        while not (found := LISTENING.search(said)):
            left = max(0.0, deadline - monotonic())
            if not select.select([self.stderr], [], [], left)[0]:
                break
            piece = os.read(self.stderr.fileno(), 4096)
            said += piece
            if not piece:
                break
        if not found:
            raise RuntimeError(f"chimirror-server does not listen: {said.decode()}")
        return found[1].decode(), int(found[2])

    @property
    def runtime_directory(self) -> Path:
        root = os.geteuid() == 0
        return Path("/run/chimirror") if root else self.runtime / "chimirror"

    @property
    def supervisor(self) -> int:
        """The pid of the supervisor, the child of the process that was started."""
        return only_child(self.process.pid)

    def own(self) -> list[int]:
        """Return the processes of the server itself.

        They are the guardian, the supervisor, the workers and the zygotes.
        """
        born = [process.pid for process in descendants(self.process.pid)]
        return [
            pid
            for pid in (self.process.pid, *born)
            if read(f"/proc/{pid}/cmdline").startswith(b"chimirror-server")
        ]

    def workers(self) -> list[int]:
        """Return the workers: its children that are its own, but no zygote."""
        born = set(self.own())
        return [
            process.pid
            for process in descendants(self.process.pid)
            if process.parent == self.supervisor
            and process.pid in born
            and comm(process.pid) != "zygote"
        ]

    def holds(self) -> Left:
        """Count what the server holds now."""
        own = self.own()
        apps = len(descendants(self.process.pid)) + 1 - len(own)
        files = sum(len(files) for _, _, files in os.walk(self.runtime_directory))
        return Left(apps, sum(map(count_descriptors, own)), files, self.ask_sessions())

    def await_clean(self, timeout: float) -> None:
        """Wait until no session is left, before the attack."""
        deadline = monotonic() + timeout
        while self.holds().processes + self.ask_sessions():
            if monotonic() > deadline:
                raise RuntimeError("the first session does not end")
            select.select([], [], [], 0.02)

    def ask_sessions(self) -> int:
        """Return the number of sessions and handshakes, 0 if no worker answers."""
        total = 0
        for path in self.runtime_directory.glob(f"servers/{self.supervisor}/*"):
            request = {"jsonrpc": "2.0", "id": 1, "method": "status", "params": {}}
            with socket.socket(socket.AF_UNIX) as control:
                control.settimeout(1)
                try:
                    control.connect(str(path))
                    control.sendall(json.dumps(request).encode() + b"\n")
                    with control.makefile("rb") as file:
                        result = json.loads(file.readline())["result"]
                except (OSError, ValueError, KeyError):
                    continue
            total += result["sessions"] + result["connecting"]
        return total

    def lists_echo(self) -> bool:
        """Return whether the list of applications has /echo."""
        try:
            with socket.create_connection(self.address, LIST_TIMEOUT) as connection:
                connection.sendall(GET_LIST)
                with connection.makefile("rb") as file:
                    return b'"/echo"' in file.read()
        except OSError:
            return False

    def watch(self) -> None:
        """Read the messages to the service manager."""
        now = monotonic()
        while True:
            try:
                data = self.notify.recv(4096)
            except BlockingIOError:
                break
            if b"WATCHDOG=1" in data:
                self.fed = now
        self.hungry = max(self.hungry, now - self.fed)

    def terminate(self, patience: float, again: float | None = None) -> float | None:
        """Send SIGTERM. Returns the seconds until the exit, None if it was killed.

        Args:
            patience: seconds until the server is killed.
            again: seconds until a second SIGTERM.
        """
        began = monotonic()
        self.process.terminate()
        if again is not None and not ended(self.process.pid, again):
            self.process.terminate()
        if ended(self.process.pid, patience):
            self.process.wait()
            return monotonic() - began
        return None

    def end(self) -> dict[str, Any]:
        """Kill what is left of the server. Returns the rest and its log."""
        left = marked(self.mark)
        self.process.kill()
        self.process.wait()
        kill_processes(marked(self.mark))
        log = self.drainer.finish(5) if self.drainer else None
        self.stderr.close()
        self.notify.close()
        shutil.rmtree(self.runtime, ignore_errors=True)
        return {"left": len(left), "log": log or {"bytes": 0, "tail": ""}}


def count_descriptors(pid: int) -> int:
    try:
        return descriptors(pid)
    except OSError:
        return 0  # it has ended, or belongs to root
