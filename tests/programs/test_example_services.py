"""Tests examples/services: both targets, through the server that starts them.

Both targets print the same. Real programs run, and none of their processes and files
may be left in any case.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from processes import MARK, PATIENCE, ended, kill_processes, marked, name_of, until
from serve import server
from websocket_peer import Peer

EXAMPLES = Path(__file__).parents[2] / "examples"
SERVICES = EXAMPLES / "services"
SERVER = [sys.executable, str(SERVICES / "orders_server.py")]
PYTHON = [sys.executable, str(SERVICES / "orders.py")]
USAGE = "write a number from 1 to 1000 and an item, or total"
STORY = {
    "total": "total 0.00",
    "3 apple": "3 apple 1.05",
    "1 melon": "1 melon 2.80",
    "2 melon": "refused: only 1 melon left",
    " 1  melon ": "1 melon 2.80",
    "1 plum": "refused: no plum here",
    "0 apple": USAGE,
    "1001 apple": USAGE,
    "-1 apple": USAGE,
    "1 Apple": USAGE,
    '1 apple"': USAGE,
    "1 apple 2": USAGE,
    "apple": USAGE,
    "": USAGE,
    "9" * 100 + " apple": USAGE,
    "1 " + "a" * 32: USAGE,
    "97 apple": "97 apple 33.95",
    "total ": USAGE,
}
JOURNAL = ["3 apple: 105", "1 melon: 280", "1 melon: 280", "97 apple: 3395"]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Compile the target in C."""
    here = tmp_path_factory.mktemp("built")
    shutil.copytree(EXAMPLES, here / "examples", ignore=shutil.ignore_patterns(".*"))
    subprocess.run(["make", "-s", "-C", here / "examples", "orders"], check=True)
    return [str(here / "build" / "examples" / "orders")]


@pytest.fixture(params=["C", "Python"])
def target(request: pytest.FixtureRequest, compiled: list[str]) -> list[str]:
    return compiled if request.param == "C" else PYTHON


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Return an environment with a runtime directory of its own."""
    runtime = tmp_path / "runtime"
    runtime.mkdir(mode=0o700)
    own = {"XDG_RUNTIME_DIR": str(runtime), MARK: uuid.uuid4().hex}
    found = {**os.environ, **own, "PYTHONUNBUFFERED": "1"}
    found.pop("CHIMIRROR_SERVICES", None)
    return found


@contextmanager
def orders(target: list[str], env: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """Run the server with a target. At the end, nothing of both is left."""
    pipe = subprocess.PIPE
    running = subprocess.Popen(
        [*SERVER, *target], stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=env
    )
    with running:
        try:
            yield running
            until(lambda: not marked(env[MARK]), "no process is left")
            until(lambda: not os.listdir(env["XDG_RUNTIME_DIR"]), "no file is left")
        finally:
            kill_processes(marked(env[MARK]))


def ask(running: subprocess.Popen[str], line: str) -> str:
    """Send one order. Returns its answer."""
    assert running.stdin
    assert running.stdout
    print(line, file=running.stdin, flush=True)
    return running.stdout.readline().rstrip("\n")


def target_of(running: subprocess.Popen[str], target: list[str]) -> int:
    """Return the process of the target."""
    wanted = " ".join(target)
    children = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text()
    (found,) = (pid for pid in map(int, children.split()) if name_of(pid) == wanted)
    return found


def test_story(target: list[str], environment: dict[str, str]) -> None:
    with orders(target, environment) as running:
        assert {line: ask(running, line) for line in STORY} == STORY
        assert ask(running, "total") == "total 40.60"
        rest, log = running.communicate()
        assert (running.returncode, rest) == (0, "")
        assert log.splitlines() == JOURNAL


def test_all_at_once(target: list[str], environment: dict[str, str]) -> None:
    """Orders without waiting for answers, the last one without a line break."""
    with orders(target, environment) as running:
        rest, log = running.communicate("1 lemon\n" * 25 + "total")
        assert running.returncode == 0
        taken = ["1 lemon 0.60"] * 20 + ["refused: only 0 lemon left"] * 5
        assert rest.splitlines()[:25] == taken
        assert log.splitlines() == ["1 lemon: 60"] * 20


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_killed_target(
    target: list[str], environment: dict[str, str], number: signal.Signals
) -> None:
    with orders(target, environment) as running:
        ask(running, "1 apple")
        os.kill(target_of(running, target), number)
        assert running.wait(PATIENCE) == 128 + number


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_killed_server(
    target: list[str], environment: dict[str, str], number: signal.Signals
) -> None:
    with orders(target, environment) as running:
        ask(running, "1 apple")
        pid = target_of(running, target)
        running.send_signal(number)
        assert running.wait(PATIENCE) == -number
        assert ended(pid, PATIENCE)


def test_interrupted_server(target: list[str], environment: dict[str, str]) -> None:
    with orders(target, environment) as running:
        ask(running, "1 apple")
        pid = target_of(running, target)
        running.send_signal(signal.SIGINT)
        _, log = running.communicate()
        assert running.returncode == 130
        assert "Traceback" not in log
        assert ended(pid, PATIENCE)


def test_without_server(target: list[str], environment: dict[str, str]) -> None:
    done = subprocess.run(target, env=environment, capture_output=True, text=True)
    assert done.returncode != 0
    assert done.stdout == ""
    assert "CHIMIRROR_SERVICES" in done.stderr.splitlines()[-1]


def test_service_that_does_not_exist(
    compiled: list[str], environment: dict[str, str], tmp_path: Path
) -> None:
    """The target in C names the pipe that is missing."""
    environment["CHIMIRROR_SERVICES"] = str(tmp_path / "nowhere")
    done = subprocess.run(compiled, env=environment, capture_output=True, text=True)
    assert done.returncode == os.EX_UNAVAILABLE
    missing = f"{tmp_path}/nowhere/prices.in: No such file or directory"
    assert done.stderr == f"orders: {missing}\n"


def test_target_that_does_not_exist(environment: dict[str, str]) -> None:
    done = subprocess.run(
        [*SERVER, "/nowhere/orders"], env=environment, capture_output=True, text=True
    )
    assert done.returncode == os.EX_UNAVAILABLE
    assert done.stderr.startswith("orders_server: [Errno 2] No such file")
    assert "/nowhere/orders" in done.stderr
    assert not os.listdir(environment["XDG_RUNTIME_DIR"])


@pytest.mark.parametrize("lost", [False, True])
def test_client_that_leaves(
    target: list[str], environment: dict[str, str], tmp_path: Path, *, lost: bool
) -> None:
    """The end of a session ends target and server, and removes the services."""
    runtime = environment["XDG_RUNTIME_DIR"]
    variable = ("--env", f"XDG_RUNTIME_DIR={runtime}", "--framing", "lines")
    with server(tmp_path, [*SERVER, *target], *variable) as service:
        with Peer(service.connect()) as peer:
            assert peer.open(framing="lines").status == 101
            peer.send(b"3 apple")
            assert peer.receive() == b"3 apple 1.05"
            assert len(os.listdir(runtime)) == 1
            if not lost:
                peer.send_close()
        until(lambda: not os.listdir(runtime), "no file is left")
        until(lambda: not service.applications(), "no process is left")


def test_usage() -> None:
    done = subprocess.run(SERVER, capture_output=True, text=True)
    assert done.returncode == os.EX_USAGE
    assert done.stderr == "usage: orders_server.py TARGET [ARGUMENT…]\n"
