"""Tests what an application can learn of other processes of its own machine.

The attacker is an application: a shell that evaluates each line, and tells if that has
succeeded. Where the programs that serve run as the same user, they do so without
capabilities, so that the permissions of root decide nothing.
"""

from __future__ import annotations

import json
import os
from contextlib import ExitStack
from pathlib import Path

import pytest

import serve
from processes import until
from serve import Service
from websocket_peer import Peer

EVALUATOR = [
    "sh",
    "-c",
    'echo $$; while read -r it; do (eval "$it") 2>&- && echo yes || echo no; done',
]
SECRETS = ("environ", "mem", "maps", "auxv")
ALICE, BOB = 1879200001, 1879200002  # users without an account
UNPRIVILEGED = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")


class Attacker:
    """A session with the shell above."""

    def __init__(self, peer: Peer, target: str = "/") -> None:
        self.peer = peer
        assert peer.open(target, framing="lines").status == 101
        self.pid = int(self._line())

    def _line(self) -> bytes:
        said = self.peer.receive()
        assert isinstance(said, bytes)
        return said

    def can(self, script: str) -> bool:
        self.peer.send(script.encode())
        return self._line() == b"yes"

    def secrets_of(self, pid: int) -> list[str]:
        """Return the files of a process that tell its secrets, if they can be read."""
        return [name for name in SECRETS if self.can(f": </proc/{pid}/{name}")]


@pytest.fixture
def unprivileged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start programs that serve without capabilities, even if root runs this test."""
    if os.getuid() == 0:
        monkeypatch.setattr(serve, "LAUNCH", (*UNPRIVILEGED, *serve.LAUNCH))


def attackers(
    service: Service, stack: ExitStack, *targets: str
) -> tuple[Attacker, Attacker]:
    one, two = (
        Attacker(stack.enter_context(Peer(service.connect())), target)
        for target in targets or ("/", "/")
    )
    return one, two


@pytest.mark.usefixtures("unprivileged")
@pytest.mark.parametrize("kind", ["server", "server-pure", "socat"])
def test_programs_that_serve_cannot_be_read(tmp_path: Path, kind: str) -> None:
    """The same user is allowed to read the processes of other sessions."""
    with (
        serve.SERVICES[kind](tmp_path, EVALUATOR, "--framing=lines") as service,
        ExitStack() as stack,
    ):
        one, two = attackers(service, stack)
        assert one.secrets_of(one.pid) == list(SECRETS)
        assert one.secrets_of(two.pid) == list(SECRETS)
        own = service.own()
        assert len(own) >= (2 if kind == "socat" else 3)
        for pid in own:
            assert one.secrets_of(pid) == [], pid


OPENER = """
import os, sys
def main():
    print(os.getpid())
    for line in sys.stdin:
        try:
            with open(line.removeprefix(": <").strip(), "rb"):
                print("yes")
        except OSError:
            print("no")
