"""The clients of many sessions: a few processes of crowd.py, told what to do.

Law: all of them work at the same time, and whatever one of them finds wrong is a
`Failure` here. Each process has source addresses of its own, and they end with us.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

sys.path += [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

from contenders import Contender
from harness import raise_limits

from launch import Service

HERE = Path(__file__).parent
SPARE = 100  # descriptors of a process of clients, beside the sessions
MANY = 20_000  # sessions of one process of clients


class Failure(Exception):
    """Something that must hold does not."""


class Crowds:
    """See the module.

    Args:
        stack: its end is theirs.
        one: whom they visit, at `service`.
        sessions: the most there will be.
    """

    def __init__(
        self, stack: ExitStack, one: Contender, service: Service, sessions: int
    ) -> None:
        raise_limits()
        most = min(MANY, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - SPARE)
        self.processes = []
        for number in range(max(2, -(-sessions // most))):
            argv = [sys.executable, "-P", str(HERE / "crowd.py"), one.codec.framing]
            argv += ["127.0.0.1", str(service.port), f"127.0.{1 + number}"]
            pipe = subprocess.PIPE
            process = subprocess.Popen(argv, stdin=pipe, stdout=pipe, text=True)
            stack.callback(leave, process)
            self.processes.append(process)

    def ask(self, what: str, counts: list[int]) -> list[dict[str, Any]]:
        """Gives orders to the first so many; all of them work at the same time."""
        asked = self.processes[: len(counts)]
        for process, count in zip(asked, counts, strict=True):
            assert process.stdin
            process.stdin.write(json.dumps({"do": what, "count": count}) + "\n")
            process.stdin.flush()
        answers = [self.answer(process) for process in asked]
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

    def all(self, what: str, count: int = 0) -> list[dict[str, Any]]:
        return self.ask(what, [count] * len(self.processes))

    def share(self, count: int) -> list[int]:
        """`count` in as many parts."""
        each, more = divmod(count, len(self.processes))
        return [each + (number < more) for number in range(len(self.processes))]

    def open(self, count: int) -> float:
        """So many more sessions, each of which has spoken; seconds."""
        answers = self.ask("open", self.share(count))
        return max(float(answer["seconds"]) for answer in answers)

    def live(self) -> int:
        """The sessions that are there, by the clients' count."""
        return sum(int(answer["live"]) for answer in self.all("report"))

    def pings(self) -> int:
        """Those that were answered so far."""
        return sum(int(answer["pings"]) for answer in self.all("report"))


def leave(process: subprocess.Popen[str]) -> None:
    assert process.stdin
    assert process.stdout
    process.stdin.close()
    process.stdout.close()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
