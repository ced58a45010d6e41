"""chimirror-server over TLS: renewal, applications, spares, terminals, drain."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest

from control_clients import authorized
from ctl_process import only_this_server
from fake_host import ctl
from metrics_client import OPTIONS as PROBES
from metrics_client import agent, ready
from processes import until
from serve import LAUNCH, ROOT, Service, server
from tls_authority import Authority, authority, stranger
from tls_peers import TLS_1_3, client_context, connect, secure, tls_options
from websocket_peer import Closed, stdin, upgrade

__all__ = ["authority", "stranger"]  # fixtures

OPTIONS = ("--workers=2", "--framing", "stdio")


@pytest.mark.full
def test_renewal_ends_no_session(
    tmp_path: Path, authority: Authority, full: bool
) -> None:
    """Both certificates are in use at once: each session keeps its own."""
    pair = authority.issue("localhost")
    # Each worker looks at the files at its own handshakes.
    options = ("--workers=1", "--framing=stdio", "--tls-cert", str(pair.both))
    context = client_context(authority.ca)
    with server(tmp_path, ["cat"], *options) as service, ExitStack() as stack:
        peers = []

        def open_more(count: int) -> set[str]:
            serials = set()
            for _ in range(count):
                peer = stack.enter_context(secure(service.connect(), context))
                peer.open(framing="stdio")
                peers.append(peer)
                assert isinstance(peer.socket, ssl.SSLSocket)
                found = peer.socket.getpeercert() or {}
                serials.add(str(found["serialNumber"]))
            return serials

        first = open_more(500 if full else 40)
        new = authority.issue("localhost", "new.example").both
        staged = tmp_path / "staged.pem"
        staged.write_bytes(new.read_bytes())
        staged.rename(pair.both)
        second = open_more(8)
        assert len(first) == len(second) == 1
        assert first != second
        pair.both.write_bytes(b"")
        assert open_more(8) == second
        report = "no certificate in PEM is in this file; the certificate before stays"
        lines = service.log.read_text().splitlines()
        assert len([line for line in lines if report in line]) == 1
        for peer in peers:
            peer.send(stdin(b"still here"))
        for peer in peers:
            assert peer.output(10) == b"still here"


def test_replaced_worker_waits_for_usable_files(
    tmp_path: Path, authority: Authority
) -> None:
    """The server gives up after five such deaths of workers for other reasons.

    The log gets a line for each change of the files, not for each try.
    """
    pair = authority.issue("localhost")
    good = pair.both.read_bytes()
    options = ("--workers=1", "--framing=stdio", "--tls-cert", str(pair.both))
    with server(tmp_path, ["echo", "hello"], *options, *PROBES) as service:
        service.await_workers(1)
        pair.both.write_bytes(b"")
        (worker,) = service.workers()
        os.kill(worker, signal.SIGKILL)
        report = "no certificate in PEM is in this file; worker 0 waits for it"
        service.find(report)
        await_tries(service, 6)
        until(lambda: ready(service) == (503, "starting\n"), "a failed probe")
        until(lambda: agent(service) == "ready up 0%\n", "a host without weight")
        pair.both.write_bytes(b"still none")
        service.find(f"(?s){report}.*{report}")
        await_tries(service, 2)
        assert service.log.read_text().count(report) == 2
        pair.both.write_bytes(good)
        with connect(service, authority) as peer:
            peer.open(framing="stdio")
            assert peer.output(1) == b"hello\n"
        until(lambda: ready(service) == (200, "ready\n"), "a probe that succeeds")


def await_tries(service: Service, count: int) -> None:
    """Wait until so many workers more were started in vain.

    They end too soon to be seen. But the supervisor adds up the page faults of its
    ended children: cminflt of proc(5), the eleventh field.
    """
    found: set[int] = set()

    def ask() -> bool:
        fields = Path(f"/proc/{service.pid}/stat").read_text().rpartition(")")[2]
        found.add(int(fields.split()[8]))
        return len(found) > count

    until(ask, f"{count} tries")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda path: path.unlink(), "No such file or directory"),
        (lambda path: path.write_text(""), "no certificate in PEM is in this file"),
    ],
)
def test_faulty_certificate_at_the_start(
    tmp_path: Path, authority: Authority, spoil: object, reason: str
) -> None:
    pair = authority.issue("localhost")
    assert callable(spoil)
    spoil(pair.both)
    for program in ("chimirror.server.main", "chimirror.bridge"):
        found = start(program, "--tls-cert", str(pair.both))
        assert found.returncode == 78, found.stderr
        (line,) = found.stderr.splitlines()
        assert f"{pair.both}: {reason}" in line


def start(program: str, *options: str) -> subprocess.CompletedProcess[str]:
    listen = ("--listen", "127.0.0.1:0") if "server" in program else ()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        return subprocess.run(
            [*LAUNCH, program, *listen, *options, "--", "cat"],
            stdin=theirs.fileno(),
            stdout=theirs.fileno(),
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": ROOT},
            timeout=200,
        )


def test_relative_paths_and_a_directory(tmp_path: Path, authority: Authority) -> None:
    """The directory of the application is not that of the certificate."""
    pair = authority.issue("localhost")
    relative = os.path.relpath(pair.both)
    place = tmp_path / "place"
    place.mkdir()
    options = ("--tls-cert", relative, "--directory", str(place), "--framing=stdio")
    with (
        server(tmp_path, ["pwd"], *options) as service,
        connect(service, authority) as peer,
    ):
        peer.open(framing="stdio")
        assert peer.output(1).decode().strip() == str(place)


def test_application_that_requires_a_certificate(
    tmp_path: Path, authority: Authority
) -> None:
    apps = tmp_path / "apps"
    apps.mkdir()
    command = 'command = ["sh", "-c", "echo $SSL_CLIENT_VERIFY"]\nframing = "stdio"\n'
    (apps / "open.toml").write_text(command)
    (apps / "closed.toml").write_text(f'{command}tls-client = "required"\n')
    clients = ("--tls-client-ca", str(authority.file), "--tls-client", "optional")
    options = ("--apps", str(apps), *tls_options(authority, *clients))
    alice = str(authority.issue("alice@example.org").both)
    with server(tmp_path, [], *options) as service:
        for name, certificate, verified in (
            ("open", "", b"NONE\n"),
            ("open", alice, b"SUCCESS\n"),
            ("closed", alice, b"SUCCESS\n"),
        ):
            with connect(service, authority, None, certificate) as peer:
                peer.open(f"/{name}", framing="stdio")
                assert peer.output(1) == verified
        with connect(service, authority) as peer:
            peer.send_raw(upgrade("/closed", "stdio", ()))
            reply = peer.refusal()
            assert reply.status == 403
            assert b"needs a client certificate" in reply.body


def test_environment_of_a_spare(tmp_path: Path, authority: Authority) -> None:
    """It started before the handshake, and is told over its control channel."""
    program = tmp_path / "app.py"
    program.write_text(
        "import json, os, sys\n"
        "channel = os.fdopen(int(os.environ['CHIMIRROR_CONTROL_FD']), 'r+b', 0)\n"
        "for line in channel:\n"
        "    found = json.loads(line)\n"
        "    if found.get('method') == 'session.environment':\n"
        "        print(json.dumps(found['params']), flush=True)\n"
    )
    options = (*tls_options(authority), "--spares=1", "--control", *OPTIONS)
    with (
        server(tmp_path, ["python3", str(program)], *options) as service,
        connect(service, authority, TLS_1_3) as peer,
    ):
        peer.open(framing="stdio")
        found = peer.output(1).decode()
        assert '"HTTPS": "on"' in found
        assert '"SSL_PROTOCOL": "TLSv1.3"' in found


def test_control_and_limits(
    tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control connection is encrypted too, and a full server says so."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    context = client_context(authority.ca)

    def connect_securely() -> socket.socket:
        return context.wrap_socket(service.connect(), server_hostname="localhost")

    options = (*tls_options(authority), "--max-sessions=1", *OPTIONS)
    with (
        server(tmp_path, ["cat"], *options) as service,
        connect(service, authority) as peer,
    ):
        peer.open(framing="stdio")
        with authorized(connect_securely, peer.message()) as client:
            paused = client.ask("pause", streams=["stdin"])
            assert paused["paused"] == ["stdin"]
            client.ask("resume", streams=["stdin"])
        with connect(service, authority) as second:
            second.send_raw(upgrade("/", "stdio", ()))
            assert second.refusal().status == 503
        peer.send_close()
        assert peer.transcript().closed == Closed(1000, "")


def test_drain_and_terminal(
    tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    options = (*tls_options(authority), "--pty", "--drain-timeout=0", *OPTIONS)
    show = ["sh", "-c", "tty >/dev/null && echo terminal; exec cat"]
    with server(tmp_path, show, *options) as service:
        host = only_this_server(tmp_path, service)
        with connect(service, authority) as peer:
            peer.open(framing="stdio")
            assert peer.output(1) == b"terminal\r\n"
            listed = ctl(host, "sessions")
            assert "127.0.0.1" in listed.text
            service.process.terminate()
            assert peer.transcript().closed == Closed(1001, "drain")
