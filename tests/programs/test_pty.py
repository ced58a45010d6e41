"""Tests applications on a terminal: its properties, and the actions of clients.

Each application runs in a real process behind every service, and reports the properties
of its terminal itself. Sizes, signals and modes are those of the kernel.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from chimirror.config.parser import UsageError, parse_bridge
from control_clients import authorized
from processes import descendants, descriptors, marked, steady, until, written
from pty_session import PtyClient
from serve import Bridge, preloading, server, zygote
from session_harness import SessionHarness
from websocket_peer import Closed, Peer, Sender, payload_of, stdin, text

TOY = """\
    import fcntl, hashlib, os, select, signal, struct, sys, termios, time, tty

    def size():
        return os.get_terminal_size(0)

    def interrupted(*_):
        print("interrupted", flush=True)

    def resized(*_):
        print("resized", *size(), flush=True)

    def digest(count):
        tty.setraw(0)
        print("ready", flush=True)
        found = hashlib.sha256()
        while count:
            piece = os.read(0, min(count, 65536))
            found.update(piece)
            count -= len(piece)
        print("digest", found.hexdigest(), flush=True)

    def flood(count):
        tty.setraw(0)
        data = os.urandom(1 << 20)
        found = hashlib.sha256(data * count)
        print("go", flush=True)
        for _ in range(count):
            rest = data
            while rest:
                rest = rest[os.write(1, rest):]
        print("digest", found.hexdigest(), flush=True)

    def next_line():
        # A handler does not run in a read(2) that began just after the signal.
        while not select.select([0], [], [], 0.1)[0]:
            pass
        return sys.stdin.readline()

    def main():
        print("begun", *(size() if os.isatty(0) else ()), flush=True)
        while line := next_line():
            exec(line, globals())
        print("over", flush=True)
