"""Tests the examples of websocketd behind websocketd and behind the framing `lines`.

A client receives the same from both. This file lists the exceptions and their reasons.
"""

from __future__ import annotations

import re
import shlex
import sys
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

from processes import MARK, kill_processes, until
from serve import Service, await_port, reserved, running, server
from websocket_peer import PATIENCE

EXAMPLES = Path("/usr/share/doc/websocketd/examples")
LANGUAGES = {
    "bash": ("bash", "sh"),
    "nodejs": ("node", "js"),
    "perl": ("perl", "pl"),
    "python": (sys.executable, "py"),
}
PASSED = "HTTP_COOKIE,HTTP_AUTHORIZATION"


def command(directory: Path) -> list[str]:
    """Return one program for all examples: the request path names the one to run."""
    assert EXAMPLES.is_dir(), "websocketd was installed without its documentation"
    cases = "".join(
        f"/{name}/*.{ending}*) exec {program} {EXAMPLES}/${{PATH_INFO%.{ending}*}}"
        f".{ending};;\n"
        for name, (program, ending) in LANGUAGES.items()
    )
    script = f"cd {shlex.quote(str(directory))}\ncase $PATH_INFO in\n{cases}esac"
    return ["/bin/sh", "-c", script]


@contextmanager
def theirs(directory: Path) -> Iterator[Service]:
    mark = uuid.uuid4().hex
    with reserved() as port:
        argv = ["websocketd", "--address=127.0.0.1", f"--port={port}"]
        argv += [f"--passenv=PATH,{MARK}", *command(directory)]
        with running(directory, argv, mark) as service:
            await_port(service, port)
            yield service
            kill_processes(
                service.applications()
            )  # ends the process that it has started


@pytest.fixture
def services(tmp_path: Path) -> Iterator[list[Service]]:
    """Run websocketd and chimirror. In chimirror no process outlives its client."""
    options = ("--framing=lines", "--stop-grace=100ms", f"--pass-env={PASSED}")
    with (
        theirs(tmp_path) as one,
        server(tmp_path, command(tmp_path), *options) as other,
    ):
        yield [one, other]
        until(lambda: not other.applications(), "all are gone")


@contextmanager
def visiting(
    service: Service, example: str, **given: str
) -> Iterator[ClientConnection]:
    fields = [(name.replace("_", "-"), value) for name, value in given.items()]
    origin = Origin(f"http://127.0.0.1:{service.port}")
    url = f"ws://127.0.0.1:{service.port}/{example}"
    with connect(url, origin=origin, additional_headers=fields, proxy=None) as link:
        yield link


def named(example: str) -> list[str]:
    return [f"{name}/{example}.{ending}" for name, (_, ending) in LANGUAGES.items()]


def hear(link: ClientConnection) -> str:
    message = link.recv(PATIENCE)
    assert isinstance(message, str)
    return message


def hear_all(link: ClientConnection) -> list[str]:
    messages = []
    try:
        while True:
            messages.append(hear(link))
    except ConnectionClosed:
        return messages


def test_count(services: list[Service]) -> None:
    """All run at the same time because each takes five seconds.

    websocketd ends the connection without a close frame, chimirror sends the exit
    status.
    """

    def count(service: Service, example: str) -> tuple[list[str], int | None]:
        with visiting(service, example) as link:
            return hear_all(link), link.close_code

    visits = [(service, each) for service in services for each in named("count")]
    with ThreadPoolExecutor(len(visits)) as pool:
        found = list(pool.map(count, *zip(*visits, strict=True)))
    counted = [str(number) for number in range(1, 11)]
    half = len(LANGUAGES)
    assert found == [(counted, 1006)] * half + [(counted, 1000)] * half


@pytest.mark.parametrize("example", named("greeter"))
def test_greeter(services: list[Service], example: str) -> None:
    words = [
        "World",
        "",
        "  spaces  ",
        '"quotes"',
        "back\\slash",
        "Grüße 😀",
        "x" * 9000,
    ]
    told: list[list[str]] = [[], []]
    for service, answers in zip(services, told, strict=True):
        with visiting(service, example) as link:
            for word in words:
                link.send(word)
                answers.append(hear(link))
    assert told[0] == told[1]
    assert "World" in told[0][0]
    assert "Grüße 😀" in told[0][5]


