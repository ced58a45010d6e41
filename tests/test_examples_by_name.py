"""Every example that is served by name, as its clients meet it: a server, a session."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from launch import Service, server
from peers import Closed, Peer, stdin

EXAMPLES = Path(__file__).parent.parent / "examples"
# Clients, and no applications.
APART = {"vault_client"}
ANOTHER = b"Shall we play again?"
LINE = "2026-11-21 10:30:00 status installed chimirror:all 1.0"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The examples, compiled, in a directory of their own."""
    here = tmp_path_factory.mktemp("served") / "examples"
    shutil.copytree(EXAMPLES, here, ignore=shutil.ignore_patterns(".*"))
    for apart in here.glob("*/*.toml"):
        apart.rename(here / apart.name)
    subprocess.run(["make", "--silent", "-C", here], check=True)
    return here


@pytest.fixture
def service(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Service]:
    log = tmp_path / "log"
    log.write_text(f"{LINE}\n")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    monkeypatch.setenv("PATH", path)
    variables = ["--env", f"LOG={log}", "--env", "INTERVAL=0.01"]
    with server(tmp_path, [], "--apps", str(place), *variables) as running:
        yield running


def opened(service: Service, name: str, framing: str) -> Peer:
    peer = Peer(service.connect())
    assert peer.open(f"/{name}", framing=framing).status == 101
    return peer


def answers(service: Service, name: str, *asked: str) -> list[bytes | Closed]:
    """What comes back over `lines`, one message for each."""
    with opened(service, name, "lines") as peer:
        peer.send(*(line.encode() for line in asked))
        return [peer.receive() for _ in asked]


def told(answer: bytes | Closed) -> Any:
    """What a message of JSON says."""
    assert isinstance(answer, bytes)
    return json.loads(answer)


def test_every_program_is_served_by_name() -> None:
    programs = {".py", ".sh", ".js", ".c", ".cob"}
    served = {file.stem for file in EXAMPLES.rglob("*.toml")}
    there = {file.stem for file in EXAMPLES.iterdir() if file.suffix in programs}
    assert there - APART <= served


def test_animals(service: Service) -> None:
    with opened(service, "animals", "lines") as peer:
        peer.send(b"yes", b"yes", b"no")
        said = [peer.receive() for _ in range(6)]
        assert said[2:] == [b"Is it a fish?", b"I knew it!", ANOTHER, b"Goodbye."]
        assert peer.receive() == (1000, "exit 0")


def test_mcp_server(service: Service) -> None:
    ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    with opened(service, "mcp_server", "lines") as peer:
        peer.send(ping)
        assert told(peer.receive()) == {"jsonrpc": "2.0", "id": 1, "result": {}}


def test_factor(service: Service) -> None:
    said = answers(service, "factor", "360", "97", "1", "18446744073709551557", "-4")
    assert said[:4] == [b"[2,2,2,3,3,5]", b"[97]", b"[]", b"[18446744073709551557]"]
    assert "error" in told(said[4])


def test_factor_line_by_line(service: Service) -> None:
    """Each answer comes before the next question: nothing waits in its buffers."""
    with opened(service, "factor", "lines") as peer:
        for number in (6, 35):
            peer.send(str(number).encode())
            assert peer.receive() in (b"[2,3]", b"[5,7]")


def test_ledger(service: Service) -> None:
    with opened(service, "ledger", "lines") as peer:
        for asked, answer in (
            (b"deposit 12.50", b"balance 12.50"),
            (b"withdraw 3", b"balance 9.50"),
            (b"withdraw 100", b"refused: the account has not so much"),
            (b"deposit much", b"refused: an amount above zero is needed"),
            (b"Balance", b"balance 9.50"),
            (b"hello", b"say deposit, withdraw or balance"),
        ):
            peer.send(asked)
            assert peer.receive() == answer


def test_tally(service: Service) -> None:
    *_, last, wrong = answers(service, "tally", "3", "4.5", "-1", "three")
    sums = told(last)
    assert (sums["count"], sums["least"], sums["most"]) == (3, -1, 4.5)
    assert sums["mean"] == pytest.approx(6.5 / 3)
    assert told(wrong) == {"error": "not a number: three"}


def test_vault(service: Service) -> None:
    asked = '["set","mail","my secret"]', "get mail", "get nothing", "keyset", "dance"
    *kept, wrong = map(told, answers(service, "vault", *asked))
    assert kept == [True, "my secret", None, ["mail"]]
    assert "error" in wrong


def test_repl(service: Service) -> None:
    with opened(service, "repl", "stdio") as peer:
        peer.message()
        peer.send(stdin(b"print(6 * 7)\n"))
        assert peer.output(3) == b"42\n"
        peer.send(stdin(b"raise SystemExit(3)\n"))
        story = peer.story()
    assert story.messages == [{"type": "exit", "code": 3}]
    assert story.closed == (1011, "exit 3")


def test_pylsp(service: Service) -> None:
    ask = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {}}
    with opened(service, "pylsp", "lsp") as peer:
        peer.send(ask)
        assert told(peer.receive())["result"]["serverInfo"]["name"] == "pylsp"


def test_log(service: Service, tmp_path: Path) -> None:
    """What is there, and then what is added."""
    with opened(service, "log", "lines") as peer:
        assert peer.receive() == LINE.encode()
        with (tmp_path / "log").open("a") as log:
            log.write("another\n")
        assert peer.receive() == b"another"
        peer.send(b"nobody listens")
        assert isinstance(end := peer.receive(), Closed)
        assert end.code == 1008


def test_monitor(service: Service) -> None:
    with opened(service, "monitor", "lines") as peer:
        first, second = (told(peer.receive()) for _ in range(2))
    assert 0 < first["memory"]["available"] < first["memory"]["total"]
    assert second["uptime"] >= first["uptime"]
    assert len(first["load"]) == 3
