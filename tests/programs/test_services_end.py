"""The end of a server and its target: signals, failures, kill -9 at each moment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from chimirror.services import Exit
from processes import PATIENCE, ended
from service_apis import CAT, Api, Stdin, guard_of, left_directories, python, shell
from service_fixtures import api, runtime, stdin

__all__ = ["api", "runtime", "stdin"]


def test_kill_by_a_handler(api: Api) -> None:
    server = api.server(shell('echo 1 >"$D/log.in"; exec sleep 600'))
    server.pipe("log", receive=int).handler(lambda value: server.kill())
    assert server.run() == Exit(None, "TERM")


def test_kill_by_another_thread(api: Api) -> None:
    server = api.server(["sleep", "600"])
    with server:
        server.start()
        killer = threading.Thread(target=server.kill)
        killer.start()
        assert server.wait() == Exit(None, "TERM")
        killer.join()


def test_a_target_may_end_in_its_own_way(api: Api) -> None:
    script = """
trap 'echo 2 >&3; exit 5' TERM
exec 3>"$D/log.in"
echo 1 >&3
while :; do sleep 600 & wait; done
"""
    server = api.server(shell(script))
    seen: list[int] = []

    def note(value: int) -> None:
        seen.append(value)
        server.kill()

    server.pipe("log", receive=int).handler(note)
    assert server.run() == Exit(5, None)
    assert seen == [1, 2]


def test_a_target_that_ignores_term(api: Api) -> None:
    script = "trap '' TERM; echo 1 >\"$D/log.in\"; while :; do sleep 600; done"
    server = api.server(shell(script), kill_grace=0)
    server.pipe("log", receive=int).handler(lambda value: server.kill())
    assert server.run() == Exit(None, "KILL")


def test_a_stopped_target(api: Api, stdin: Stdin) -> None:
    with api.server(CAT, stdin=stdin.read_end) as server:
        server.start()
        os.kill(server.pid, signal.SIGSTOP)
        server.kill()
        assert server.wait() == Exit(None, "TERM")


@pytest.mark.parametrize("prefix", ["", "trap '' TERM;"])
def test_the_group_ends_with_the_target(api: Api, prefix: str) -> None:
    script = f'{prefix} sleep 600 & echo $! >"$D/log.in"'
    server = api.server(shell(script), kill_grace=0)
    pids: list[int] = []
    server.pipe("log", receive=int).handler(pids.append)
    assert server.run() == Exit(0, None)
    assert ended(pids[0], 0)


def test_leaving_the_block_stops_the_target(api: Api, stdin: Stdin) -> None:
    with api.server(CAT, stdin=stdin.read_end) as server:
        log = server.pipe("log", receive=int)
        server.start()
        pid = server.pid
    assert ended(pid, 0)
    assert list(log) == []
    server.close()


def test_leaving_the_block_ends_a_receive_in_a_thread(api: Api, stdin: Stdin) -> None:
    found: list[Any] = []
    with api.server(CAT, stdin=stdin.read_end) as server:
        log = server.pipe("log", receive=int)
        server.start()
        reader = threading.Thread(target=lambda: found.append(list(log)))
        reader.start()
    reader.join(PATIENCE)
    assert found == [[]]


# kill -9 at each moment. The target prints its process id at that moment.

MOMENTS = {
    "before it opens": "echo $$; exec sleep 600",
    "in a message": 'exec 3>"$D/log.in"; printf "[1," >&3; echo $$; exec sleep 600',
    "between messages": """
exec 3>"$D/log.in" 4<"$D/log.out"
echo 1 >&3
read -r answer <&4
echo $$
exec sleep 600""",
    "full pipes": """
exec 3>"$D/log.in" 4<"$D/log.out"
echo $$
yes 1 >&3""",
    "deaf": "trap '' TERM INT HUP; echo $$; while :; do sleep 600; done",
}
SERVER = """
import sys
from chimirror.services import Server
server = Server(sys.argv[1:])
server.pipe("log", receive=int, send=int).handler(abs)
server.run()
"""
SERVER_ASYNCIO = """
import asyncio, sys
from chimirror.services.aio import Server
async def main():
    server = Server(sys.argv[1:])
    server.pipe("log", receive=int, send=int).handler(abs)
    await server.run()
