"""Tests applications that real bridges and servers serve by name.

The content of application files is tested in tests/unit/apps.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest

import serve
from app_servers import AppServer, bridges, directory, servers
from chimirror.log.records import SESSION_ENDED
from json_log import messages
from processes import stopped, until
from serve import Bridge
from websocket_peer import Closed, Peer, upgrade

__all__ = ["directory"]  # a fixture

TELL = 'command = ["sh", "-c", "echo $SCRIPT_NAME:$PATH_INFO:$QUERY_STRING; {}"]\n'
LINES = 'framing = "lines"\n'


SERVICES = pytest.mark.parametrize("way", [bridges, servers])
Serve = Callable[..., AbstractContextManager[AppServer]]


def write(directory: Path, name: str, text: str) -> None:
    (directory / f"{name}.toml").write_text(text)


@SERVICES
def test_each_path_has_its_application(directory: Path, way: Serve) -> None:
    write(directory, "one", TELL.format("cat") + LINES)
    write(directory, "T-w.o_2", TELL.format("cat") + LINES)
    with way(directory, "--framing", "stdio") as served:
        assert served.first("/one") == b"/one::"
        assert served.first("/one/") == b"/one:/:"
        assert served.first("/T-w.o_2/a%20b/c?q=%20") == b"/T-w.o_2:/a b/c:q=%20"
        assert served.first("/one?x") == b"/one::x"


@SERVICES
def test_a_name_without_a_file_is_404(directory: Path, way: Serve) -> None:
    write(directory, "one", TELL.format("cat") + LINES)
    with way(directory) as served:
        for target in ("/", "/two", "/one.toml", "/ONE", "//one", "/%6fne", "/one%2f"):
            reply = served.ask(target)
            assert reply.status == 404, target
            assert reply.body.startswith(b"there is no application of this name here")


@SERVICES
def test_a_bad_file_is_500_and_the_log_says_why(directory: Path, way: Serve) -> None:
    write(directory, "bad", 'command = ["cat"]\nframing = "line"\n')
    write(directory, "good", TELL.format("cat") + LINES)
    with way(directory) as served:
        reply = served.ask("/bad")
        assert (reply.status, b"bad" in reply.body) == (500, False)
        until(lambda: "application-file" in served.log(), "the reason")
        told = json.loads(served.log().splitlines()[-1])
        assert told["CHIMIRROR_CAUSE"] == "application-file"
        assert told["CHIMIRROR_DETAIL"].startswith('bad.toml:2: "line" is not a fram')
        assert served.first("/good") == b"/good::"


@SERVICES
def test_a_changed_file_counts_from_the_next_connection(
    directory: Path, way: Serve
) -> None:
    """The new file has the same size, and its mtime is the same clock tick."""
    with way(directory) as served, ExitStack() as stack:
        for number in range(10, 40):
            write(directory, "one", f'command = ["echo", "{number}"]\n' + LINES)
            peer = stack.enter_context(served.open("/one"))
            assert peer.receive() == str(number).encode()
        os.unlink(directory / "one.toml")
        assert served.ask("/one").status == 404
        write(directory, "one", 'command = ["echo", "new"]\n' + LINES)
        assert served.first("/one") == b"new"


def test_start_uses_the_file_that_was_checked(directory: Path) -> None:
    """The file changes after a worker has checked the request, and before the start."""
    write(directory, "one", 'command = ["echo", "old"]\n' + LINES)
    apps = ("--apps", str(directory), "--workers", "1")
    with ExitStack() as stack:
        service = stack.enter_context(serve.pure_server(directory.parent, [], *apps))
        (zygote,) = service.zygotes()
        os.kill(zygote, signal.SIGSTOP)
        until(lambda: zygote in stopped(), "the zygote holds still")
        peer = stack.enter_context(Peer(service.connect()))
        peer.send_raw(upgrade("/one", "lines", ()))
        with Peer(service.connect()) as later:  # served by the same worker, after it
            later.send_raw(upgrade("/none", "lines", ()))
            assert later.refusal().status == 404
        text = 'command = ["echo", "new"]\nframing = "json"\n'
        write(directory, "one", text)
        os.kill(zygote, signal.SIGCONT)
        assert peer.head().status == 101
        assert peer.receive() == b"old"
        late = stack.enter_context(Peer(service.connect()))
        assert late.open("/one", framing="json").status == 101
        assert late.output(4) == b"new\n"


@SERVICES
def test_what_the_command_line_says_is_the_default(directory: Path, way: Serve) -> None:
    script = "command = ['sh', '-c', 'echo $A $B $C $(pwd)']\n"
    write(directory, "plain", script)
    own = "directory = '/usr/bin'\nenv = { B = 'file' }\nframing = 'stdio'\n"
    write(directory, "own", script + own)
    options = ("--framing=lines", "--env=A=line", "--env=B=line", "--directory=/usr")
    with way(directory, *options) as served:
        assert served.first("/plain") == b"line line /usr"
        assert served.ask("/own").status == 400
        with served.open("/own", "stdio") as peer:
            assert peer.transcript().stdout == b"line file /usr/bin\n"


@SERVICES
def test_relative_directories(
    directory: Path, way: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(directory.parent)
    write(directory, "one", 'command = ["pwd"]\n' + LINES)
    write(directory, "two", 'command = ["pwd"]\ndirectory = "/"\n' + LINES)
    with way(Path("apps")) as served:
        for _ in range(2):
            assert served.first("/two") == b"/"
            assert served.first("/one") == bytes(directory.parent)


@SERVICES
def test_a_directory_is_found_from_that_of_the_files(
    directory: Path, way: Serve
) -> None:
    (directory / "below").mkdir()
    write(directory, "one", 'command = ["pwd"]\ndirectory = "below"\n' + LINES)
    write(directory, "two", 'command = ["pwd"]\ndirectory = "."\n' + LINES)
    with way(directory) as served:
        assert served.first("/one") == bytes(directory / "below")
        assert served.first("/two") == bytes(directory)


@SERVICES
def test_what_cannot_be_started_is_500(directory: Path, way: Serve) -> None:
    write(directory, "one", 'command = ["/no/such"]\n' + LINES)
    write(directory, "two", 'command = ["cat"]\ndirectory = "/no/such"\n' + LINES)
    with way(directory) as served:
        for name in ("one", "two"):
            assert served.ask(f"/{name}").status == 500
            until(lambda: "/no/such: No such file" in served.log(), "the reason")


@SERVICES
def test_records_name_the_application(directory: Path, way: Serve) -> None:
    write(directory, "one", 'command = ["true"]\n' + LINES)
    with way(directory) as served:
        with served.open("/one") as peer:
            assert peer.receive() == Closed(1000, "exit 0")
        names = '"CHIMIRROR_COMMAND":"true","CHIMIRROR_APPLICATION":"one"'
        until(lambda: served.log().count(names) == 2, "both records")


def test_the_sessions_of_an_application_are_limited(directory: Path) -> None:
    """The limit holds over all workers. A rejected session is not counted."""
    write(directory, "one", 'command = ["cat"]\nmax-sessions = 2\n' + LINES)
    write(directory, "two", 'command = ["cat"]\n' + LINES)
    with servers(directory, "--max-sessions=4") as served, ExitStack() as stack:
        for name in ("one", "one", "two", "two"):
            first = stack.enter_context(served.open(f"/{name}"))
        assert b"all sessions are taken" in served.ask("/two").body
        assert b"of this application are taken" in served.ask("/one").body
        first.close()
        until(lambda: served.log().count(SESSION_ENDED) == 1, "room for another")
        assert b"of this application are taken" in served.ask("/one").body
        stack.enter_context(served.open("/two"))


def test_rejection_by_another_limit_is_not_counted(directory: Path) -> None:
    write(directory, "one", 'command = ["cat"]\nmax-sessions = 1\n' + LINES)
    write(directory, "two", 'command = ["cat"]\n' + LINES)
    with servers(directory, "--max-sessions=1") as served, ExitStack() as stack:
        stack.enter_context(served.open("/two")).close()
        until(lambda: served.log().count(SESSION_ENDED) == 1, "room for another")
        with served.open("/two"):
            for _ in range(3):
                assert b"all sessions are taken" in served.ask("/one").body
        until(lambda: served.log().count(SESSION_ENDED) == 2, "room for another")
        stack.enter_context(served.open("/one"))


def test_a_server_warns_of_each_bad_file_when_it_starts(directory: Path) -> None:
    write(directory, "bad", 'kommand = ["cat"]\n')
    write(directory, "gone", 'command = ["/no/such"]\n' + LINES)
    write(directory, "good", TELL.format("cat") + LINES)
    with servers(directory) as served:
        assert served.first("/good") == b"/good::"
        lines = messages(served.log())
    found = [line for line in lines if line.startswith("warning: ")]
    assert [line.partition(": ")[2].partition(".toml")[0] for line in found] == [
        f"{directory}/bad",
        f"{directory}/gone",
    ]
    assert found[1].endswith("/no/such: there is no such file; write its whole path")


def test_a_server_without_its_directory_does_not_start(tmp_path: Path) -> None:
    options = ("--listen", "127.0.0.1:0", "--apps", str(tmp_path / "none"))
    argv = serve.argv_of("server", [], options, "")
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == os.EX_UNAVAILABLE
    text = f"chimirror-server: {tmp_path}/none/.: No such file or directory"
    assert messages(done.stderr) == [text]


def test_a_bridge_without_its_directory_does_not_start(tmp_path: Path) -> None:
    with Bridge([], "--apps", str(tmp_path / "none")) as bridge:
        status, said = bridge.finish()
    assert status == os.EX_UNAVAILABLE
    text = f"chimirror-bridge: {tmp_path}/none/.: No such file or directory"
    assert messages(said.decode()) == [text]
