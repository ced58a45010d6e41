"""Sources of identity in the real programs: served clients, and their names.

Authorizers are tested in test_authorizers.py, real proxies in test_access_proxies.py.
"""

from __future__ import annotations

import json
import os
import pwd
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from chimirror.client.blocking import connect as connect_client
from control_clients import authorized, outcome, request
from processes import let_others_in
from serve import Bridge, server, server_unix
from tls_authority import Authority, authority
from tls_peers import client_context, secure, tls_options
from websocket_peer import Closed, Peer, text, upgrade

__all__ = ["authority"]

SHOW = ["sh", "-c", "env | grep -E '^(REMOTE_(USER|GROUPS)|AUTH_TYPE)=' | sort"]
PROXY = ("--user-header", "Remote-User", "--trusted-proxy", "127.0.0.1")
LINES = ("--framing", "lines,stdio,json")
USER = pwd.getpwuid(os.geteuid()).pw_name


def learned(peer: Peer, *fields: str) -> list[str]:
    """Return the output of the application, or `refused STATUS` for a refusal."""
    with peer:
        reply = peer.open(framing="lines", fields=fields)
        if reply.status != 101:
            return [f"refused {reply.status}"]
        lines = []
        while not isinstance(line := peer.receive(), Closed):
            lines.append(line.decode())
        return lines


def named(user: str, auth_type: str, groups: str = "") -> list[str]:
    found = [f"AUTH_TYPE={auth_type}"]
    found += [f"REMOTE_GROUPS={groups}"] if groups else []
    return [*found, f"REMOTE_USER={user}"]


NOBODY = """
import os, socket, sys
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
client = socket.socket(socket.AF_UNIX)
client.connect(sys.argv[1])
client.sendall(sys.stdin.buffer.read())
print(client.recv(12).decode())
"""


def as_nobody(path: str, request: bytes) -> str:
    """Send a request as another user of this machine. Returns the first bytes."""
    argv = [sys.executable, "-c", NOBODY, path]
    done = subprocess.run(argv, input=request, stdout=subprocess.PIPE, check=True)
    return done.stdout.decode()


def test_a_proxy_names_the_user(tmp_path: Path) -> None:
    options = (*PROXY, "--groups-header", "X-Groups", *LINES)
    fields = ("Remote-User: ann", "X-Groups: staff, ops")
    with server(tmp_path, SHOW, *options) as service:
        found = learned(Peer(service.connect()), *fields)
        assert found == named("ann", "Proxy", "staff,ops")
        assert learned(Peer(service.connect())) == ["refused 401"]
        stranger = socket.create_connection(
            ("127.0.0.1", service.port), source_address=("127.0.0.2", 0)
        )
        assert learned(Peer(stranger), *fields) == ["refused 401"]
    with Bridge(SHOW, *options, tcp=True) as bridge:
        found = learned(Peer(bridge.socket), *fields)
        assert found == named("ann", "Proxy", "staff,ops")


@pytest.mark.parametrize("option", ["--allow-uid", "--allow-gid"])
def test_the_kernel_names_the_local_user(tmp_path: Path, option: str) -> None:
    own = os.geteuid() if option == "--allow-uid" else os.getegid()
    options = (option, str(own), "--socket-mode", "0666", *LINES)
    with server_unix(tmp_path, SHOW, *options) as service:
        auth_type, groups, user = learned(Peer(service.connect()))
        assert [auth_type, user] == named(USER, "Local")
        assert groups.startswith("REMOTE_GROUPS=")
        let_others_in(tmp_path)
        request = upgrade("/", "lines", ())
        assert as_nobody(str(service.address), request) == "HTTP/1.1 403\n"
        service.find("(the local user nobody is not allowed here)")
    with Bridge(SHOW, option, "4242", *LINES) as bridge:
        assert learned(Peer(bridge.socket)) == ["refused 403"]


def test_a_certificate_names_the_user(authority: Authority, tmp_path: Path) -> None:
    mine = authority.issue("ann@example.org")
    options = tls_options(
        authority,
        *("--tls-client-ca", str(authority.file), "--tls-client", "optional"),
        *("--user-certificate", "email", *LINES),
    )
    with server(tmp_path, SHOW, *options) as service:
        context = client_context(authority.ca, certificate=str(mine.both))
        found = learned(secure(service.connect(), context))
        assert found == named("ann@example.org", "Certificate")
        context = client_context(authority.ca)
        assert learned(secure(service.connect(), context)) == ["refused 401"]


def test_two_sources_are_required(authority: Authority, tmp_path: Path) -> None:
    mine = authority.issue("laptop.example.org")
    options = tls_options(
        authority,
        *("--tls-client-ca", str(authority.file), *PROXY, *LINES),
        *("--user-certificate", "dns", "--require", "certificate,proxy"),
    )
    with server(tmp_path, SHOW, *options) as service:
        context = client_context(authority.ca, certificate=str(mine.both))
        peer = secure(service.connect(), context)
        assert learned(peer, "Remote-User: ann") == named("ann", "Proxy")
        assert learned(secure(service.connect(), context)) == ["refused 401"]