UNSET = ("", "<unset>")
# Variable, its value in websocketd, its value in chimirror.
DIFFERENCES = {
    # "CGI/" and a version (RFC 3875, 4.1.4).
    "GATEWAY_INTERFACE": ("websocketd-CGI/0.1", "CGI/1.1"),
    "SERVER_SOFTWARE": ("websocketd", "chimirror"),
    # The request path is SCRIPT_NAME followed by PATH_INFO (4.1.5).
    "SCRIPT_NAME": ("/", None),
    # There is no document root, and host names are not looked up.
    "PATH_TRANSLATED": ("PATH", None),
    "REMOTE_HOST": ("127.0.0.1", None),
    "UNIQUE_ID": ("NUMBER", None),  # in chimirror, CHIMIRROR_SESSION
    "HTTP_HOST": (None, "127.0.0.1:PORT"),
}


@pytest.mark.parametrize("language", ["bash", "perl", "python"])
def test_dump_env(services: list[Service], language: str) -> None:
    path = f"{language}/dump-env.{LANGUAGES[language][1]}/more%20path"
    dumped = []
    for service in services:
        target, fields = f"{path}?q=1&x=%41", {"Cookie": "a=b", "X_Own": "1, 2"}
        with visiting(service, target, Authorization="Basic YQ==", **fields) as link:
            lines = dict(line.split("=", 1) for line in hear_all(link))
        # Some examples do not distinguish empty from missing variables.
        found = {name: lines[name] for name in lines if lines[name] not in UNSET}
        dumped.append({name: plain(service, found, name) for name in found})
    one, other = dumped
    assert {
        name: (one.get(name), other.get(name))
        for name in {**one, **other}
        if one.get(name) != other.get(name)
    } == DIFFERENCES
    assert other["PATH_INFO"] == f"/{path}".replace("%20", " ")
    assert other["HTTP_COOKIE"] == "a=b"
    assert other["REQUEST_METHOD"] == "GET"


def plain(service: Service, found: dict[str, str], name: str) -> str:
    """Return the value without the parts that vary by connection or version."""
    value = found[name]
    if name in {"SERVER_SOFTWARE", "REMOTE_PORT", "HTTP_SEC_WEBSOCKET_KEY"}:
        return value.partition("/")[0] if name == "SERVER_SOFTWARE" else ""
    if name == "PATH_TRANSLATED" and value == found["PATH_INFO"]:
        return "PATH"
    value = value.replace(str(service.port), "PORT")
    return re.sub(r"^\d{9,}$", "NUMBER", value)


def test_chat(services: list[Service]) -> None:
    """Each client has two processes, and one reads the messages that another writes."""
    heard = []
    for service in services:
        with (
            visiting(service, "bash/chat.sh") as alice,
            visiting(service, "bash/chat.sh") as bob,
        ):
            said = [hear(alice), hear(bob)]
            for link, name in ((alice, "alice"), (bob, "bob")):
                link.send(name)
                said.append(undated(hear(link)))
            alice.send("to nobody but bob")
            said.append(undated(spoken_to(alice, bob)))
        heard.append(said)
    assert heard[0] == heard[1]
    assert heard[0][2:] == [
        "[] Welcome to the chat alice!",
        "[] Welcome to the chat bob!",
        "[] bob> Anybody here?",
    ]


def spoken_to(alice: ClientConnection, bob: ClientConnection) -> str:
    """Messages of the other client. `tail` may start after the first of them."""
    messages: list[str] = []

    def ask() -> bool:
        bob.send("Anybody here?")
        try:
            messages.append(str(alice.recv(0.05)))
        except TimeoutError:
            return False
        return "bob>" in messages[-1]

    until(ask, "bob is heard")
    return messages[-1]


def undated(message: str) -> str:
    return re.sub(r"\[.*\]", "[]", message)


def test_send_receive(services: list[Service]) -> None:
    """It writes at random times, but the first time at once."""
    for service in services:
        with visiting(service, "bash/send-receive.sh") as link:
            assert re.fullmatch(
                r".*\d\d:\d\d:\d\d.* \(0 line\(s\) received\)", hear(link)
            )
