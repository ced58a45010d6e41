"""Tests chimirror-bridge as a program: exit statuses, signals, environment, imports.

Processes are real. Sessions are tested in tests/unit/session and test_transports.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import chimirror
from json_log import message
from processes import comm, ended, marked, name_of, only_child, until
from serve import ROOT, Bridge, argv_of
from websocket_peer import Closed, Peer, text, upgrade

ECHO = ["sh", "-c", "echo up; exec cat"]
GRACES = ("--stop-grace=50ms", "--kill-grace=100ms")


def run(
    *arguments: str, stdin: int = subprocess.DEVNULL, **variables: str
) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-P", "-m", "chimirror.bridge", *arguments]
    env = os.environ | {"PYTHONPATH": ROOT} | variables
    return subprocess.run(
        argv, stdin=stdin, capture_output=True, env=env, check=False, text=True
    )


@contextmanager
def behind(
    argv: list[str], env: dict[str, str], *, inetd: bool = False
) -> Iterator[tuple[Peer, subprocess.Popen[bytes]]]:
    """Start a program with a connection to the test as fds 0 and 1 (inetd: also 2)."""
    ours, theirs = socket.socketpair()
    with theirs:
        fd = theirs.fileno()
        stderr = fd if inetd else subprocess.PIPE
        process = subprocess.Popen(argv, stdin=fd, stdout=fd, stderr=stderr, env=env)
    with process, Peer(ours) as peer:
        yield peer, process


def opened(bridge: Bridge, framing: str = "json") -> Peer:
    peer = Peer(bridge.socket)
    assert peer.open(framing=framing).status == 101
    return peer


# The name in ps(1)


def test_processes_are_shown_as_chimirror_bridge() -> None:
    """Before a request and in a session, without the interpreter and its options."""
    words = ["--framing", "lines", "--env", "A=b  c", "--", "cat", "-u"]
    launcher = Path(sys.executable).with_name("chimirror-bridge")
    with behind([str(launcher), *words], dict(os.environ)) as (peer, bridge):
        shown = f"chimirror-bridge {' '.join(words)}"
        serving = only_child(bridge.pid)
        until(lambda: name_of(serving) == shown, "its name while a client is silent")
        assert comm(serving) == "chimirror-bridge"[:15]
        peer.open(framing="lines")
        peer.send("x")
        assert peer.receive() == b'"x"'
        assert name_of(serving) == shown
        named = "chimirror-bridge: guardian"
        until(lambda: name_of(bridge.pid) == named, "the name of its guardian")
        peer.close()
    request = upgrade("/", "lines", ())
    ours, theirs = socket.socketpair()
    with theirs:
        ours.sendall(request)  # before the start
        fd = theirs.fileno()
        bridge = subprocess.Popen([launcher, *words], stdin=fd, stdout=fd)
    with bridge, Peer(ours) as peer:
        assert peer.head().status == 101
        serving = only_child(bridge.pid)
        until(lambda: name_of(serving) == shown, "its name in a session")
        peer.close()


# Exit statuses


def test_a_served_session_is_success_however_it_ends() -> None:
    for program in ("exit 0", "exit 3", "kill -KILL $$"):
        with Bridge(["sh", "-c", program]) as bridge, opened(bridge) as peer:
            peer.transcript()
            peer.close()
            assert bridge.finish()[0] == 0


def test_a_served_refusal_is_success() -> None:
    with Bridge(ECHO) as bridge, Peer(bridge.socket) as peer:
        peer.send_raw(upgrade("/", "json", ("Host: evil.example",)))
        assert peer.refusal().status == 403
        peer.close()
        status, said = bridge.finish()
    assert status == 0
    (record,) = [json.loads(each) for each in said.splitlines()]
    assert record["CHIMIRROR_STATUS"] == "403"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((), "no COMMAND"),
        (("--no-such-option", "cat"), "--no-such-option"),
        (("--max-message", "1Q", "cat"), '"1Q" is not a size'),
        (("--fram", "json", "cat"), "--fram"),
        (("--stderr=client", "--framing=lines", "cat"), "--stderr"),
        (("--listen=127.0.0.1:1", "cat"), "--listen"),
    ],
)
def test_usage_errors(arguments: tuple[str, ...], text: str) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (64, "")
    said = message(done.stderr)
    assert text in said
    assert said.startswith("chimirror-bridge: ")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_and_version(option: str) -> None:
    done = run(option)
    assert (done.returncode, done.stderr) == (0, "")
    wanted = chimirror.__version__ if option == "--version" else "--max-message"
    assert wanted in done.stdout


def test_a_directory_that_is_not_there() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        done = run("--directory=/nonexistent", "cat", stdin=theirs.fileno())
    assert done.returncode == os.EX_UNAVAILABLE
    text = "chimirror-bridge: /nonexistent: No such file or directory"
    assert message(done.stderr) == text


def test_a_listening_socket_is_no_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        done = run("cat", stdin=listener.fileno())
    assert done.returncode == os.EX_USAGE
    assert "Accept=yes" in done.stderr


FAULTY = """
import sys
from chimirror import bridge
from chimirror.session.session import Session
def fail(*args): raise ValueError("secret")
{where} = fail
bridge.main()
"""


@pytest.mark.parametrize("where", ["Session.__init__", "bridge.EventLoop.run_once"])
def test_internal_errors_are_not_sent(where: str) -> None:
    """No started process is left."""
    argv = [sys.executable, "-c", FAULTY.format(where=where), "cat"]
    with behind(argv, os.environ | {"PYTHONPATH": ROOT}) as (peer, process):
        assert peer.stream.read() == b""
        assert b"ValueError: secret" in process.communicate(timeout=200)[1]
        assert process.returncode == os.EX_SOFTWARE


# Signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize(
    "program",
    [
        "echo up; exec cat",
        "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 1; done",
        "trap '' TERM; echo up; exec sleep 1000",
    ],
)
def test_a_drain_is_1001_whatever_the_application_does(
    number: signal.Signals, program: str
) -> None:
    with Bridge(["sh", "-c", program], *GRACES) as bridge, opened(bridge) as peer:
        assert peer.output(3) == b"up\n"
        bridge.process.send_signal(number)
        story = peer.transcript()
        assert (story.stdout, story.closed) == (b"", Closed(1001, "drain"))
        assert ended(bridge.pid, 30)
        assert marked(bridge.mark) == []
        assert bridge.finish()[0] == 0


@pytest.mark.parametrize(
    ("numbers", "reason"),
    [
        ((signal.SIGUSR1,), "killed by operator"),
        ((signal.SIGTERM, signal.SIGTERM), "drain"),
        ((signal.SIGUSR2, signal.SIGUSR2, signal.SIGUSR1), "closed by operator"),
    ],
)
def test_an_end_at_once_has_no_grace(
    numbers: tuple[signal.Signals, ...], reason: str
) -> None:
    """An application that would end by itself is killed. The client is notified."""
    program = ["sh", "-c", "trap '' TERM; echo up; cat; sleep 1000"]
    options = ("--stop-grace=1h", "--kill-grace=1h")
    with Bridge(program, *options) as bridge, opened(bridge) as peer:
        assert peer.output(3) == b"up\n"
        bridge.process.send_signal(numbers[0])
        assert peer.transcript().closed == Closed(1001, reason)
        for number in numbers[1:]:
            bridge.process.send_signal(number)
        status, said = bridge.finish()
        assert (status, marked(bridge.mark)) == (0, [])
        assert b'"CHIMIRROR_EXIT":"signal KILL"' in said
        assert f'"CHIMIRROR_REASON":"{reason}"'.encode() in said


def test_an_operator_closes_with_grace() -> None:
    program = ["sh", "-c", "trap 'exit 3' TERM; echo up; while :; do sleep 0.1; done"]
    with Bridge(program, "--stop-grace=0") as bridge, opened(bridge) as peer:
        assert peer.output(3) == b"up\n"
        bridge.process.send_signal(signal.SIGUSR2)
        assert peer.transcript().closed == Closed(1001, "closed by operator")
        status, said = bridge.finish()
        assert (status, marked(bridge.mark)) == (0, [])
        assert b'"CHIMIRROR_EXIT":"exit 3"' in said
        assert b'"CHIMIRROR_REASON":"closed by operator"' in said


def test_a_drain_while_the_client_does_not_read() -> None:
    """The bridge waits neither for queued output nor for the close frame behind it."""
    program = ["sh", "-c", "exec head -c 350000 /dev/zero"]
    with Bridge(program, *GRACES) as bridge, opened(bridge):
        until(lambda: not marked(bridge.mark), "the application's end")
        assert not ended(bridge.pid, 0.2)
        bridge.process.send_signal(signal.SIGTERM)
        assert ended(bridge.pid, 30)
        assert b'"CHIMIRROR_REASON":"drain"' in bridge.finish()[1]


def test_a_drain_before_the_request() -> None:
    with Bridge(ECHO, "--env=READY=1") as bridge, Peer(bridge.socket) as peer:
        peer.send_raw(b"GET")
        serving = bridge.serving
        until(lambda: caught(serving, signal.SIGHUP), "it has its handlers")
        bridge.process.send_signal(signal.SIGTERM)
        reply = peer.refusal()
        assert (reply.status, reply.fields["retry-after"]) == (503, "1")
        peer.close()
        assert bridge.finish()[0] == 0


def caught(pid: int, number: signal.Signals) -> bool:
    """Return True if a process has a handler for the signal (proc(5): SigCgt)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("SigCgt:"):
            return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    return False


