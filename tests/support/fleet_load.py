"""Starts the load on a fleet (`fleet_client`) and reads its events."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fleet_client import Settings
from fleet_network import Network

PROGRAM = Path(__file__).with_name("fleet_client.py")


class Load:
    """A running load client."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def read(self, event: str) -> dict[str, Any]:
        """Return the next event with this name. Others are passed over."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            found: dict[str, Any] = json.loads(line)
            if found["event"] == event:
                return found
        raise AssertionError(f"the load client ended before {event}")

    def tell(self, word: str) -> None:
        assert self._process.stdin is not None
        print(word, file=self._process.stdin, flush=True)

    def state(self) -> dict[str, Any]:
        """Return the counts until now."""
        self.tell("state")
        return self.read("state")

    def stop(self) -> dict[str, Any]:
        """End all sessions by the end of their input. Returns all counts."""
        self.tell("stop")
        return self.read("end")


@contextmanager
def load(network: Network, settings: Settings) -> Iterator[Load]:
    """Run a load client in the network."""
    argv = [sys.executable, "-P", str(PROGRAM), json.dumps(settings._asdict())]
    with subprocess.Popen(
        network.argv(*argv), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield Load(process)
        finally:
            process.kill()


def say(text: str, **figures: object) -> None:
    """Print figures for a quotation of the output."""
    hidden = ("event", "returns")
    told = [(name, value) for name, value in figures.items() if name not in hidden]
    shown = ", ".join(f"{name} {value}" for name, value in told)
    print(f"\n{text}: {shown}")
