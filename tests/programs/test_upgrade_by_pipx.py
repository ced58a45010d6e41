"""An upgrade by pipx beside a live session, as chimirror-fleet(7) describes it.

pipx replaces the files of the running server. Its sessions continue, and it accepts new
ones with its version. Then it drains, and a server of the new version listens at the
same port. Sessions of the former server end by themselves.
"""

from __future__ import annotations

import re
import socket
import subprocess
from pathlib import Path

import pytest

import chimirror
import install_commands
from built_packages import build, copy_tree
from install_commands import run, shell
from processes import until
from websocket_peer import Closed, Peer

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(not Path("/etc/debian_version").exists(), reason="no Debian"),
]

index, environment = install_commands.index, install_commands.environment

VERSION = chimirror.__version__
NEXT = f"{VERSION}.1"
SERVER = "exec ~/.local/bin/chimirror-server --drain-timeout 1h"


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The wheels of two versions of this tree."""
    built: dict[str, Path] = {}
    for version in (VERSION, NEXT):
        directory = tmp_path_factory.mktemp("version")
        copy_tree(directory / "tree", version)
        built[version] = build("wheel", directory / "wheel", tree=directory / "tree")
    return built


def port_of(server: subprocess.Popen[str]) -> int:
    """Return the port of a server that starts."""
    assert server.stdout is not None
    for line in server.stdout:
        if found := re.search(r"listening on 127\.0\.0\.1:(\d+)", line):
            return int(found[1])
    raise AssertionError("the server has ended")


def opened(port: int) -> Peer:
    peer = Peer(socket.create_connection(("127.0.0.1", port)))
    assert peer.open().status == 101
    return peer


def echo(peer: Peer) -> None:
    peer.send([1])
    assert peer.output(4) == b"[1]\n"


def end(peer: Peer) -> None:
    peer.send_close()
    assert peer.transcript().closed == Closed(1000, "")


def refuses(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:
        pass
    return False


def version(environment: dict[str, str]) -> str:
    said = run("~/.local/bin/chimirror-server --version", environment)
    return said.splitlines()[0].rpartition(" ")[2]


def offer(environment: dict[str, str], wheel: Path) -> dict[str, str]:
    """Return the environment with another wheel in the index."""
    links = f"{environment['PIP_FIND_LINKS']} {wheel.parent}"
    return environment | {"PIP_FIND_LINKS": links}


@pytest.mark.parametrize("command", ["upgrade chimirror", "install --force {}"])
def test_no_session_is_lost(
    command: str, environment: dict[str, str], wheels: dict[str, Path]
) -> None:
    run("pipx install chimirror", offer(environment, wheels[VERSION]))
    assert version(environment) == VERSION
    with shell(f"{SERVER} --listen 127.0.0.1:0 -- cat", environment) as former:
        port = port_of(former)
        with opened(port) as long:
            upgraded = offer(environment, wheels[NEXT])
            run(f"pipx {command.format(wheels[NEXT])}", upgraded)
            assert version(environment) == NEXT
            echo(long)
            with opened(port) as another:
                echo(another)
                end(another)

            former.terminate()
            until(lambda: refuses(port), "the drain")
            serving = f"{SERVER} --listen 127.0.0.1:{port} -- cat"
            with shell(serving, environment) as following:
                assert port_of(following) == port
                echo(long)
                with opened(port) as another:
                    echo(another)
                    end(another)
                end(long)
                assert former.wait(200) == 0
                following.terminate()
                assert following.wait(200) == 0