# The connection


def test_stderr_never_reaches_the_wire() -> None:
    """Under inetd all three descriptors are the connection."""
    argv = argv_of("bridge", ["no-such-program"], (), "x")
    env = os.environ | {"PYTHONPATH": ROOT}
    with behind(argv, env, inetd=True) as (peer, process):
        peer.send_raw(upgrade("/", "json", ()))
        reply = peer.refusal()
        assert reply.status == 500
        assert reply.body == b"the application could not be started\n"
        peer.close()
        assert process.wait(30) == 0


# The environment of the application


def application_environment(*options: str, **variables: str) -> dict[str, str]:
    argv = [sys.executable, "-P", "-m", "chimirror.bridge", *options, "env", "-0"]
    # Without LC_ALL, Python would set LC_CTYPE for itself (PEP 538).
    clean = {"PATH": os.environ["PATH"], "PYTHONPATH": ROOT, "LC_ALL": "C.UTF-8"}
    clean |= {name: os.environ[name] for name in os.environ if name.startswith("COV")}
    with behind(argv, clean | variables) as (peer, process):
        assert peer.open("/").status == 101
        said = peer.transcript().stdout.decode()
        peer.close()
        process.communicate(timeout=200)
        assert process.returncode == 0
    return dict(each.split("=", 1) for each in said.split("\0") if each)