@pytest.fixture
def files(tmp_path: Path) -> Path:
    directory = tmp_path / "apps"
    directory.mkdir()
    for name, line in {
        "all": "",
        "anns": 'users = ["ann"]',
        "staffs": 'groups = ["staff"]',
    }.items():
        text = f"command = {json.dumps(SHOW)}\nframing = 'lines'\n{line}\n"
        (directory / f"{name}.toml").write_text(text)
    return directory


def ask(peer: Peer, target: str, *fields: str) -> tuple[int, bytes]:
    with peer:
        lines = [f"GET {target} HTTP/1.1", "Host: localhost", *fields, "", ""]
        peer.send_raw("\r\n".join(lines).encode())
        reply = peer.refusal()
        return reply.status, reply.body


def test_files_say_who_may_use_an_application(tmp_path: Path, files: Path) -> None:
    options = (*PROXY, "--groups-header", "X-Groups", "--allow-anonymous")
    with server(tmp_path, [], "--apps", str(files), *options) as service:
        users = {
            ("Remote-User: ann",): ["all", "anns"],
            ("Remote-User: bob", "X-Groups: staff"): ["all", "staffs"],
            (): ["all"],
        }
        for fields, names in users.items():
            status, body = ask(
                Peer(service.connect()), "/.well-known/chimirror", *fields
            )
            shown = [each["name"] for each in json.loads(body)["applications"]]
            assert (status, shown) == (200, names)
            for name in ("all", "anns", "staffs"):
                wanted = 101 if name in names else 403 if fields else 401
                with Peer(service.connect()) as peer:
                    reply = peer.open(f"/{name}", framing="lines", fields=fields)
                    assert reply.status == wanted, (name, fields)
                manifest = f"/{name}/asyncapi.json"
                status, _ = ask(Peer(service.connect()), manifest, *fields)
                assert status == (200 if wanted == 101 else wanted)
        # a change counts from the next connection
        (files / "anns.toml").write_text("command = ['cat']\nusers = 'bob'\n")
        with Peer(service.connect()) as peer:
            reply = peer.open("/anns", framing="json", fields=("Remote-User: ann",))
            assert reply.status == 403


def test_a_page_of_another_origin_cannot_use_a_login(tmp_path: Path) -> None:
    """A browser would send its cookie, so the Origin is checked first."""
    with server(tmp_path, SHOW, *PROXY, *LINES) as service:
        fields = ("Origin: https://evil.example", "Cookie: session=ann")
        with Peer(service.connect()) as peer:
            reply = peer.open(fields=(*fields, "Remote-User: ann"))
            assert reply.status == 403
        service.find('("CHIMIRROR_CAUSE":"origin")')


def test_sessions_are_controlled_by_their_user_alone(tmp_path: Path) -> None:
    with (
        server(tmp_path, ["cat"], *PROXY, "--workers", "2") as service,
        Peer(service.connect()) as peer,
    ):
        assert peer.open(framing="stdio", fields=("Remote-User: ann",)).status == 101
        hello = peer.message()
        credentials = {"session": hello["id"], "secret": hello["secret"]}
        for user in ("bob", "ann"):
            with Peer(service.connect()) as control:
                fields = (f"Remote-User: {user}",)
                assert control.open(framing="control", fields=fields).status == 101
                control.send_raw(text(request("authorize", **credentials)))
                answer = outcome(control.message())
                assert (answer == {}) is (user == "ann"), answer
        with pytest.raises(AssertionError):
            authorized(service.connect, hello)  # no name at all


def test_a_spare_learns_its_user_by_control(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import os, sys\n"
        "channel = open(int(os.environ['CHIMIRROR_CONTROL_FD']), 'rb')\n"
        "print(channel.readline().decode(), end='', flush=True)\n"
    )
    options = (*PROXY, "--spares", "1", "--control", *LINES)
    with server(tmp_path, ["python3", str(program)], *options) as service:
        [line] = learned(Peer(service.connect()), "Remote-User: ann")
        message = json.loads(line)
        assert message["method"] == "session.environment"
        variables = message["params"]
        assert variables["REMOTE_USER"] == "ann"
        assert variables["AUTH_TYPE"] == "Proxy"


def test_limits_of_each_user(tmp_path: Path) -> None:
    options = (*PROXY, "--max-sessions-per-user", "1", "--workers", "2")
    with server(tmp_path, ["cat"], *options) as service:

        def status(user: str, peer: Peer) -> int:
            return peer.open(fields=(f"Remote-User: {user}",)).status

        with Peer(service.connect()) as one:
            assert status("ann", one) == 101
            with Peer(service.connect()) as two:
                assert status("ann", two) == 503
            with Peer(service.connect()) as three:
                assert status("bob", three) == 101


def test_a_library_tells_what_is_missing(tmp_path: Path) -> None:
    with server(tmp_path, ["cat"], *PROXY) as service:
        url = f"ws://127.0.0.1:{service.port}/"
        with pytest.raises(Exception, match="has to know who you are"):
            connect_client(url)
        with connect_client(url, headers={"Remote-User": "ann"}) as session:
            session.end_input()
            assert session.wait().code == 0
