"""chimirror-ctl manifest: the same output as a server gives."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

import asyncapi_validator
from chimirror.ctl import main
from chimirror.ctl.messages import CommandError
from chimirror.ctl.output import OutputWriter
from chimirror.ctl.paths import HostPaths
from resource_requests import CATALOG, ControllableContext, get

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
    """Return the output on a machine with these applications."""
    host = HostPaths((), etc=str(apps.parent.parent))
    assert main.run(["manifest", *words], host, OutputWriter()) == os.EX_OK
    return capfdbinary.readouterr().out


def test_equals_the_output_of_a_server(
    apps: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    printed = run(apps, capfdbinary, "game", "--url", "ws://localhost:30747")
    answered = get(
        "/game/asyncapi.json", "--apps", str(apps), context_type=ControllableContext
    )
    assert printed == answered.body
    assert b"\x7f" not in printed
    listed = run(apps, capfdbinary, "--apps", str(apps))
    assert listed == get(CATALOG, "--apps", str(apps)).body
    assert [each["name"] for each in json.loads(listed)["applications"]] == ["game"]


def test_applications_of_users_have_a_manifest(
    apps: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    (apps / "mine.toml").write_text('command = ["cat"]\nusers = ["ann"]\n')
    assert json.loads(run(apps, capfdbinary, "mine"))["info"]["title"] == "mine"


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
        asyncapi_validator.check(document)


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["nobody"], os.EX_NOINPUT, "there is no application nobody in {apps}"),
        (["../game"], os.EX_NOINPUT, "there is no application ../game in {apps}"),
        (["broken"], os.EX_CONFIG, '{apps}/broken.toml:2: "morse" is not a framing;'),
        (
            ["--url", "http://a"],
            os.EX_USAGE,
            '--url: "http://a" is not the URL of a server;',
        ),
        (["--url", "ws://"], os.EX_USAGE, "write wss://play.example"),
        (["--url", "ws://u@a"], os.EX_USAGE, "write wss://play.example"),
        (["--url", "ws://a/b?c"], os.EX_USAGE, "write wss://play.example"),
        (["--apps", ""], os.EX_USAGE, '--apps: "" is no path'),
    ],
)
def test_errors(apps: Path, words: list[str], status: int, message: str) -> None:
    host = HostPaths((), etc=str(apps.parent.parent))
    with pytest.raises(CommandError) as caught:
        main.run(["manifest", *words], host, OutputWriter())
    assert caught.value.status == status
    assert message.format(apps=apps) in str(caught.value)


def test_no_applications(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        main.run(["manifest"], HostPaths((), etc=str(tmp_path)), OutputWriter())
