"""Tests that --preload runs a function as a fresh Python would, only faster.

The function runs in a process that a real chimirror-zygote has forked, and reports its
surroundings. Where a fresh Python is the measure, one is started for comparison.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from processes import comm, descendants, ended, read, until
from serve import LAUNCH, ROOT, preloading, zygote
from websocket_peer import Closed, Peer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from serve import Service


class Copy:
    """An application that is started over the socket of a zygote."""

    def __init__(self, address: str, *, stderr: bool = True, **variables: str) -> None:
        self.link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.link.settimeout(30)
        self.link.connect(address)
        asked = {"start": 7, "environment": variables, "stderr": stderr}
        self.link.send(json.dumps(asked).encode())
        packet, pipes, _, _ = socket.recv_fds(self.link, 1 << 16, 3)
        self.told = json.loads(packet)
        for pipe in pipes:
            os.set_blocking(pipe, True)
        self.pid: int = self.told["pid"]
        self.stdin = os.fdopen(pipes[0], "wb", 0)
        self.stdout = os.fdopen(pipes[1], "rb", 0)
        self.stderr = os.fdopen(pipes[2], "rb", 0) if stderr else None

    def line(self) -> str:
        return self.stdout.readline().decode().rstrip("\n")

    def signal(self, number: int) -> None:
        self.link.send(json.dumps({"signal": number, "pid": self.pid}).encode())

    def end(self) -> tuple[int, str, str]:
        """Return its output and its exit status."""
        self.stdin.close()
        said = self.stdout.read().decode(errors="surrogateescape")
        complained = self.stderr.read().decode() if self.stderr else ""
        told = json.loads(self.link.recv(1 << 16))
        ((pid, status, _),) = told["exited"]
        assert pid == self.pid
        return status, said, complained

    def close(self) -> None:
        for one in (self.stdin, self.stdout, self.stderr, self.link):
            if one is not None:
                one.close()

    def __enter__(self) -> Copy:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


@contextmanager
def warm(directory: Path, source: str, *options: str) -> Iterator[Service]:
    """Run a zygote that has preloaded `main` of this module."""
    (directory / "toy.py").write_text(textwrap.dedent(source))
    with zygote(directory, *options, "toy:main") as service:
        yield service


def copy(service: Service, *, stderr: bool = True, **variables: str) -> Copy:
    return Copy(str(service.address), stderr=stderr, **variables)


def fresh(directory: Path) -> tuple[int, str, str]:
    """Run the same module in a Python of its own."""
    program = "import sys, toy; sys.exit(toy.main())"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=directory,
        input="",
        capture_output=True,
        text=True,
        errors="surrogateescape",
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    return done.returncode, done.stdout, done.stderr


ENDS = {
    "none": "pass",
    "zero": "return 0",
    "number": "return 3",
    "true": "return True",
    "large": "return 257",
    "text": "return 'it is broken'",
    "exit": "sys.exit(4)",
    "exit-none": "sys.exit()",
    "exit-text": "sys.exit('it is broken')",
    "exception": "raise LookupError('a bug')",
    "chained": "try: 1 / 0\n    except ZeroDivisionError: int('x')",
    "interrupt": "raise KeyboardInterrupt",
    "killed": "os.kill(os.getpid(), signal.SIGKILL)",
    "aborted": "os.abort()",
    "underscore": "os._exit(5)",
    "at-exit": "atexit.register(print, 'at exit'); return 6",
    "at-exit-fails": "atexit.register(int, 'x')",
    "thread": "threading.Timer(0.05, print, ['late']).start(); return 7",
    "daemon": "threading.Thread(target=time.sleep, args=[99], daemon=True).start()",
    "output": "sys.stdout.write('unfinished'); sys.stderr.write('line\\nrest')",
    "bytes": "sys.stdout.buffer.write(bytes(range(256))[:128])",
    "closed": "sys.stdout.close()",
    "signals": "print([signal.getsignal(n) for n in sorted(signal.valid_signals())])",
    "mask": "print(signal.pthread_sigmask(0, ()))",
    "sigpipe": "print(signal.getsignal(signal.SIGPIPE))",
    "stdin": "print(repr(sys.stdin.read()), sys.stdin.encoding, sys.stdin.errors)",
    "streams": "print([(s.encoding, s.errors, s.newlines, s.fileno(), s.name, s.mode, "
    "s.write_through, s.line_buffering) for s in (sys.stdin, sys.stdout, sys.stderr)])",
    "surrogates": r"print('\udcff')",
    "gc": "print(gc.isenabled())",
    "main-thread": "print(threading.current_thread() is threading.main_thread())",
    "umask": "print(os.umask(0o22))",
    "directory": "print(os.getcwd(), sys.path[0] or os.getcwd())",
}


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, Path]]:
    """A module with a function for each case. The environment chooses the case."""
    directory = tmp_path_factory.mktemp("ends")
    source = "import atexit, gc, os, signal, sys, threading, time\n"
    source += "def main():\n    return globals()[os.environ['CASE']]()\n"
    for name, body in ENDS.items():
        source += f"def {name.replace('-', '_')}():\n    {body}\n"
    with warm(directory, source) as service:
        yield service, directory


def bare(traceback: str) -> list[str]:
    """Remove addresses, and the frames of the callers of the function."""
    lines = traceback.splitlines()
    own = [line for line in lines if not line.startswith(("  ", "Traceback"))]
    return [line for line in own if "toy.py" not in line]


@pytest.mark.parametrize("case", ENDS)
def test_it_ends_and_finds_things_as_in_a_python_of_its_own(
    case: str, ends: tuple[Service, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    service, directory = ends
    name = case.replace("-", "_")
    with copy(service, CASE=name) as one:
        status, said, complained = one.end()
    monkeypatch.setenv("CASE", name)
    expected = fresh(directory)
    assert (status, said) == expected[:2]
    assert bare(complained) == bare(expected[2])


# Surroundings


def test_its_environment_is_its_own(tmp_path: Path) -> None:
    source = """
        import json, os
        seen = dict(os.environ)
        os.environ["SET"] = "by the import"
        def main():
            told = [seen, dict(os.environ), os.getenv("UNDECODABLE", "").encode("utf-8",
                "surrogateescape").hex()]
            print(json.dumps(told))
            print(os.popen("echo $COLOUR$SET").read())
        """
    with warm(tmp_path, source, "--env", "BASE=1") as service:
        with copy(service, COLOUR="red", UNDECODABLE="\udcff\udc80") as one:
            seen, environment, raw = json.loads(one.line())
            assert one.line() == "red"
        assert seen["BASE"] == environment["BASE"] == "1"
        assert "PYTHONPATH" not in {**seen, **environment}
        assert (environment["COLOUR"], raw) == ("red", "ff80")
        assert not {"SET", "CASE"} & set(environment)
        assert environment["CHIMIRROR_SESSION"] == one.told["session"]


def test_no_descriptor_is_inherited(tmp_path: Path) -> None:
    source = """
        import os
        kept = [open(__file__), os.dup(1)]
        os.set_inheritable(kept[1], True)
        def main():
            pipes = [os.readlink(f"/proc/self/fd/{n}").split(":")[0] for n in range(3)]
            print(pipes)
            print(sorted(map(int, os.listdir("/proc/self/fd"))))  # and the listing's
            print(os.popen("ls /proc/self/fd").read().split())
        """
    with warm(tmp_path, source) as service:
        with copy(service) as one:
            assert one.line() == "['pipe', 'pipe', 'pipe']"
            assert one.line() == "[0, 1, 2, 3]"
            assert one.line() == "['0', '1', '2', '3']"
        with copy(service, stderr=False) as one:
            assert one.line() == "['pipe', 'pipe', '/dev/null']"


def test_random_state_is_fresh(tmp_path: Path) -> None:
    source = """
        import os, random, tempfile, uuid
        random.seed(1)
        state, forked = random.Random(1), []
        os.register_at_fork(after_in_child=lambda: forked.append(1))
        tempfile.mktemp()
        def main():
            print(random.random(), tempfile.mktemp(), uuid.uuid4(), len(forked))
        """
    with warm(tmp_path, source) as service:
        said = []
        for _ in range(4):
            with copy(service) as one:
                said.append(one.line().split())
        assert all(
            len(set(column)) == 4 for column in list(zip(*said, strict=True))[:3]
        )
        assert {line[3] for line in said} == {"1"}


def test_it_leads_its_own_group_and_is_named_after_its_session(tmp_path: Path) -> None:
    source = "import os, sys\ndef main():\n    print(os.getpgrp()); sys.stdin.read()"
    with warm(tmp_path, source) as service, copy(service) as one:
        assert one.line() == str(one.pid)
        assert comm(one.pid) == one.told["session"][:15]


def test_it_cannot_be_looked_into(tmp_path: Path) -> None:
    """All copies run as one user, but none can read the memory of another."""
    source = """
        import ctypes
        def main():
            print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))  # PR_GET_DUMPABLE
        """
    with warm(tmp_path, source) as service, copy(service) as one:
        assert one.line() == "0"


def test_a_signal_finds_it_ready(tmp_path: Path) -> None:
    source = """
        import select, signal, sys
        signal.signal(signal.SIGUSR1, lambda *_: print("heard"))
        def main():
            # A handler does not run in a read(2) that began just after the signal.
            while not select.select([sys.stdin], [], [], 0.01)[0]:
                pass
        """
    with warm(tmp_path, source) as service:
        for _ in range(20):
            with copy(service) as one:
                one.signal(signal.SIGUSR1)  # before it can have reached `main`
                assert one.line() == "heard"
        with copy(service) as one:
            one.signal(signal.SIGTERM)
            assert one.line() == ""  # else the end of its input might come first
            assert one.end()[0] == -signal.SIGTERM


def test_copies_do_not_share_what_they_change(tmp_path: Path) -> None:
    source = """
        import sys
        seen = []
        def main():
            for line in sys.stdin:
                seen.append(line.strip())
                print(seen)
        """
    with warm(tmp_path, source) as service, copy(service) as one, copy(service) as two:
        for number, each in enumerate((one, two)):
            each.stdin.write(b"%d\n" % number)
            assert each.line() == f"['{number}']"
        with copy(service) as three:
            three.stdin.write(b"2\n")
            assert three.line() == "['2']"


def test_stray_that_never_called_exec_ends(tmp_path: Path) -> None:
    """The process has no environment that names its session, and has left its group."""
    source = """
        import os, time
        def main():
            if not os.fork():
                os.setsid()
                if os.fork():
                    os._exit(0)
                os.close(0), os.close(1), os.close(2)
                time.sleep(1000)
            os.wait()
            print("up")
        """
    with warm(tmp_path, source) as service, copy(service) as one:
        assert one.end()[1] == "up\n"
        one.link.send(json.dumps({"finish": [one.told["session"]]}).encode())
        until(lambda: not forked(service), "the stray has ended")


def forked(service: Service) -> list[int]:
    """Return the forked copies, which share the command line of the zygote."""
    return [pid for pid in service.own() if pid != service.pid]


def test_what_was_printed_by_the_import_is_not_printed_again(tmp_path: Path) -> None:
    source = "print('loading', end='')\ndef main():\n    print('running')"
    with warm(tmp_path, source) as service, copy(service) as one:
        assert one.end() == (0, "running\n", "")
        assert "loading" in service.log.read_text()


def test_what_took_stdout_at_its_import_reaches_the_client(tmp_path: Path) -> None:
    source = """
        import logging, sys
        out = sys.stdout
        logging.basicConfig(format="%(message)s")
        def main():
            print("old", file=out, flush=True)
            logging.warning("logged")
        """
    with warm(tmp_path, source) as service, copy(service) as one:
        assert one.end() == (0, "old\n", "logged\n")


# Costs

HEAVY = """
import os, sys
with open("imported", "a") as file:
    print(os.getpid(), file=file)
