"""chimirror-authorize.service, as chimirror-systemd(7), Sx Authorizer, sets it up.

The drop-ins and files are those of the page. PAM is that of the machine.
"""

from __future__ import annotations

import http.client
import re
import socket
from collections.abc import Iterator
from importlib.metadata import distribution

import pytest

from authorize_program import basic
from machine_sessions import SERVER_PORT, serve_many
from systemd_machine import PORT, ROOT, Machine
from websocket_peer import Peer

pytestmark = pytest.mark.timeout(300)

SERVICE = "chimirror-authorize.service"
SOCKET = "/run/chimirror/authorize"
PASSWORD = "pä:ss wörd"
LIBRARIES = ("pamela",)
BLOCK = re.compile(r"^\.Bd -literal.*?\n(.*?)^\.Ed$", re.MULTILINE | re.DOTALL)
CONNECT = f"import socket; socket.socket(socket.AF_UNIX).connect('{SOCKET}')"


def block(mark: str) -> list[str]:
    """Return the lines of the block of the page that contains a text."""
    text = (ROOT / "man" / "chimirror-systemd.7").read_text()
    section = text.split(".Ss Authorizer\n")[1].split("\n.Ss ")[0]
    blocks: list[str] = BLOCK.findall(section)
    (found,) = (each for each in blocks if mark in each)
    return found.splitlines()


def root_settings() -> list[str]:
    """Return the settings of the page for hosts without a group for /etc/shadow."""
    text = (ROOT / "man" / "chimirror-systemd.7").read_text()
    sentence = text.split("Where no group may read that file")[1].split("\n.Bd")[0]
    found = re.findall(r"^\.Li (\w+=\S+)", sentence, re.MULTILINE)
    assert len(found) == 3
    return found


@pytest.fixture
def authorized(machine: Machine) -> Iterator[Machine]:
    """A machine with the libraries of the extra."""
    (site,) = machine.path("/opt/chimirror/lib").glob("python3*/site-packages")
    for name in LIBRARIES:
        for file in distribution(name).files or ():
            if "__pycache__" not in file.parts:
                target = site / str(file)
                target.parent.mkdir(exist_ok=True)
                target.write_bytes(file.read_binary())
    machine.do("systemctl", "start", "chimirror-authorize.socket")
    yield machine
    machine.do("systemctl", "stop", "chimirror-authorize.socket", SERVICE)


def configure(machine: Machine, arguments: str) -> None:
    machine.configure("/usr/bin/cat", CHIMIRROR_AUTHORIZE=arguments)


def ask(machine: Machine, authorization: str) -> http.client.HTTPResponse:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(100)
        connection.connect(str(machine.path(SOCKET)))
        caller = http.client.HTTPConnection("localhost")
        caller.sock = connection
        caller.request("GET", "/", headers={"Authorization": authorization})
        response = caller.getresponse()
        response.read()
        return response


def test_tokens_of_a_file(authorized: Machine) -> None:
    path = "/etc/chimirror/tokens"
    configure(authorized, f"tokens {path}")
    authorized.write(path, "")
    token = authorized.do("chimirror-authorize", "token", path, "ann").strip()
    authorized.do("chgrp", "chimirror-authorize", path)
    authorized.do("chmod", "640", path)
    response = ask(authorized, f"Bearer {token}")
    assert (response.status, response.headers["Remote-User"]) == (200, "ann")
    assert ask(authorized, f"Bearer {token}x").status == 401
    # A change counts at once, in the sandbox too.
    authorized.do("sh", "-c", f": > {path}")
    assert ask(authorized, f"Bearer {token}").status == 401
    assert token not in "".join(map(str, authorized.journal(_SYSTEMD_UNIT=SERVICE)))


def test_passwords_of_the_machine(authorized: Machine) -> None:
    configure(authorized, "pam chimirror")
    path, *service = block("/etc/pam.d")
    authorized.write(path.removeprefix("# "), "\n".join(service) + "\n")
    authorized.do("useradd", "--groups", "audio", "ann")
    authorized.do("chpasswd", stdin=f"ann:{PASSWORD}\n")
    try:
        authorized.drop_in(SERVICE, "Service", *block("shadow")[2:])
        response = ask(authorized, basic("ann", PASSWORD))
        assert (response.status, response.headers["Remote-User"]) == (200, "ann")
        assert response.headers["Remote-Groups"] == "ann,audio"
        assert ask(authorized, basic("ann", "wrong")).status == 401
        assert ask(authorized, basic("root", "wrong")).status == 401
        # Without the group, PAM cannot tell, and the journal has the cure.
        authorized.drop_in(SERVICE, "Service", "SupplementaryGroups=")
        authorized.do("systemctl", "restart", SERVICE)
        assert ask(authorized, basic("ann", PASSWORD)).status == 503
        (text,) = [
            entry["MESSAGE"]
            for entry in authorized.journal(_SYSTEMD_UNIT=SERVICE)
            if "PAM, chimirror: " in entry["MESSAGE"]
        ]
        assert "or the group that may read /etc/shadow" in text
        # The settings for hosts on which no group may.
        authorized.do("chmod", "0", "/etc/shadow")
        authorized.drop_in(SERVICE, "Service", *root_settings())
        authorized.do("systemctl", "restart", SERVICE)
        assert ask(authorized, basic("ann", PASSWORD)).status == 200
    finally:
        authorized.do("chmod", "640", "/etc/shadow")
        authorized.do("userdel", "--remove", "ann")


@pytest.mark.parametrize("port", [PORT, SERVER_PORT])
def test_sessions_of_a_home_server(authorized: Machine, port: int) -> None:
    """The setting of the page, with tokens instead of passwords."""
    ask_first, _ = block("--authorize")
    options = ask_first.removeprefix("CHIMIRROR_OPTIONS=")
    serve_many(authorized)
    path = "/etc/chimirror/tokens"
    print_user = "/usr/bin/printenv REMOTE_USER"
    authorized.configure(
        print_user, options=options, CHIMIRROR_AUTHORIZE=f"tokens {path}"
    )
    authorized.write(path, "")
    authorized.path(path).chmod(0o644)
    token = authorized.do("chimirror-authorize", "token", path, "ann").strip()
    for field, status in ((f"Bearer {token}", 101), ("Bearer x", 401)):
        with Peer(authorized.connect(port)) as peer:
            reply = peer.open(fields=(f"Authorization: {field}",))
            assert reply.status == status
            if status == 101:
                assert peer.output(4) == b"ann\n"
            else:
                assert reply.fields["www-authenticate"].startswith("Bearer ")
    assert token not in authorized.do("journalctl", "--no-pager", "--output=export")


def test_only_servers_may_ask(authorized: Machine) -> None:
    def connects(user: str, group: str) -> bool:
        return not authorized.run(
            *("setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups"),
            *("python3", "-c", CONNECT),
        ).returncode

    assert connects("chimirror-server", "chimirror-server")
    assert connects("nobody", "chimirror")
    assert not connects("nobody", "nogroup")
    assert not connects("chimirror-authorize", "chimirror-authorize")


def test_settings_for_the_network_are_accepted(authorized: Machine) -> None:
    configure(authorized, "tokens /etc/chimirror/tokens")
    authorized.write("/etc/chimirror/tokens", "")
    authorized.path("/etc/chimirror/tokens").chmod(0o644)
    authorized.drop_in(SERVICE, "Service", *block("PrivateNetwork=no")[2:])
    assert ask(authorized, "Bearer x").status == 401
