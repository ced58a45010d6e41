"""A pool of client processes (client_process.py) for very many sessions.

All processes work at the same time. An error in one of them raises Failure here. Each
process has source addresses of its own, and ends with this one.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[1] / "support")]

from competitors import Competitor
from harness import raise_limits
from serve import Service

HERE = Path(__file__).parent
SPARE = 100  # descriptors of a client process, beside the sessions
MAX_SESSIONS = 20_000  # sessions of one client process


class Failure(Exception):
    """A condition of the benchmark does not hold."""


class ClientPool:
    """Client processes with sessions of one server.

    Args:
        stack: Ends the processes when it is closed.
        competitor: The competitor that serves.
        service: Its running service.
        sessions: The largest number of sessions.
    """

    def __init__(
        self, stack: ExitStack, competitor: Competitor, service: Service, sessions: int
    ) -> None:
        raise_limits()
        per_process = min(
            MAX_SESSIONS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - SPARE
        )
        self.processes = []
        for number in range(max(2, -(-sessions // per_process))):
            argv = [
                sys.executable,
                "-P",
                str(HERE / "client_process.py"),
                competitor.codec.framing,
            ]
            argv += ["127.0.0.1", str(service.port), f"127.0.{1 + number}"]
            pipe = subprocess.PIPE
            process = subprocess.Popen(argv, stdin=pipe, stdout=pipe, text=True)
            stack.callback(end_process, process)
            self.processes.append(process)

    def order(self, name: str, counts: list[int]) -> list[dict[str, Any]]:
        """Give an order to the first processes at once, with a count for each."""
        processes = self.processes[: len(counts)]
        for process, count in zip(processes, counts, strict=True):
            assert process.stdin
            process.stdin.write(json.dumps({"do": name, "count": count}) + "\n")
            process.stdin.flush()
        answers = [self.answer(process) for process in processes]
        for answer in answers:
            if answer["wrong"]:
                raise Failure(f"clients were told: {answer['wrong']}")
        return answers

    def answer(self, process: subprocess.Popen[str]) -> dict[str, Any]:
        assert process.stdout
        line = process.stdout.readline()
        if not line:
            raise Failure("a process of clients has ended")
        found: dict[str, Any] = json.loads(line)
        return found

    def all(self, name: str, count: int = 0) -> list[dict[str, Any]]:
        return self.order(name, [count] * len(self.processes))

    def share(self, count: int) -> list[int]:
        """Split `count` evenly among the processes."""
        each, more = divmod(count, len(self.processes))
        return [each + (number < more) for number in range(len(self.processes))]

    def open(self, count: int) -> float:
        """Open sessions until each has sent its word. Returns seconds."""
        answers = self.order("open", self.share(count))
        return max(float(answer["seconds"]) for answer in answers)

    def live(self) -> int:
        """Return the number of live sessions as the clients count them."""
        return sum(int(answer["live"]) for answer in self.all("report"))

    def pings(self) -> int:
        """Return the number of pings answered so far."""
        return sum(int(answer["pings"]) for answer in self.all("report"))


def end_process(process: subprocess.Popen[str]) -> None:
    assert process.stdin
    assert process.stdout
    process.stdin.close()
    process.stdout.close()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