ballast = [str(number) * 5 for number in range(200_000)]
def main():
    print("up")
    for line in sys.stdin:
        print(len(ballast), line, end="")
"""


def test_no_copy_pays_for_the_import(tmp_path: Path) -> None:
    with warm(tmp_path, HEAVY) as service:
        for _ in range(5):
            with copy(service) as one:
                assert one.line() == "up"
        imported = (tmp_path / "imported").read_text()
        assert imported == f"{service.pid}\n"


def test_a_copy_costs_little_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("COVERAGE_")]:
        monkeypatch.delenv(name)  # the measurement itself takes memory
    source = HEAVY + "\nfrom chimirror.process.children import set_dumpable\n"
    source = source.replace('print("up")', 'set_dumpable(True); print("up")')
    with warm(tmp_path, source) as service, copy(service) as one:
        assert one.line() == "up"
        one.stdin.write(b"x\n")
        assert one.line() == "200000 x"
        sizes = read(f"/proc/{one.pid}/smaps_rollup").decode().splitlines()
        private = sum(int(line.split()[1]) for line in sizes if "Private_" in line)
        assert private < 2048, "kB"


# In the server


def test_in_the_server(tmp_path: Path) -> None:
    (tmp_path / "toy.py").write_text(HEAVY + "    sys.exit(3)\n")
    with preloading(tmp_path, "toy:main", "--workers=2") as service:
        for _ in range(3):
            with Peer(service.connect()) as peer:
                assert peer.open(framing="stdio").status == 101
                assert peer.output(3) == b"up\n"
                peer.send({"type": "eof"})
                assert peer.transcript().closed == Closed(1011, "exit 3")
        assert '"CHIMIRROR_COMMAND":"toy:main"' in service.log.read_text()


@pytest.mark.skipif(os.getuid() != 0, reason="the memory of a copy is readable to root")
def test_a_copy_in_the_server_stops_when_it_writes_in_the_background(
    tmp_path: Path,
) -> None:
    """The server itself ignores SIGTTOU, as it is in the background of its guardian."""
    (tmp_path / "toy.py").write_text(
        "import signal\n"
        "def main():\n"
        "    print(signal.getsignal(signal.SIGTTOU) == signal.SIG_DFL)\n"
    )
    with preloading(tmp_path, "toy:main") as service, Peer(service.connect()) as peer:
        assert peer.open().status == 101
        assert peer.output(5) == b"True\n"


def test_a_copy_has_no_memory_of_the_server(tmp_path: Path) -> None:
    """It could change the limits, the heartbeats and the starts of others."""
    (tmp_path / "toy.py").write_text(HEAVY)
    options = ("--max-sessions-per-source=9", "--workers=1")
    with ExitStack() as stack:
        service = stack.enter_context(preloading(tmp_path, "toy:main", *options))
        peer = stack.enter_context(Peer(service.connect()))
        assert peer.open(framing="stdio").status == 101
        assert peer.output(3) == b"up\n"
        (zygote,) = service.zygotes()
        (pid,) = [child.pid for child in descendants(zygote)]
        maps = {each: read(f"/proc/{each}/maps") for each in (zygote, pid)}
        assert b" rw-s " in maps[zygote], "the marks of starts"
        assert b"[stack]" in maps[pid]
        assert b" rw-s " not in maps[pid]


def test_its_successor_loads_it_again(tmp_path: Path) -> None:
    (tmp_path / "toy.py").write_text(HEAVY)
    options = ("--workers=1", "--stop-grace=50ms")
    with preloading(tmp_path, "toy:main", *options) as service:
        (first,) = service.zygotes()
        with Peer(service.connect()) as peer, Peer(service.connect()) as other:
            assert peer.open().status == 101
            assert peer.output(3) == b"up\n"
            os.kill(first, signal.SIGKILL)
            assert ended(first, 10)
            assert other.open().status == 101
            assert other.output(3) == b"up\n"
            peer.send([1])
            assert peer.output(11) == b"200000 [1]\n"


# Errors of preloading

CANNOT = {
    "nowhere:main": "No module named 'nowhere'; modules are searched in {} first",
    "toy:nothing": "module toy has no nothing",
    "toy:main.nothing": "module toy has no main.nothing",
    "toy:number": "number is not a function",
    "needy:main": "ModuleNotFoundError: No module named 'nowhere'",
    "broken:main": "LookupError: a bug",
    "threaded:main": "importing it started 1 threads (Thread-1 (wait)), and a copy "
    "would have none of them; start threads when the function is called",
    "exiting:main": "importing exiting:main failed",
}
SOURCES = {
    "toy": "number = 1\ndef main(): pass",
    "needy": "import nowhere",
    "exiting": "raise SystemExit(0)",
    "broken": "raise LookupError('a bug')",
    "threaded": "import threading\n"
    "gate = threading.Event()\n"
    "def wait(): gate.wait()\n"
    "threading.Thread(target=wait, daemon=True).start()\n"
    "def main(): pass",
}


@pytest.mark.parametrize("program", ["server", "zygote"])
@pytest.mark.parametrize("spec", CANNOT)
def test_what_cannot_be_preloaded(program: str, spec: str, tmp_path: Path) -> None:
    for name, source in SOURCES.items():
        (tmp_path / f"{name}.py").write_text(source)
    argv = [*LAUNCH, f"chimirror.{program}", "--directory", str(tmp_path)]
    if program == "server":
        argv += ["--listen=127.0.0.1:0", "--preload"]
    else:
        argv += ["--socket", str(tmp_path / "socket")]
    env = os.environ | {"PYTHONPATH": ROOT}
    done = subprocess.run([*argv, spec], capture_output=True, text=True, env=env)
    assert CANNOT[spec].format(tmp_path) in done.stderr
    assert done.returncode == os.EX_UNAVAILABLE
    assert not (tmp_path / "socket").exists()