"""


@pytest.mark.usefixtures("unprivileged")
def test_warm_copies_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "toy.py").write_text(OPENER)
    with (
        serve.preloading(tmp_path, "toy:main", "--framing=lines") as service,
        ExitStack() as stack,
    ):
        one, two = attackers(service, stack)
        for pid in {two.pid, *service.own()} - {one.pid}:
            assert one.secrets_of(pid) == [], pid


# Applications of different users


@pytest.fixture
def apps(tmp_path: Path) -> Path:
    """A directory for application files. Only root can start them as another user."""
    if os.getuid():
        pytest.skip("only root can start an application as another user")
    directory = tmp_path / "apps"
    directory.mkdir()
    return directory


def write(apps: Path, name: str, command: list[str], *lines: str) -> None:
    text = f"command = {json.dumps(command)}\n" + "\n".join(lines) + "\n"
    (apps / f"{name}.toml").write_text(text)


def test_users_of_applications(apps: Path, tmp_path: Path) -> None:
    """The env-file is read by the server, and not by the user."""
    secrets = tmp_path / "secrets"
    secrets.write_text("SECRET=hunter2\n")
    secrets.chmod(0o600)
    lines = f"user = {ALICE}", 'framing = "lines"', f'env-file = "{secrets}"'
    write(apps, "alice", EVALUATOR, *lines)
    write(apps, "bob", EVALUATOR, f'user = "{BOB}"', 'framing = "lines"')
    with (
        serve.server(tmp_path, [], "--apps", str(apps)) as service,
        ExitStack() as stack,
    ):
        alice, bob = attackers(service, stack, "/alice", "/bob")
        assert alice.can(f'test "$(id -u):$(id -G)" = "{ALICE}:{ALICE}"')
        assert alice.can(f'test "$HOME:$USER:$SECRET" = "/:{ALICE}:hunter2"')
        assert alice.secrets_of(alice.pid) == list(SECRETS)
        for pid in (alice.pid, *service.own()):
            assert bob.secrets_of(pid) == [], pid
            assert not bob.can(f"kill -0 {pid}")
            assert not bob.can(f": >>/proc/{pid}/oom_score_adj")
        score = Path(f"/proc/{alice.pid}/oom_score_adj")
        until(lambda: score.read_text() == "1000\n", "it is preferred for an OOM kill")


def test_a_terminal_belongs_to_the_user(apps: Path, tmp_path: Path) -> None:
    script = 'test -O "$(tty)" && : </dev/tty && : <"$(tty)" && echo yes'
    write(apps, "alice", ["sh", "-c", script], f"user = {ALICE}", "pty = true")
    with (
        serve.server(tmp_path, [], "--apps", str(apps)) as service,
        Peer(service.connect()) as peer,
    ):
        assert peer.open("/alice", framing="stdio").status == 101
        assert peer.transcript().stdout == b"yes\r\n"


def test_an_unknown_user_affects_no_other_application(
    apps: Path, tmp_path: Path
) -> None:
    write(apps, "carol", ["cat"], 'user = "no-such-user"')
    write(apps, "bob", ["id", "-u"], f"user = {BOB}")
    with serve.server(tmp_path, [], "--apps", str(apps)) as service:
        with Peer(service.connect()) as peer:
            assert peer.open("/carol").status == 500
        service.find(r'carol.toml:2: --user: there is no user \\"no-such-user\\"')
        with Peer(service.connect()) as peer:
            assert peer.open("/bob").status == 101
            assert peer.output(10) == f"{BOB}\n".encode()


@pytest.mark.usefixtures("apps")
@pytest.mark.parametrize("kind", ["server", "server-pure", "socat"])
def test_a_user_on_the_command_line(tmp_path: Path, kind: str) -> None:
    options = "--user", str(ALICE), "--framing=lines"
    with (
        serve.SERVICES[kind](tmp_path, EVALUATOR, *options) as service,
        ExitStack() as stack,
    ):
        one, two = attackers(service, stack)
        assert one.can(f'test "$(id -u):$(id -G)" = "{ALICE}:{ALICE}"')
        assert one.secrets_of(two.pid) == list(SECRETS)  # the same user
        for pid in service.own():
            assert one.secrets_of(pid) == [], pid
            assert not one.can(f"kill -0 {pid}")


@pytest.mark.usefixtures("apps")
def test_a_user_of_warm_copies(tmp_path: Path) -> None:
    (tmp_path / "toy.py").write_text(
        "import os\ndef main():\n    print(*os.getresuid(), *os.getgroups())\n"
        "    print(open('/proc/self/oom_score_adj').read(), end='')\n"
    )
    with (
        serve.preloading(tmp_path, "toy:main", "--user", str(ALICE)) as service,
        Peer(service.connect()) as peer,
    ):
        assert peer.open(framing="stdio").status == 101
        said = peer.transcript().stdout.decode().split()
        assert said == [*4 * [str(ALICE)], "1000"]
