"""Logins through a proxy that asks chimirror-authorize: what must hold for each."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import bcrypt

from authorize_program import basic, http_authorizer, run
from example_proxies import environment
from login_proxies import OPTIONS, Proxy
from serve import Service, server
from websocket_peer import Peer, upgrade

PROGRAM = ["sh", "-c", "env; echo end; exec cat"]
FORGED = ("Remote-User: root", "Remote-Groups: wheel")
KINDS = ("htpasswd", "tokens")


class Place(NamedTuple):
    """A server behind a proxy, with a login.

    Attributes:
        front: the proxy.
        behind: the server.
        login: the Authorization field of the user anna.
        challenge: the scheme that others are asked for.
    """

    front: Service
    behind: Service
    login: str
    challenge: str

    def refusal(self, *fields: str) -> tuple[int, str]:
        """Return the status and the challenge that a client gets."""
        with Peer(self.front.connect()) as peer:
            peer.send_raw(upgrade("/", "stdio", fields))
            reply = peer.head()  # the proxy may keep the connection
            return reply.status, reply.fields.get("www-authenticate", "")


@contextmanager
def serving(directory: Path, proxy: Proxy, kind: str) -> Iterator[Place]:
    """Run authorizer, server and proxy.

    Args:
        directory: of their files.
        proxy: of `login_proxies`.
        kind: of authorizer: htpasswd or tokens.
    """
    file = directory / kind
    if kind == "htpasswd":
        hashed = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
        file.write_text(f"anna:{hashed}\n")
        login, challenge = basic("anna", "secret"), "Basic"
    else:
        login = f"Bearer {run('token', file, 'anna').stdout.strip()}"
        challenge = "Bearer"
    options = ("--framing=stdio", "--trusted-proxy=127.0.0.1", *OPTIONS)
    with (
        http_authorizer(directory, kind, file) as authorizer,
        server(directory, PROGRAM, *options) as behind,
        proxy(directory, behind.port, authorizer.path) as front,
    ):
        yield Place(front, behind, login, challenge)


def check_login(place: Place) -> None:
    """The user reaches the application, and a name that the client forges does not."""
    login = f"Authorization: {place.login}"
    for fields in ((login,), (login, *FORGED), (*FORGED, login)):
        with Peer(place.front.connect()) as peer:
            assert peer.open(framing="stdio", fields=fields).status == 101
            found = environment(peer)
            assert (found["REMOTE_USER"], found["AUTH_TYPE"]) == ("anna", "Proxy")
            assert "REMOTE_GROUPS" not in found
            assert not {"root", "wheel"} & {*found.values()}
            assert place.login not in found.values()


def check_refusals(place: Place) -> None:
    """Other clients get 401 with the challenge, and nothing starts."""
    wrong = f"Authorization: {basic('anna', 'wrong')}"
    for fields in ((), FORGED, (wrong,), (wrong, *FORGED)):
        status, challenge = place.refusal(*fields)
        assert status == 401
        assert challenge.startswith(place.challenge)
    assert not place.behind.applications()
    assert "started" not in place.behind.log.read_text()


def check_the_way_around(place: Place) -> None:
    """A client that reaches the server itself is not believed."""
    address = ("127.0.0.1", place.behind.port)
    connection = socket.create_connection(address, source_address=("127.0.0.2", 0))
    with Peer(connection) as peer:
        peer.send_raw(upgrade("/", "stdio", FORGED))
        assert peer.refusal().status == 401
