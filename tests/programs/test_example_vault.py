"""Tests examples/vault.py behind each service. Clients do not share changes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from serve import Service, preloading, server, zygote

EXAMPLES = Path(__file__).parents[2] / "examples"
CLIENT = str(EXAMPLES / "vault_client.py")
WRONG = {"error": "write: set KEY VALUE, get KEY, keyset, or exit"}


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A directory with the module and its entries."""
    shutil.copy(EXAMPLES / "vault.py", tmp_path)
    (tmp_path / "entries").write_text("mail=first=secret\nbank=second\n\nno entry\n")
    return tmp_path


def by_preload(house: Path) -> Iterator[tuple[Service, str]]:
    with preloading(house, "vault:main", "--env=VAULT=entries") as service:
        yield service, f"ws://127.0.0.1:{service.address[1]}/"


def by_command(house: Path) -> Iterator[tuple[Service, str]]:
    command = [sys.executable, "vault.py"]
    options = ("--env=VAULT=entries", "--directory", str(house))
    with server(house, command, *options) as service:
        yield service, f"ws://127.0.0.1:{service.address[1]}/"


def by_zygote(house: Path) -> Iterator[tuple[Service, str]]:
    with zygote(house, "--env=VAULT=entries", "vault:main") as service:
        assert isinstance(service.address, str)
        yield service, service.address


def by_zygote_of_a_command(house: Path) -> Iterator[tuple[Service, str]]:
    argv = ["--env=VAULT=entries", "--", sys.executable, "vault.py"]
    with zygote(house, *argv) as service:
        assert isinstance(service.address, str)
        yield service, service.address


SERVICES = [by_preload, by_command, by_zygote, by_zygote_of_a_command]


@pytest.fixture(params=SERVICES, ids=lambda way: way.__name__)
def where(request: pytest.FixtureRequest, house: Path) -> Iterator[str]:
    with contextmanager(request.param)(house) as (_, address):
        yield address


class Client:
    """Run the client of the example as a process."""

    def __init__(self, where: str) -> None:
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", CLIENT, where],
            stdin=pipe,
            stdout=pipe,
            text=True,
        )

    def ask(self, command: str) -> object:
        assert self.process.stdin
        assert self.process.stdout
        print(command, file=self.process.stdin, flush=True)
        found: object = json.loads(self.process.stdout.readline())
        return found

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.communicate(timeout=200)
        assert self.process.returncode == 0 or error[0]


def test_two_clients_never_see_each_others_data(where: str) -> None:
    with Client(where) as one, Client(where) as other:
        for client in (one, other):
            assert client.ask("keyset") == ["bank", "mail"]
            assert client.ask("get mail") == "first=secret"
        assert one.ask("set mail mine alone") is True
        assert one.ask("set new 1") is True
        assert other.ask("keyset") == ["bank", "mail"]
        assert other.ask("get mail") == "first=secret"
        assert other.ask("get new") is None
        assert one.ask("get mail") == "mine alone"
        with Client(where) as third:
            assert third.ask("keyset") == ["bank", "mail"]


def test_commands_of_the_command_line(where: str) -> None:
    argv = [sys.executable, CLIENT, where, "set", "a", "b c", "--", "get", "a"]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ('true\n"b c"\n', 0)


def test_many_sessions(where: str) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(where)) for _ in range(8)]
        for number, client in enumerate(clients):
            assert client.ask(f"set key {number}") is True
        for number, client in enumerate(clients):
            assert client.ask("get key") == str(number)


def play(*lines: str) -> list[object]:
    given = "".join(line + "\n" for line in lines)
    argv = [sys.executable, "-I", "-S", str(EXAMPLES / "vault.py")]
    done = subprocess.run(argv, input=given, capture_output=True, text=True, env={})
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    "line",
    ["", "get", "set a", "keyset now", "dance", "5", "null", "[]", "[1]", "[" * 5000],
)
def test_mistakes(line: str) -> None:
    assert play(line, "set a b", "get a") == [WRONG, True, "b"]


def test_json_and_plain_words() -> None:
    lines = ('["set","a b","c"]', '["get","a b"]', '"get x"', '"exit"', "keyset")
    assert play(*lines) == [True, "c", None]
    assert play("exit", "keyset") == []


def test_usage_of_the_client() -> None:
    done = subprocess.run([sys.executable, CLIENT], capture_output=True)
    assert done.returncode == os.EX_USAGE


def test_client_of_a_program_that_has_vanished_is_rejected(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"#!/bin/sh\n")
    program.chmod(0o755)
    with zygote(tmp_path, "--", str(program)) as service:
        program.unlink()
        argv = [sys.executable, CLIENT, str(service.address), "keyset"]
        done = subprocess.run(argv, capture_output=True, text=True)
    assert f"{program}: No such file or directory" in done.stderr
