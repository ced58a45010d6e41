"""chimirror-ctl manifest: what a server would say, without one."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

import asyncapi
from chimirror.ctl import main
from chimirror.ctl.failure import Failure
from chimirror.ctl.host import Host
from chimirror.ctl.table import Output
from test_exhibit import CATALOG, Steerable, get

GAME = """
command = ["game"]
framing = ["lines", "stdio"]
[interface]
title = "Animals \\u007f"
"""


@pytest.fixture
def apps(tmp_path: Path) -> Path:
    found = tmp_path / "chimirror" / "apps"
    found.mkdir(parents=True)
    (found / "game.toml").write_text(GAME)
    (found / "broken.toml").write_text('command = ["x"]\nframing = "morse"\n')
    return found


def run(apps: Path, capfdbinary: pytest.CaptureFixture[bytes], *words: str) -> bytes:
    """What is printed on a machine whose applications are there."""
    host = Host((), etc=str(apps.parent.parent))
    assert main.run(["manifest", *words], host, Output()) == os.EX_OK
    return capfdbinary.readouterr().out


def test_the_same_as_a_server(
    apps: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    printed = run(apps, capfdbinary, "game", "--url", "ws://localhost:30747")
    answered = get("/game/asyncapi.json", "--apps", str(apps), kind=Steerable)
    assert printed == answered.body
    assert b"\x7f" not in printed
    listed = run(apps, capfdbinary, "--apps", str(apps))
    assert listed == get(CATALOG, "--apps", str(apps)).body
    assert [each["name"] for each in json.loads(listed)["applications"]] == ["game"]


def test_the_server_is_named(
    apps: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert "servers" not in json.loads(run(apps, capfdbinary, "game"))
    for url, server in {
        "wss://play.example": {"host": "play.example", "protocol": "wss"},
        "ws://[::1]:80/below/": {
            "host": "[::1]:80",
            "protocol": "ws",
            "pathname": "/below",
        },
    }.items():
        document = json.loads(run(apps, capfdbinary, "game", "--url", url))
        assert document["servers"] == {"here": server}
        asyncapi.check(document)


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        (["nobody"], os.EX_NOINPUT, "there is no application nobody in {apps}"),
        (["../game"], os.EX_NOINPUT, "there is no application ../game in {apps}"),
        (["broken"], os.EX_CONFIG, '{apps}/broken.toml:2: "morse" is not a framing;'),
        (["--url", "http://a"], os.EX_USAGE, '--url: "http://a" is none of a server;'),
        (["--url", "ws://"], os.EX_USAGE, "write wss://play.example"),
        (["--url", "ws://u@a"], os.EX_USAGE, "write wss://play.example"),
        (["--url", "ws://a/b?c"], os.EX_USAGE, "write wss://play.example"),
        (["--apps", ""], os.EX_USAGE, '--apps: "" is no path'),
    ],
)
def test_what_cannot_be(apps: Path, words: list[str], status: int, told: str) -> None:
    host = Host((), etc=str(apps.parent.parent))
    with pytest.raises(Failure) as caught:
        main.run(["manifest", *words], host, Output())
    assert caught.value.status == status
    assert told.format(apps=apps) in str(caught.value)


def test_no_applications(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        main.run(["manifest"], Host((), etc=str(tmp_path)), Output())
