"""chimirror-authorize pam with the real PAM, and accounts of a private /etc.

The files of accounts and of PAM are mounted in a mount namespace of the program. The
module pam_exec reports the items that the program has set.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from authorize_program import JsonServer, basic, json_authorizer, run

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts files over /etc")

PASSWORD = "pä:ss wörd"
SERVICE = """\
auth required pam_unix.so nodelay
auth optional pam_exec.so quiet {report}
account required pam_unix.so
"""
MOUNT = """\
for each in passwd shadow group pam.d; do mount --bind "$1/$each" "/etc/$each"; done
shift
exec "$@"
"""
# Days since 1970: the password, its ages, and the end of an account (shadow(5)).
SHADOW = {
    "ann": "20000:0:99999:7:::",
    "old": "20000:0:99999:7::10000:",
    "due": "10000:0:30:7:::",
    "empty": "20000:0:99999:7:::",
}


class Etc:
    """A private /etc.

    Attributes:
        inside: A command that runs another one with it.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.inside = ("unshare", "--mount", "sh", "-c", MOUNT, "sh", str(directory))
        hashed = subprocess.run(
            ["openssl", "passwd", "-6", "-stdin"],
            input=PASSWORD.encode(),
            capture_output=True,
            check=True,
        ).stdout.decode()
        passwd, shadow = "root:x:0:0::/root:/bin/sh\n", ""
        for number, (name, ages) in enumerate(SHADOW.items(), 70_001):
            passwd += f"{name}:x:{number}:70000::/:/bin/sh\n"
            text = "" if name == "empty" else hashed.strip()
            shadow += f"{name}:{text}:{ages}\n"
        self._write("passwd", passwd)
        self._write("shadow", shadow)
        self._write("group", "root:x:0:\nstaff:x:70000:\nlab:x:70100:ann,old\n")
        self._write("report", f"#!/bin/sh\nenv | grep ^PAM_ > {directory}/items\n")
        (directory / "report").chmod(0o755)
        (directory / "pam.d").mkdir()
        self._write("pam.d/chimirror", SERVICE.format(report=f"{directory}/report"))
        self._write("pam.d/broken", "auth required pam_missing.so\n")
        account = "auth required pam_permit.so\naccount required pam_missing.so\n"
        self._write("pam.d/account", account)

    def _write(self, name: str, text: str) -> None:
        (self._directory / name).write_text(text)

    def items(self) -> list[str]:
        """Return the items of PAM at the last login."""
        return sorted((self._directory / "items").read_text().splitlines())


@pytest.fixture
def etc(tmp_path: Path) -> Etc:
    return Etc(tmp_path)


@pytest.fixture
def server(etc: Etc) -> Iterator[JsonServer]:
    with json_authorizer("pam", "chimirror", inside=etc.inside) as found:
        yield found


def test_a_right_password(server: JsonServer, etc: Etc) -> None:
    field = basic("ann", PASSWORD)
    yes = {"status": 200, "user": "ann", "groups": ["staff", "lab"]}
    assert server.ask(field, address="192.0.2.1") == yes
    assert etc.items() == [
        "PAM_RHOST=192.0.2.1",
        "PAM_SERVICE=chimirror",
        "PAM_TTY=chimirror",
        "PAM_TYPE=auth",
        "PAM_USER=ann",
    ]
    assert server.ask(field) == yes
    assert "PAM_RHOST" not in "".join(etc.items())


@pytest.mark.parametrize(
    ("user", "password"),
    [
        *(("ann", "wrong"), ("ann", ""), ("zoe", PASSWORD), ("", PASSWORD)),
        *(("empty", ""), ("empty", PASSWORD), ("a,b", PASSWORD), ("root", "")),
        ("ann", f"{PASSWORD} "),
    ],
)
def test_a_wrong_password(server: JsonServer, user: str, password: str) -> None:
    assert server.ask(basic(user, password)) == {
        "status": 401,
        "challenge": 'Basic realm="chimirror", charset="UTF-8"',
        "text": "wrong user or password",
    }


def test_without_credentials(server: JsonServer) -> None:
    assert server.ask()["text"] == "log in with a user and a password"
    assert server.ask("Basic !")["text"] == "the Basic credentials are not base64"


def test_accounts_that_may_not_log_in(server: JsonServer) -> None:
    for user, text in (
        ("old", "this account: User account has expired"),
        ("due", "this account: Authentication token is no longer valid"),
    ):
        answer = server.ask(basic(user, PASSWORD))
        assert answer["status"] == 403
        assert answer["text"].startswith(text)
        # Without the password, nothing is told about the account.
        assert server.ask(basic(user, "wrong"))["text"] == "wrong user or password"


@pytest.mark.parametrize("service", ["broken", "account"])
def test_broken_modules_are_reported_once(etc: Etc, service: str) -> None:
    with json_authorizer("pam", service, inside=etc.inside) as server:
        for _ in range(2):
            answer = server.ask(basic("ann", PASSWORD))
            assert answer == {"status": 503, "text": "PAM cannot tell"}
        assert server.process.stdin
        assert server.process.stderr
        server.process.stdin.close()
        (line,) = server.process.stderr.read().decode().splitlines()
    assert line.startswith(f"chimirror-authorize: PAM, {service}: ")


@pytest.mark.parametrize(
    ("service", "fault"),
    [
        ("no-such", "/etc/pam.d/no-such: No such file or directory; write it"),
        ("../passwd", '"../passwd" is no service of PAM'),
        ("Login", '"Login" is no service of PAM'),
    ],
)
def test_a_missing_service(service: str, fault: str) -> None:
    done = run("pam", service)
    assert done.returncode == os.EX_CONFIG
    assert fault in done.stderr
