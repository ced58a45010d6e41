"""The listening sockets of --metrics and --agent: of an option, or of systemd."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from chimirror.config import parser
from chimirror.io.listener import Listener, ListenError
from chimirror.server.endpoint_sockets import (
    AGENT,
    METRICS,
    open_endpoint,
    split_by_name,
)


@pytest.fixture
def inherited() -> Iterator[list[Listener]]:
    with ExitStack() as stack:
        listeners = [Listener(socket.create_server(("127.0.0.1", 0))) for _ in range(4)]
        for listener in listeners:
            stack.callback(listener.close)
        yield listeners


@pytest.mark.parametrize(
    ("names", "metrics", "agent"),
    [
        ("", [], []),
        ("metrics", [], []),  # not one for each socket
        ("a.socket:metrics:agent:metrics", [1, 3], [2]),
        ("listening:Metrics::unknown", [], []),
        ("agent:agent:agent:agent", [], [0, 1, 2, 3]),
    ],
)
def test_names_of_sockets(
    inherited: list[Listener], names: str, metrics: list[int], agent: list[int]
) -> None:
    found = split_by_name(inherited, {"LISTEN_FDNAMES": names})
    assert found[METRICS] == [inherited[index] for index in metrics]
    assert found[AGENT] == [inherited[index] for index in agent]
    named = [*found[METRICS], *found[AGENT]]
    assert found[""] == [each for each in inherited if each not in named]


def test_no_sockets() -> None:
    assert split_by_name([], {}) == {METRICS: [], AGENT: [], "": []}


def test_an_option_opens_a_socket(tmp_path: Path) -> None:
    path = tmp_path / "agent"
    config = parser.parse_server([f"--agent=unix:{path}", "--socket-mode=0660", "cat"])
    assert open_endpoint(METRICS, config, []) == []
    (listener,) = open_endpoint(AGENT, config, [])
    try:
        assert listener.address == f"unix:{path}"
        assert path.stat().st_mode & 0o777 == 0o660
    finally:
        listener.remove()


def test_an_option_and_a_socket(inherited: list[Listener]) -> None:
    config = parser.parse_server(["--metrics=127.0.0.1:0", "cat"])
    with pytest.raises(ListenError, match="--metrics was given too"):
        open_endpoint(METRICS, config, inherited)
    assert open_endpoint(AGENT, config, inherited) == inherited