def test_the_whole_environment() -> None:
    found = application_environment(HTTP_PROXY="x", LISTEN_FDS="1", TZ="UTC")
    assert len(found.pop("CHIMIRROR_SESSION")) == 32
    assert found == {
        "PATH": os.environ["PATH"],
        "TZ": "UTC",
        "LC_ALL": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        "GATEWAY_INTERFACE": "CGI/1.1",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_SOFTWARE": f"chimirror/{chimirror.__version__}",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "REQUEST_METHOD": "GET",
        "REQUEST_URI": "/",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/",
        "QUERY_STRING": "",
        "HTTP_HOST": "localhost",
        "HTTP_CONNECTION": "Upgrade",
        "HTTP_UPGRADE": "websocket",
        "HTTP_SEC_WEBSOCKET_VERSION": "13",
        "HTTP_SEC_WEBSOCKET_KEY": "AQIDBAUGBwgJCgsMDQ4PEA==",
        "HTTP_SEC_WEBSOCKET_PROTOCOL": "chimirror.json.v1",
    }


def test_what_is_added_to_the_environment(tmp_path: Path) -> None:
    secrets = tmp_path / "secrets"
    secrets.write_text("TOKEN=hush\nMODE=file\n")
    found = application_environment(
        "--pass-env=KEPT", "--env=MODE=line", f"--env-file={secrets}", KEPT="\u00fc"
    )
    wanted = {"KEPT": "\u00fc", "MODE": "line", "TOKEN": "hush"}
    assert {name: found[name] for name in wanted} == wanted


INTERNAL = 0b11 << 31  # the C library reserves signals 32 and 33


def test_the_directory_and_the_state_of_the_process(tmp_path: Path) -> None:
    script = (
        "pwd; ps -o pgid= -p $$ | tr -d ' '; echo $$; ls -m /proc/$$/fd; "
        "exec grep -E 'Sig(Blk|Ign)' /proc/self/status"
    )
    options = (f"--directory={tmp_path}",)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    ignored = signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    try:
        with Bridge(["sh", "-c", script], *options) as bridge, opened(bridge) as peer:
            lines = peer.transcript().stdout.decode().splitlines()
            peer.close()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1])
        signal.signal(signal.SIGUSR2, ignored)
    directory, group, pid, descriptors, blocked, off = lines
    assert directory == str(tmp_path)
    assert group == pid
    assert descriptors == "0, 1, 2"
    assert int(blocked.split()[1], 16) == 0
    assert not int(off.split()[1], 16) & ~INTERNAL


