"""A server runs on while an upgrade replaces or removes the files of its package.

pip and pipx do so. A running server must not load a module of another version, and must
have no moment without its modules. The test removes the package and its libraries after
the start. Then it uses all that a bridge loads late. It does so in a worker with a
session from before, and in a worker that replaces a killed one.
"""

from __future__ import annotations

import os
import shutil
import signal
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import distribution
from pathlib import Path

import pytest

import chimirror
from control_clients import authorized
from metrics_client import get
from processes import MARK, until
from serve import LAUNCH, Service, running
from websocket_peer import CONTINUATION, TEXT, Closed, Peer, frame, stdin

LIBRARIES = ("docopt", "h11", "orjson", "pybase64", "sdnotify", "websockets", "wsproto")
BODY = b'{"id":1,"b":2}'
CAT = 'command = ["cat"]\n'
LATER = {
    "terminal": "pty = true",
    "lines": 'framing = "lines"',
    "lsp": 'protocol = "lsp"',
}
PAGES = (
    "/",
    "/cat",
    "/cat/asyncapi.json",
    "/.well-known/chimirror",
    "/.well-known/chimirror.js",
    "/.well-known/chimirror.d.ts",
)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """The directory of a copy of the package and its libraries."""
    site = tmp_path / "site"
    source = Path(chimirror.__file__).parent
    shutil.copytree(source, site / source.name)
    for name in LIBRARIES:
        at = Path(str(distribution("wsproto").locate_file(name)))
        shutil.copytree(at, site / name)
    return site


@contextmanager
def server_of(package: Path, directory: Path) -> Iterator[tuple[Service, Path]]:
    """Serve application files. Yields the directory of these too."""
    mark = uuid.uuid4().hex
    apps = directory / "apps"
    apps.mkdir()
    (apps / "cat.toml").write_text(CAT)
    options = ("--workers=2", "--listen=127.0.0.1:0", "--metrics=127.0.0.1:0")
    argv = [*LAUNCH, "chimirror.server", *options, "--console"]
    argv += [f"--apps={apps}", "--env", f"{MARK}={mark}", "--drain-timeout=1h"]
    with running(directory, argv, mark, root=str(package)) as service:
        host, _, port = service.find(r"listening on (127[^\s\"]+)").rpartition(":")
        service.address = (host, int(port))
        service.await_workers(2)
        yield service, apps


def opened(service: Service, target: str, framing: str) -> Peer:
    peer = Peer(service.connect())
    assert peer.open(target, framing=framing).status == 101
    return peer


def end(peer: Peer) -> None:
    peer.send_close()
    assert peer.transcript().closed.code == 1000
    peer.close()


def use_framings(service: Service) -> None:
    """Open a session of each framing, with messages in one frame and in several."""
    with opened(service, "/cat", "stdio") as peer:
        hello = peer.message()
        peer.send(stdin(b"some\n"))
        assert peer.output(5) == b"some\n"
        with authorized(service.connect, hello, "/cat") as control:
            assert control.ask("status")["messages_in"] == 1
        end(peer)
    with opened(service, "/cat", "json") as peer:
        peer.send(*[[number] for number in range(100)])
        assert peer.output(8).startswith(b"[0]\n[1]\n")
        end(peer)
    for framing, sent in (("lines", b"in two parts"), ("lsp", BODY)):
        with opened(service, f"/{framing}", framing) as peer:
            peer.send_raw(frame(TEXT, sent[:7], fin=False))
            peer.send_raw(frame(CONTINUATION, sent[7:]))
            assert peer.receive() == sent
            end(peer)


def use_terminal(service: Service) -> None:
    with opened(service, "/terminal", "stdio") as peer:
        peer.message()
        peer.send(stdin(b"typed\n"))
        assert peer.output(5).startswith(b"typed")
        end(peer)


def load_pages(service: Service) -> None:
    assert isinstance(service.address, tuple)
    for path in PAGES:
        answer = get(service.address, path, accept="text/html")
        assert answer.status == 200, path
    assert get(service.address, "/ca").status == 404
    page = get(service.address, "/cat", accept="text/html").body
    script = page.partition('src="')[2].partition('"')[0]
    assert get(service.address, script.lstrip(".")).status == 200


def kill_a_worker(service: Service, spared: Peer) -> None:
    """Kill the worker that does not serve this session, and wait for another."""
    workers = service.workers()
    (cat,) = service.applications()
    parent = int(Path(f"/proc/{cat}/stat").read_text().rpartition(")")[2].split()[1])
    (victim,) = {*workers} - {parent}
    os.kill(victim, signal.SIGKILL)
    until(lambda: len({*service.workers()} - {victim}) == 2, "a new worker")
    service.await_workers(2)
    spared.send([1])
    assert spared.output(4) == b"[1]\n"


def test_a_server_needs_no_file_of_its_package(package: Path, tmp_path: Path) -> None:
    with server_of(package, tmp_path) as (service, apps):
        with opened(service, "/cat", "json") as former:
            shutil.rmtree(package)
            kill_a_worker(service, former)
            for name, line in LATER.items():
                (apps / f"{name}.toml").write_text(CAT + line)
            for _ in range(6):
                use_framings(service)
                use_terminal(service)
                load_pages(service)
            service.process.terminate()
            until(service.refuses, "the drain")
            former.send([2])
            assert former.output(4) == b"[2]\n"
            former.send_close()
            assert former.transcript().closed == Closed(1000, "")
        assert service.process.wait(200) == 0
        log = service.log.read_text()
    assert "Error" not in log
