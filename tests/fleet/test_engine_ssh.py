"""Tests examples/engines/ssh.toml: each session is a connection to an sshd on loopback.

The server of ssh marks all processes of its logins by a variable, and gives them a home
without files: a shell may run long ones there.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from engine_sessions import (
    CHECKS,
    GAME,
    STUBBORN,
    Engine,
    Serving,
    application_file,
    await_nothing,
    join,
    serve_here,
)
from processes import MARK, comm, descendants, listening, marked, read, until
from serve import reserved
from websocket_peer import Closed

# Each check runs on a busy machine too.
pytestmark = pytest.mark.timeout(900)

SSHD = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {directory}/host
AuthorizedKeysFile {directory}/user.pub
PidFile none
StrictModes no
UsePAM no
PermitRootLogin prohibit-password
MaxStartups 1000
SetEnv {MARK}={mark} HOME={directory}
"""
CLIENT = """\
Host games
    HostName 127.0.0.1
    Port {port}
    IdentityFile {directory}/user
    UserKnownHostsFile {directory}/known
    LogLevel ERROR
"""


class Ssh:
    """An sshd with its own keys, and a configuration of its clients."""

    name = "ssh"

    def __init__(self, directory: Path, port: int) -> None:
        self.directory = directory
        self.mark = uuid.uuid4().hex
        for key in ("host", "user"):
            file = directory / key
            keygen = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(file)]
            subprocess.run(keygen, check=True)
        public = (directory / "host.pub").read_text()
        (directory / "known").write_text(f"[127.0.0.1]:{port} {public}")
        values = {"port": port, "directory": directory, "MARK": MARK, "mark": self.mark}
        (directory / "sshd_config").write_text(SSHD.format(**values))
        (directory / "ssh_config").write_text(CLIENT.format(**values))
        game = directory / "game"
        game.write_text(GAME)
        game.chmod(0o755)
        config = f'"-F", "{directory}/ssh_config", "games"'
        words = {"games.example.org": config, "game": f'"{game}"'}
        self.apps = application_file(directory / "apps", self.name, words)
        Path("/run/sshd").mkdir(exist_ok=True)  # required by sshd
        argv = ["/usr/sbin/sshd", "-D", "-e", "-f", str(directory / "sshd_config")]
        with (directory / "log").open("wb") as log:
            self.process = subprocess.Popen(argv, stderr=log)

    def serve(self, *options: str) -> AbstractContextManager[Serving]:
        return serve_here(self.directory, self.apps, *options)

    def remaining(self) -> list[str]:
        """Return the connections of which a process is left."""
        found = set()
        for pid in marked(self.mark):
            for variable in read(f"/proc/{pid}/environ").decode().split("\0"):
                if variable.startswith("SSH_CONNECTION="):
                    found.add(variable)
        return sorted(found)

    def connections(self) -> list[int]:
        return [one.pid for one in descendants(self.process.pid)]


@pytest.fixture(scope="module")
def ssh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ssh]:
    with reserved() as port:
        found = Ssh(tmp_path_factory.mktemp("ssh"), port)
        try:
            until(lambda: listening(port), "sshd listens")
            yield found
            assert not marked(found.mark)
        finally:
            found.process.terminate()
            found.process.wait()


@pytest.mark.parametrize("check", CHECKS)
def test_session(check: Callable[[Engine], None], ssh: Ssh) -> None:
    check(ssh)
    until(lambda: not ssh.connections(), "no connection is left")


def test_arguments_pass_unchanged(ssh: Ssh) -> None:
    words = ["two words", "it's", '$HOME `id` "$(id)" \\n', "*", "", "--", "two\nlines"]
    text = (ssh.apps / "ssh.toml").read_text()
    game = f'"{ssh.directory}/game"'
    assert game in text
    listed = ", ".join(json.dumps(word) for word in ("ok", *words))
    (ssh.apps / "words.toml").write_text(text.replace(game, f"{game}, {listed}"))
    with ssh.serve() as serving, join(serving, "words", "printf '%s|' \"$@\"") as peer:
        assert peer.transcript().stdout.decode() == "".join(
            f"{word}|" for word in ("ok", *words)
        )
        await_nothing(ssh, serving)


def test_a_lost_connection_ends_the_program(ssh: Ssh) -> None:
    """The server of ssh loses the connection, and nothing tells the program."""
    with ssh.serve() as serving, join(serving, "ssh", STUBBORN) as peer:
        assert peer.output(9) == b"stubborn\n"
        for pid in ssh.connections():
            if comm(pid) == "sshd":
                os.kill(pid, signal.SIGKILL)
        assert peer.transcript().closed == Closed(1011, "exit 255")
        await_nothing(ssh, serving)