IDENTITY = "fedcba9876543210" * 2


@pytest.mark.parametrize("whose", ["ours", "inherited", "none"])
def test_session_id_of_systemd_is_used_for_its_process_only(whose: str) -> None:
    begin = {"ours": "SYSTEMD_EXEC_PID=$$", "inherited": "SYSTEMD_EXEC_PID=1"}
    # exec keeps the process id, and systemd writes that of the process it started.
    program = f'{begin.get(whose, "")} exec "$0" -P -m chimirror.bridge cat'
    env = os.environ | {"PYTHONPATH": ROOT, "INVOCATION_ID": IDENTITY}
    env.pop("SYSTEMD_EXEC_PID", None)
    argv = ["sh", "-c", program, sys.executable]
    with behind(argv, env) as (peer, process):
        assert peer.open(framing="stdio").status == 101
        told = peer.message()
        peer.close()
        process.communicate(timeout=200)
        assert process.returncode == 0
    assert told["type"] == "session"
    assert len(told["id"]) == 32
    assert (told["id"] == IDENTITY) == (whose == "ours")


# Imports

COSTLY = """
os re json enum typing collections socket signal subprocess logging docopt wsproto
websockets orjson pybase64 dataclasses selectors hashlib struct tomllib
""".split()

OFFERED = "--framing=json,stdio,lines,lsp"
LIGHT = """
import sys
sys.path.insert(0, sys.argv.pop(1))
from chimirror.bridge import main
try:
    main()
finally:
    print(*sorted(sys.modules), file=sys.stderr)
"""


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("framing", ["json", "stdio", "lines", "lsp"])
def test_open_echo_and_a_clean_close_import_next_to_nothing(
    framing: str, named: bool, tmp_path: Path
) -> None:
    """This also holds for an application with a name."""
    (tmp_path / "cat.toml").write_text('command = ["cat"]\n')
    # `-I -S`: the module site imports os itself.
    argv = [sys.executable, "-I", "-S", "-c", LIGHT, ROOT, OFFERED]
    argv += ["--apps", str(tmp_path)] if named else ["--", "cat"]
    sent = b'{"type":"stdin","payload":"aGVsbG8K"}'
    with behind(argv, {"PATH": os.environ["PATH"]}) as (peer, process):
        assert peer.open("/cat", framing=framing).status == 101
        if framing == "stdio":
            assert peer.message()["type"] == "session"
        peer.send_raw(text(sent))
        echoed = {"json": sent + b"\n", "stdio": b"hello\n"}.get(framing, sent)
        got = peer.receive() if echoed == sent else peer.output(len(echoed))
        assert got == echoed
        peer.send_close()
        assert peer.receive() == Closed(1000, "")
        peer.close()
        said = process.communicate(timeout=200)[1]
        assert process.returncode == 0
    modules = said.decode().splitlines()[-1].split()
    assert "chimirror.session.session" in modules
    assert not set(COSTLY) & set(modules)
    assert ("chimirror.apps.directory" in modules) == named


def test_unused_control_socket_imports_nothing(
    sessions_directory: Path,
) -> None:
    """The socket is created after the first byte, and does not delay it."""
    variables = {"PATH": os.environ["PATH"]}
    if "XDG_RUNTIME_DIR" in os.environ:
        variables["XDG_RUNTIME_DIR"] = os.environ["XDG_RUNTIME_DIR"]
    argv = [sys.executable, "-I", "-S", "-c", LIGHT, ROOT, "--", "cat"]
    with behind(argv, variables) as (peer, process):
        assert peer.open(framing="stdio").status == 101
        hello = peer.message()
        assert hello["secret"].startswith("0.")
        until(
            (sessions_directory / f"{hello['id']}.control").exists, "its control socket"
        )
        peer.send_close()
        peer.transcript()
        peer.close()
        said = process.communicate(timeout=200)[1]
    loaded = set(said.decode().split())
    assert "chimirror.control.server" in loaded
    assert not loaded & {
        "chimirror.control.connection",
        "chimirror.control.controller",
        "chimirror.protocol.jsonrpc",
    }
    assert not loaded & set(COSTLY)