"""
Opened = Callable[[], Peer]
# timeouts that an immediate end does not reach
PATIENT = ("--stop-grace", "20", "--kill-grace", "20")


def toy(directory: Path) -> None:
    (directory / "toy.py").write_text(textwrap.dedent(TOY))


def command(directory: Path) -> list[str]:
    program = f"import sys; sys.path.insert(0, {str(directory)!r}); import toy; "
    return [sys.executable, "-c", f"{program}toy.main()"]


@contextmanager
def by_bridge(directory: Path, *options: str) -> Iterator[tuple[Opened, int]]:
    with Bridge(command(directory), "--pty", *options) as bridge:
        yield (lambda: Peer(bridge.socket)), bridge.serving


@contextmanager
def by_server(directory: Path, *options: str) -> Iterator[tuple[Opened, int]]:
    options = ("--workers", "1", "--pty", *options)
    with server(directory, command(directory), *options) as service:
        yield (lambda: Peer(service.connect())), service.pid


@contextmanager
def by_copies(directory: Path, *options: str) -> Iterator[tuple[Opened, int]]:
    options = ("--workers", "1", "--pty", *options)
    with preloading(directory, "toy:main", *options) as service:
        yield (lambda: Peer(service.connect())), service.pid


SERVICES = {"bridge": by_bridge, "server": by_server, "preload": by_copies}
everywhere = pytest.mark.parametrize("way", SERVICES)


@contextmanager
def talking(
    way: str, directory: Path, *options: str, size: tuple[int, int] | None = None
) -> Iterator[PtyClient]:
    """Open a session with the test program, up to its first output."""
    toy(directory)
    columns, rows = size or (80, 24)
    offer = f"Sec-WebSocket-Protocol: chimirror.size.{columns}x{rows}"
    with SERVICES[way](directory, *options) as (connect, pid), connect() as peer:
        fields = (offer,) if size else ()
        assert peer.open(framing="stdio", fields=fields).status == 101
        hello = peer.message()
        assert hello["type"] == "session"
        assert hello["pty"] is True
        talk = PtyClient(peer, pid)
        talk.expect(f"begun {columns} {rows}\r\n")
        yield talk


@everywhere
def test_it_is_a_terminal(way: str, tmp_path: Path) -> None:
    """The terminal is that of the standard descriptors and of the process session."""
    with talking(way, tmp_path) as talk:
        talk.type("print('tty', [os.isatty(n) for n in (0, 1, 2)])\n")
        talk.expect(r"\r\ntty \[True, True, True\]\r\n")  # the line was written before
        talk.type("print('leads', os.getsid(0) == os.getpgid(0) == os.getpid())\n")
        talk.expect(r"\r\nleads True\r\n")
        talk.type("print('opened', os.ttyname(os.open('/dev/tty', os.O_RDWR)))\n")
        talk.expect(r"\r\nopened /dev/")
        talk.type("print('front', os.tcgetpgrp(0) == os.getpid())\n")
        talk.expect(r"\r\nfront True\r\n")
        talk.type("print('fds', sorted(map(int, os.listdir('/proc/self/fd')))[:3])\n")
        talk.expect(r"\r\nfds \[0, 1, 2\]\r\n")
        talk.type("print('kind', os.environ['TERM'])\n")
        talk.expect(r"\r\nkind xterm-256color\r\n")
        talk.type("print('told', file=sys.stderr)\n")
        talk.expect(r"\r\ntold\r\n")


@everywhere
def test_its_size_is_the_clients(way: str, tmp_path: Path) -> None:
    with talking(way, tmp_path) as talk:
        talk.type("print('size', *size())\n")
        talk.expect(r"\r\nsize 80 24\r\n")
        talk.type("signal.signal(signal.SIGWINCH, resized); print('heeds')\n")
        talk.expect(r"\r\nheeds\r\n")
        talk.resize(132, 50)
        talk.expect(r"resized 132 50\r\n")
        talk.resize(65535, 1)
        talk.expect(r"resized 65535 1\r\n")


@everywhere
def test_its_size_is_known_before_it_starts(way: str, tmp_path: Path) -> None:
    """Programs lay out for the size, and no variable of the environment says it."""
    for number in range(10):
        (tmp_path / "list" / f"name-{number}").mkdir(parents=True)
    script = f"stty size; ls -C {tmp_path}/list; echo ${{COLUMNS-no}} ${{LINES-no}}"
    with talking(way, tmp_path, size=(132, 43)) as talk:
        talk.type(f"os.system({script!r}) and 0\n")
        names = r"[ \t]+".join(f"name-{number}" for number in range(10))
        talk.expect(rf"\r\n43 132\r\n{names}\r\nno no\r\n")


@everywhere
def test_an_interrupt_is_typed(way: str, tmp_path: Path) -> None:
    with talking(way, tmp_path) as talk:
        talk.type("signal.signal(signal.SIGINT, interrupted); print('heeds')\n")
        talk.expect(r"\r\nheeds\r\n")
        talk.type("\x03")
        talk.expect(r"\^Cinterrupted\r\n")
        talk.type("signal.signal(signal.SIGINT, signal.SIG_DFL); print('default')\n")
        talk.expect(r"\r\ndefault\r\n")
        talk.type("\x03")
        told = talk.transcript()
        assert told.closed == Closed(1011, "signal INT")


@everywhere
def test_the_end_of_input_is_typed(way: str, tmp_path: Path) -> None:
    """In line mode. Input after the end of file is discarded."""
    with talking(way, tmp_path) as talk:
        talk.peer.send({"type": "eof"}, stdin(b"print('late')\n"))
        told = talk.transcript()
        assert told.stdout.endswith(b"over\r\n")
        assert b"late" not in told.stdout
        assert told.messages == [{"type": "exit", "code": 0}]
        assert told.closed == Closed(1000, "exit 0")


def test_the_end_of_input_within_a_line() -> None:
    with Bridge(["wc", "-c"], "--pty") as bridge, Peer(bridge.socket) as peer:
        assert peer.open(framing="stdio").status == 101
        peer.send(stdin(b"last words"), {"type": "eof"})
        told = peer.transcript()
        found = (told.stdout, told.closed)
        assert found == (b"last words10\r\n", Closed(1000, "exit 0"))


@everywhere
def test_closed_terminal_does_not_end_the_session(way: str, tmp_path: Path) -> None:
    """Many programs close their standard descriptors before they exit."""
    gone = tmp_path / "gone"
    os.mkfifo(gone)
    with talking(way, tmp_path) as talk:
        talk.type(
            "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1]); "
            f"os.closerange(0, 3); open({str(gone)!r}, 'w').close(); "
            "signal.sigwait([signal.SIGUSR1]); "
            "os.write(os.open('/dev/tty', os.O_WRONLY), b'last'); os._exit(3)\n"
        )
        talk.peer.send({"type": "eof"})
        gone.read_text()
        talk.peer.send({"type": "signal", "name": "USR1"})
        told = talk.transcript()
        assert (told.stdout[-4:], told.closed) == (b"last", Closed(1011, "exit 3"))


@everywhere
def test_reopened_terminal_is_read(way: str, tmp_path: Path) -> None:
    """Its last output is more than the buffer of a terminal."""
    with talking(way, tmp_path) as talk:
        talk.type(
            "os.closerange(0, 3); back = os.open('/dev/tty', os.O_WRONLY); "
            "[os.write(back, b'x' * 999) for _ in range(999)]; os._exit(3)\n"
        )
        told = talk.transcript()
        assert told.stdout.count(b"x" * 999) == 999
        assert told.closed == Closed(1011, "exit 3")


def test_the_end_of_input_has_no_character_in_raw_mode(tmp_path: Path) -> None:
    with talking("bridge", tmp_path) as talk:
        talk.type("tty.setraw(0); print('raw'); print(os.read(0, 9), os.read(0, 9))\n")
        talk.expect("raw\n")
        talk.peer.send(stdin(b"a"), {"type": "eof"}, stdin(b"late"))
        talk.peer.send({"type": "signal", "name": "TERM"})
        assert talk.transcript().closed == Closed(1011, "signal TERM")


@everywhere
def test_output_is_not_lost(way: str, tmp_path: Path) -> None:
    """The client reads 10 MiB after a delay. The application waits."""
    with talking(way, tmp_path) as talk:
        talk.type("flood(10)\n")
        talk.expect("go\n")
        if way == "bridge":
            until(steady(lambda: written(talk.pid)), "it waits for its client")
        found, size = hashlib.sha256(), 10 << 20
        while size:
            piece, talk.shown = talk.shown[:size], talk.shown[size:]
            found.update(piece)
            size -= len(piece)
            if size:
                talk.shown = payload_of(talk.peer.message())
        assert talk.expect(r"digest (\w+)")[1].decode() == found.hexdigest()


@everywhere
def test_input_is_not_lost(way: str, tmp_path: Path) -> None:
    """A terminal accepts 4 KiB at a time."""
    data = os.urandom(3_000_000)
    with talking(way, tmp_path) as talk:
        talk.type(f"digest({len(data)})\n")
        talk.expect("ready\n")
        pieces = [data[at : at + 50_000] for at in range(0, len(data), 50_000)]
        frames = [text(stdin(piece)) for piece in pieces]
        with Sender(talk.peer, frames):
            told = talk.expect(r"digest (\w+)")[1].decode()
        assert told == hashlib.sha256(data).hexdigest()


@everywhere
def test_disconnect_sends_sighup(way: str, tmp_path: Path) -> None:
    """SIGHUP comes long before the stop timeouts, and after all input is delivered."""
    note = tmp_path / "note"
    with talking(way, tmp_path, *PATIENT) as talk:
        hung = f"open({str(note)!r}, 'w').write('hung up'), os._exit(0)"
        talk.type(f"signal.signal(signal.SIGHUP, lambda *_: ({hung})); print('set')\n")
        talk.expect(r"\r\nset\r\n")
        talk.peer.send_close()
        talk.peer.close()
        until(note.exists, "it has been hung up on")


@pytest.mark.usefixtures("sessions_directory")
@pytest.mark.parametrize("way", ["server", "preload"])
def test_pty_session_is_controlled(way: str, tmp_path: Path) -> None:
    """Paused input waits. A client that disconnects meanwhile still causes SIGHUP."""
    note = tmp_path / "note"
    toy(tmp_path)
    with SERVICES[way](tmp_path, "--control", *PATIENT) as (connect, pid):
        peer = connect()
        assert peer.open(framing="stdio").status == 101
        hello, talk = peer.message(), PtyClient(peer, pid)
        with authorized(lambda: connect().socket, hello) as steerer:
            talk.type("print('fd', os.environ['CHIMIRROR_CONTROL_FD'])\n")
            talk.expect(r"\r\nfd 3\r\n")
            talk.type("import socket; socket.socket(fileno=3).send(b'[]\\n')\n")
            steerer.ask("pause", streams=["stdout"])
            talk.type("print('later')\n")
            while steerer.ask("status")["messages_in"] < 3:
                pass
            steerer.ask("resume")
            talk.expect(r"\r\nlater\r\n")
            hung = f"open({str(note)!r}, 'w').write('hung up'), os._exit(0)"
            talk.type(
                f"signal.signal(signal.SIGHUP, lambda *_: ({hung})); print('set')\n"
            )
            talk.expect(r"\r\nset\r\n")
            steerer.ask("pause")
            talk.type("1 + 1\n")
            peer.send_close()
            peer.close()
            until(note.exists, "it has been hung up on")


SHELLS = ("bash --norc -i", "sh")


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("serving", ["bridge", "server"])
def test_a_shell_with_jobs_ends(shell: str, serving: str, tmp_path: Path) -> None:
    """Running, stopped and SIGHUP-ignoring jobs all end."""
    with ExitStack() as stack:
        argv, options = shell.split(), ("--pty", *PATIENT)
        if serving == "bridge":
            bridge = stack.enter_context(Bridge(argv, *options))
            mark, connection = bridge.mark, bridge.socket
        else:
            service = stack.enter_context(server(tmp_path, argv, *options))
            mark, connection = service.mark, service.connect()
        before = len(marked(mark))
        peer = stack.enter_context(Peer(connection))
        assert peer.open(framing="stdio").status == 101
        talk = PtyClient(peer, 0)
        talk.type("set -m; sleep 1000 & nohup sleep 1000 >/dev/null & kill -STOP %1\n")
        talk.type("sleep 1000\n")
        until(lambda: len(marked(mark)) - before >= 3, "a shell with three jobs")
        peer.close()
        until(lambda: len(marked(mark)) <= before, "the shell and its jobs have ended")


def test_nothing_is_left_of_it(tmp_path: Path) -> None:
    """Neither descriptors nor processes are left, however a session ends."""
    toy(tmp_path)

    def count() -> int:
        return sum(descriptors(one.pid) for one in descendants(pid))

    with by_server(tmp_path) as (connect, pid):
        least = 0
        for how in ("exit", "close", "vanish") * 3:
            with connect() as peer:
                assert peer.open(framing="stdio").status == 101
                talk = PtyClient(peer, pid)
                peer.message()
                talk.expect("begun 80 24\r\n")
                if how == "exit":
                    talk.type("sys.exit(3)\n")
                    assert talk.transcript().closed == Closed(1011, "exit 3")
                elif how == "close":
                    peer.send_close()
                    assert talk.transcript().closed == Closed(1000, "")
            until(
                lambda: len(descendants(pid)) == 2, "a worker and the zygote are left"
            )
            # The first count may be too high: the worker closes what it has last.
            until(lambda: not least or count() <= least, f"{least} descriptors again")  # noqa: B023 (called at once)
            least = count()


def test_size_is_optional(tmp_path: Path) -> None:
    """An invalid size is answered with an error, and changes nothing."""
    with talking("bridge", tmp_path) as talk:
        for size in (
            (0, 24),
            (80, 65536),
            (80.0, 24),
            (True, 24),
            ("80", 24),
            (80, None),
        ):
            talk.resize(*size)
            told = talk.peer.message()
            assert told["type"] == "error"
            text = payload_of(told).decode()
            wrong = "columns and rows are not each 1 to 65535: found "
            assert text.startswith(wrong)
        talk.type("print('size', *size())\n")
        talk.expect("size 80 24")


def test_pipes_have_no_size() -> None:
    with SessionHarness() as harness:
        harness.open("stdio")
        harness.peer.message()
        harness.say(text({"type": "resize", "columns": 80, "rows": 24}))
        assert payload_of(harness.peer.message()) == b"there is no terminal to resize"


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--framing=json,lines"], "lines has no place for what a terminal shows"),
        (["--subprotocol=mcp=lsp"], "lsp has no place for what a terminal shows"),
        (["--stderr=log"], "standard error with the rest; leave --stderr out"),
        (["--direction=send"], "a terminal goes both ways; leave --direction out"),
    ],
)
def test_what_no_terminal_can_be(options: list[str], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        parse_bridge(["--pty", *options, "--", "cat"])


def test_pty_in_an_application_file(tmp_path: Path) -> None:
    """A session with a terminal and one without, in the same process."""
    toy(tmp_path)
    for name in ("yes", "no"):
        words = json.dumps(command(tmp_path))
        file = tmp_path / f"{name}.toml"
        file.write_text(
            f"command = {words}\npty = {'true' if name == 'yes' else 'false'}\n"
        )
    with server(tmp_path, [], "--apps", str(tmp_path)) as service:
        for name in ("yes", "no"):
            with Peer(service.connect()) as peer:
                assert peer.open(f"/{name}", framing="stdio").status == 101
                assert peer.message().get("pty", False) is (name == "yes")
                talk = PtyClient(peer, 0)
                talk.type("print('tty', os.isatty(0))\n")
                talk.expect(f"tty {name == 'yes'}")


def test_local_client_gets_the_pty(tmp_path: Path) -> None:
    """The client gets the master, for reading and writing."""
    toy(tmp_path)
    with (
        zygote(tmp_path, "--", *command(tmp_path)) as service,
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as link,
    ):
        link.settimeout(30)
        link.connect(str(service.address))
        link.send(b'{"start":1,"pty":true,"size":[132,43]}')
        packet, fds, _, _ = socket.recv_fds(link, 1 << 16, 3)
        assert json.loads(packet)["started"] == 1
        writer, reader = fds
        os.set_blocking(reader, True)
        os.write(writer, b"print(os.isatty(2), os.environ['TERM'])\n")
        said = b""
        while not re.search(b"begun 132 43\r\n.*True xterm-256color", said, re.S):
            said += os.read(reader, 4096)
        os.close(writer)
        os.close(reader)
