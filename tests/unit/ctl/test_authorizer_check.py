"""The authorizer of a command line: each state of it, with its cure."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from chimirror.ctl import authorizer_check, unit_probe


def probe(where: str) -> dict[str, object]:
    """Return the finding about the authorizer. One about the command follows."""
    words = ["--authorize", where, "cat"]
    found, command = unit_probe.probe("chimirror-server", words)
    assert command["text"] == "cat"
    assert found["about"] == "authorizer"
    return found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
    return tmp_path / "s"


def test_authorizers_that_are_there(path: Path) -> None:
    for where, text in (
        (f"http+unix:{path}", f"it asks http+unix:{path}"),
        ("http://127.0.0.1:9000/x", "it asks http://127.0.0.1:9000/x"),
        ("exec:cat --secret", "it asks exec:cat"),
    ):
        found = probe(where)
        assert (found["text"], "cure" in found) == (text, False)


def test_a_missing_socket(tmp_path: Path) -> None:
    found = probe(f"http+unix:{tmp_path}/none")
    assert found["text"] == f"--authorize: there is no {tmp_path}/none"
    assert found["cure"] == authorizer_check.START_CURE


def test_the_socket_of_the_unit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authorizer_check, "SOCKET", f"{tmp_path}/none")
    found = probe(f"http+unix:{tmp_path}/none")
    assert found["cure"] == "systemctl enable --now chimirror-authorize.socket"


def test_a_socket_for_others(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_, **__: False)
    (found, *_) = unit_probe.probe(
        "chimirror-bridge", ["--authorize", f"http+unix:{path}", "cat"]
    )
    assert found["text"] == f"--authorize: its user may not connect to {path}"
    assert found["cure"] == authorizer_check.MODE_CURE


def test_a_missing_command() -> None:
    found = probe("exec:no-such-command")
    assert "no-such-command" in str(found["text"])
    assert found["cure"] == "chimirror-server(1), --authorize, lists the forms"


def test_no_authorizer() -> None:
    (found,) = unit_probe.probe("chimirror-server", ["cat"])
    assert "about" not in found