asyncio.run(main())
"""


class ServerProcess:
    """A server in its own process.

    Attributes:
        process: The server.
        target: Process id of its target, or of a process that the target names.
        guard: Process id of its guard.
    """

    def __init__(self, program: str, script: str) -> None:
        command = [*python(program), *shell(script)]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert self.process.stdout is not None
        self.target = int(self.process.stdout.readline())
        self.guard = guard_of(self.process.pid)

    def wait(self) -> int:
        """Return the exit status of the server, once all its processes have ended."""
        status = self.process.wait(PATIENCE)
        assert ended(self.target, PATIENCE)
        assert ended(self.guard, PATIENCE)
        return status


@contextmanager
def served(program: str, script: str) -> Iterator[ServerProcess]:
    found = ServerProcess(program, script)
    with found.process:
        yield found


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_server_is_killed(moment: str) -> None:
    with served(SERVER, MOMENTS[moment]) as found:
        found.process.kill()
        assert found.wait() == -signal.SIGKILL
    assert not left_directories()


def test_a_server_is_killed_and_its_target_has_left_its_group() -> None:
    with served(SERVER, "setsid sleep 600 & echo $!; exec sleep 600") as found:
        found.process.kill()
        found.wait()
    assert not left_directories()


def test_both_are_killed() -> None:
    with served(SERVER, MOMENTS["between messages"]) as found:
        os.kill(found.target, signal.SIGKILL)
        found.process.kill()
        found.wait()
    assert not left_directories()


def test_all_are_killed() -> None:
    """The next server removes the directory."""
    with served(SERVER, MOMENTS["between messages"]) as found:
        for pid in (found.guard, found.process.pid, found.target):
            os.kill(pid, signal.SIGKILL)
        found.wait()
    assert len(left_directories()) == 1
    with served(SERVER, MOMENTS["before it opens"]) as other:
        assert len(left_directories()) == 1
        other.process.terminate()
        other.wait()


def test_a_guard_is_killed() -> None:
    with served(SERVER, MOMENTS["between messages"]) as found:
        os.kill(found.guard, signal.SIGKILL)
        os.kill(found.target, signal.SIGTERM)
        assert found.wait() == 0


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_target_is_killed(api: Api, moment: str) -> None:
    read_end, write_end = os.pipe()
    server = api.server(shell(MOMENTS[moment]), stdout=write_end, kill_grace=0)
    server.pipe("log", receive=int, send=int).handler(abs)
    found: list[Exit] = []
    runner = threading.Thread(target=lambda: found.append(server.run()))
    runner.start()
    with open(read_end) as lines:
        os.kill(int(lines.readline()), signal.SIGKILL)
    os.close(write_end)
    runner.join(PATIENCE)
    assert found == [Exit(None, "KILL")]


# Signals to the server


@pytest.mark.parametrize("program", [SERVER, SERVER_ASYNCIO])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_stops_its_target_first(program: str, number: signal.Signals) -> None:
    script = (
        "trap 'echo stopped; exit' TERM; echo $$; while :; do sleep 600 & wait; done"
    )
    with served(program, script) as found:
        found.process.send_signal(number)
        assert found.wait() == -number
        assert not left_directories()
        assert found.process.stdout is not None
        assert found.process.stdout.read() == b"stopped\n"


def test_a_handler_of_the_caller_stays(runtime: None) -> None:
    seen: list[int] = []
    previous = signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    try:
        from chimirror.services import Server

        server = Server(shell('kill -s TERM $PPID; echo 1 >"$D/log.in"'))
        server.pipe("log", receive=int).handler(seen.append)
        assert server.run() == Exit(0, None)
    finally:
        signal.signal(signal.SIGTERM, previous)
    assert sorted(seen) == [1, signal.SIGTERM]


def test_a_directory_that_the_target_fills(api: Api, tmp_path: Path) -> None:
    """All of it is removed, and nothing behind its links."""
    kept = tmp_path / "kept"
    kept.touch()
    script = f"""
mkdir "$D/sub"
echo 1 >"$D/sub/file"
ln -s {tmp_path} "$D/link"
rm "$D/log.in"
"""
    server = api.server(shell(script))
    server.pipe("log", receive=int, send=int).handler(abs)
    assert server.run() == Exit(0, None)
    assert kept.exists()


def test_a_signal_in_the_start() -> None:
    """The server gets it before it knows the process id of its target."""
    script = "kill -s TERM $PPID; echo $$; exec sleep 600"
    command = [*python(SERVER), *shell(script)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        line = process.stdout.read()
        assert not line or ended(int(line), PATIENCE)
        assert process.wait(PATIENCE) == -signal.SIGTERM


EXHAUSTED = """
import os, resource, sys
from chimirror.services import Server
used = len(os.listdir("/proc/self/fd"))
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
failures = 0
for limit in range(used - 1, used + 60):
    server = Server(["true"])
    for name in "abc":
        server.pipe(name, receive=int, send=int).handler(abs)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    try:
        print(server.run())
        break
    except OSError as error:
        failures += 1
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    del server
    assert len(os.listdir("/proc/self/fd")) == used, limit
    assert not os.listdir(os.environ["XDG_RUNTIME_DIR"]), limit
print(failures > 15)
"""


def test_no_free_descriptor() -> None:
    """Whatever open fails, nothing is left behind."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", EXHAUSTED],
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.stderr) == ("exit 0\nTrue\n", "")


def test_a_limit_of_a_wait(api: Api) -> None:
    """A target that writes without end does not hold it up."""
    with api.server(shell('yes 1 >"$D/log.in"')) as server:
        server.pipe("log", receive=int).handler(lambda value: None)
        server.start()
        for _ in range(3):
            with pytest.raises(TimeoutError):
                server.wait(timeout=0.01)
