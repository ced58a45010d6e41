"""Tests `chat client` of the examples on pipes: real clients and a real server."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from chat_peer import ChatServer, chat_server, server
from chat_process import (
    ChatProcess,
    chat_client,
    client_argv,
    closed_pipe,
    run_client,
    server_to_kill,
    start_chat,
)
from processes import PATIENCE
from serve import reserved

__all__ = ["server"]  # fixtures


@pytest.fixture
def ada(server: ChatServer) -> Iterator[ChatProcess]:
    with chat_client(server.port, "ada") as client:
        yield client


@pytest.fixture
def bob(server: ChatServer) -> Iterator[ChatProcess]:
    with chat_client(server.port, "bob") as client:
        yield client


# Two users.


def test_a_chat(ada: ChatProcess, bob: ChatProcess) -> None:
    ada.type("users")
    assert [ada.read_line() for _ in range(2)] == ["  ada (you)", "  bob (available)"]
    start_chat(ada, bob, "bob")
    ada.type("message two  spaces, äöü, 漢字 🎉", "message ", "asked for")
    assert bob.read_line() == "<ada> two  spaces, äöü, 漢字 🎉"
    assert bob.read_line() == "<ada> asked for"
    bob.type("message an answer")
    ada.expect("^<bob> an answer$")
    ada.type("users")
    assert [ada.read_line() for _ in range(2)] == [
        "  ada (you)",
        "  bob (not available)",
    ]
    bob.type("exit_chat")
    assert ada.read_line() == "bob has left the chat."
    ada.type("message too late")
    ada.expect("^error: you are in no chat")
    bob.type("start_chat")
    bob.expect("^Write the name of the user")
    bob.type("ada")
    ada.expect("^bob asks to chat")
    ada.type("no")
    bob.expect("^ada has refused to chat")
    ada.type("disconnect")
    assert ada.finish()[0] == os.EX_OK
    bob.type("users")
    bob.expect(r"^  bob \(you\)$")


def test_both_see_both_keys(ada: ChatProcess, bob: ChatProcess) -> None:
    ada.type("start_chat bob")
    bob.expect("asks to chat")
    bob.type("yes")
    keys = []
    for client, partner in ((ada, "bob"), (bob, "ada")):
        other = client.expect(f"^  Key of {partner}: ").partition(": ")[2]
        own = client.expect("^  Your key: ").partition(": ")[2]
        keys.append({other, own})
    assert keys[0] == keys[1]
    assert len(keys[0]) == 2


def test_text_of_another_user_is_escaped(ada: ChatProcess, bob: ChatProcess) -> None:
    start_chat(ada, bob, "bob")
    ada.type(
        "message \x1b[2J\x07\N{RIGHT-TO-LEFT OVERRIDE}\u2028\x9b1m\udcff".replace(
            "\udcff", "\N{REPLACEMENT CHARACTER}"
        )
    )
    shown = "\\x1b[2J\\x07\\u202e\\u2028\\x9b1m\N{REPLACEMENT CHARACTER}"
    assert bob.read_line() == f"<ada> {shown}"


def test_one_of_three_is_not_available(
    server: ChatServer, ada: ChatProcess, bob: ChatProcess
) -> None:
    start_chat(ada, bob, "bob")
    with chat_client(server.port, "eve") as eve:
        eve.type("start_chat bob", "start_chat nobody", "start_chat eve")
        assert eve.read_line() == "bob is not available."
        assert eve.read_line() == "There is no user nobody."
        assert eve.read_line() == "eve is your own name."


def test_a_request_that_is_not_answered(tmp_path: Path) -> None:
    with (
        chat_server(tmp_path, "--answer-timeout", "0.1") as server,
        chat_client(server.port, "ada") as ada,
        chat_client(server.port, "bob") as bob,
    ):
        ada.type("start_chat bob", "message hello")
        assert ada.read_line() == "bob is asked, and has 0.1 s to answer."
        assert ada.read_line() == "bob has not answered in time."
        assert ada.read_line().startswith("error: you are in no chat")
        assert bob.read_line().startswith("ada asks to chat with you")
        assert bob.read_line() == "You have not answered ada in time."


def test_a_request_is_withdrawn(ada: ChatProcess, bob: ChatProcess) -> None:
    ada.type("start_chat bob", "exit_chat")
    ada.expect("^The request to bob is withdrawn.$")
    bob.expect("^ada asks to chat with you")
    bob.expect("^ada no longer asks.$")
    bob.type("yes")
    bob.expect("^error: no user asks you")


def test_a_name_that_is_taken(server: ChatServer, ada: ChatProcess) -> None:
    with chat_client(server.port) as client:
        client.type("Ada", "no name", "eve")
        client.expect("^error: .*is logged in")
        client.expect("^error: a name begins with")
        client.expect("^You are logged in as eve.$")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal(ada: ChatProcess, bob: ChatProcess, number: signal.Signals) -> None:
    start_chat(ada, bob, "bob")
    bob.process.send_signal(number)
    assert ada.read_line() == "bob has disconnected: the chat has ended."
    assert bob.finish() == (-number, "", "")


def test_a_killed_client(ada: ChatProcess, bob: ChatProcess) -> None:
    start_chat(ada, bob, "bob")
    bob.process.kill()
    assert ada.read_line() == "bob has disconnected: the chat has ended."


# Input and output.


def test_a_script(server: ChatServer, bob: ChatProcess) -> None:
    """A script does not wait: each command runs after the answer to the last."""
    given = b"ada\nusers\nstart_chat bob\nmessage one\nmessage two\nusers\nexit_chat"
    argv = client_argv(server.port)
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as script:
        assert script.stdin
        script.stdin.write(given)
        script.stdin.close()
        bob.expect("^ada asks")
        bob.type("yes")
        assert bob.expect("^<ada>") == "<ada> one"
        assert bob.read_line() == "<ada> two"
        assert bob.read_line() == "ada has left the chat."
        assert script.stdout
        said = script.stdout.read().decode().splitlines()
    assert script.returncode == os.EX_OK
    assert said[4:6] == ["  ada (you)", "  bob (available)"]
    assert said[-2:] == ["  bob (not available)", "You have left the chat with bob."]


def test_files(server: ChatServer, tmp_path: Path) -> None:
    given, said = tmp_path / "given", tmp_path / "said"
    given.write_text("ada\nusers\n")
    with given.open() as stdin, said.open("w") as stdout:
        argv = client_argv(server.port)
        subprocess.run(argv, stdin=stdin, stdout=stdout, check=True, timeout=PATIENCE)
    assert said.read_text().endswith("help lists the commands.\n  ada (you)\n")


def test_only_a_name(server: ChatServer) -> None:
    status, said, _ = run_client(server.port, b"ada")
    assert status == os.EX_OK
    assert "You are logged in as ada." in said


def test_no_input(server: ChatServer) -> None:
    assert run_client(server.port, b"")[0] == os.EX_OK


def test_lines_that_are_too_long(server: ChatServer) -> None:
    given = b"ada\nmessage " + b"x" * 300_000 + b"\nusers\r\nhe\xfflp\n"
    status, said, _ = run_client(server.port, given)
    assert status == os.EX_OK
    assert "\nerror: a line has at most 65536 bytes\n" in said
    assert "\n  ada (you)\nerror: 'he\N{REPLACEMENT CHARACTER}lp' is no command" in said
    assert "x" * 100 not in said


def test_many_messages_before_the_end(ada: ChatProcess, bob: ChatProcess) -> None:
    """All arrive, although the client ends at once."""
    start_chat(ada, bob, "bob")
    ada.type(*(f"message {n}" for n in range(100)), "disconnect")
    assert [bob.read_line() for _ in range(100)] == [f"<ada> {n}" for n in range(100)]
    assert bob.read_line() == "ada has disconnected: the chat has ended."
    assert ada.finish()[0] == os.EX_OK


def test_output_that_cannot_be_written(server: ChatServer) -> None:
    writer = closed_pipe()
    try:
        argv = client_argv(server.port)
        pipe = subprocess.PIPE
        with subprocess.Popen(argv, stdin=pipe, stdout=writer, stderr=pipe) as process:
            assert process.stderr
            assert process.stderr.read() == b""
    finally:
        os.close(writer)
    assert process.returncode == os.EX_OK


def test_a_full_disk(server: ChatServer) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            client_argv(server.port),
            input=b"ada",
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=PATIENCE,
        )
    reason = b"chat: cannot write the output: No space left on device\n"
    assert (done.returncode, done.stderr) == (os.EX_IOERR, reason)


@pytest.mark.parametrize("closed", ["<&-", ">&-"])
def test_a_closed_descriptor(server: ChatServer, closed: str) -> None:
    argv = ["sh", "-c", f'exec "$@" {closed}', "sh", *client_argv(server.port)]
    done = subprocess.run(argv, input=b"", capture_output=True, timeout=PATIENCE)
    reason = b"chat: standard input or output is closed\n"
    assert (done.returncode, done.stderr) == (os.EX_USAGE, reason)


# Servers that are missing, or end.


def test_no_server() -> None:
    with reserved() as port:
        status, said, errors = run_client(port, b"ada\nusers\n")
    assert status == os.EX_UNAVAILABLE
    assert said == "Write the name that other users shall see.\n"
    where = f"127.0.0.1:{port}"
    assert errors == f"chat: cannot connect to {where}: Connection refused\n"


def test_what_is_no_host() -> None:
    argv = [*client_argv(1), "a" * 64]
    done = subprocess.run(argv, input=b"ada", capture_output=True, timeout=PATIENCE)
    assert done.returncode == os.EX_UNAVAILABLE
    assert done.stderr.endswith(b"a:1: this is no host name\n")


@pytest.mark.parametrize("argument", ["0", "65536", "x", ""])
def test_usage(argument: str) -> None:
    argv = [*client_argv(1)[:-1], argument]
    done = subprocess.run(argv, capture_output=True, timeout=PATIENCE)
    assert done.returncode == os.EX_USAGE
    assert done.stderr.startswith(b"usage: ")


def test_a_server_that_is_killed_and_comes_back(tmp_path: Path) -> None:
    """Both clients report it, connect again, and can chat again."""
    with (
        reserved() as port,
        server_to_kill(tmp_path, port) as killed,
        chat_client(port, "ada") as ada,
        chat_client(port, "bob") as bob,
    ):
        start_chat(ada, bob, "bob")
        killed.process.kill()
        killed.process.wait()
        for client, partner in ((ada, "bob"), (bob, "ada")):
            assert client.read_line() == f"The chat with {partner} has ended."
            client.expect("^No connection to the server: ")
            client.expect(r"^The next attempt is in 0\.\d s\.$")
            client.type("message lost", "help")
            client.expect("^error: not connected: message was not executed$")
            client.expect("^  help ")
        (tmp_path / "again").mkdir()
        with chat_server(tmp_path / "again", port=port):
            ada.expect("^You are logged in again as ada.$")
            bob.expect("^You are logged in again as bob.$")
            start_chat(bob, ada, "ada")
            ada.type("message back")
            bob.expect("^<ada> back$")
            for client in (ada, bob):
                client.type("disconnect")
                assert client.finish()[0] == os.EX_OK


def test_a_server_that_stops(tmp_path: Path) -> None:
    with chat_server(tmp_path) as server, chat_client(server.port, "ada") as ada:
        server.process.terminate()
        server.process.wait(PATIENCE)
        ada.expect("^No connection to the server: ")
        ada.type("disconnect")
        assert ada.finish()[0] == os.EX_OK
