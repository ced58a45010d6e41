"""chimirror-authorize on pipes and as a command: real files of htpasswd(1), tokens."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from authorize_program import (
    ENVIRONMENT,
    basic,
    json_authorizer,
    run,
    set_password,
)
from processes import read, until

PASSWORD = "pä:ss wörd"


@pytest.fixture
def users(tmp_path: Path) -> Path:
    path = tmp_path / "users"
    set_password(path, "ann", PASSWORD)
    return path


def test_passwords_of_htpasswd(users: Path) -> None:
    with json_authorizer("--max-age", "90s", "htpasswd", users) as server:
        yes = {"status": 200, "user": "ann", "max_age": 90}
        assert server.ask(basic("ann", PASSWORD)) == yes
        assert server.ask(basic("ann", PASSWORD, "latin-1")) == yes
        no = server.ask(basic("ann", "wrong"))
        assert no == server.ask(basic("zoe", PASSWORD))
        assert no == {
            "status": 401,
            "challenge": 'Basic realm="chimirror", charset="UTF-8"',
            "text": "wrong user or password",
        }
        assert server.ask()["text"] == "log in with a user and a password"


def test_a_changed_file_counts_and_a_weak_hash_does_not(users: Path) -> None:
    with json_authorizer("htpasswd", users) as server:
        set_password(users, "bob", "secret")
        assert server.ask(basic("bob", "secret"))["status"] == 200
        set_password(users, "eve", "secret", "-m")
        assert server.ask(basic("eve", "secret"))["status"] == 401
        assert server.ask(basic("ann", PASSWORD))["status"] == 200
        assert server.process.stderr
        line = server.process.stderr.readline().decode()
    fault = f"{users}: line 3: a hash of MD5, which is not safe"
    assert line.startswith(f"chimirror-authorize: {fault}")
    assert "$apr1$" not in line


@pytest.mark.parametrize("flag", ["-m", "-s", "-p", "-d", "-5"])
def test_weak_hashes_of_htpasswd_are_refused(tmp_path: Path, flag: str) -> None:
    path = tmp_path / "users"
    set_password(path, "ann", "secret", flag)
    done = run("htpasswd", path)
    assert done.returncode == os.EX_CONFIG
    assert f"{path}: line 1: " in done.stderr
    assert "htpasswd -B" in done.stderr
    assert path.read_text().partition(":")[2].strip() not in done.stderr


def test_tokens(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    ann = run("token", path, "ann")
    limits = ("--application", "shell", "--expires", "2999-01-01")
    bob = run(*limits, "token", path, "bob").stdout.strip()
    assert re.fullmatch(r"cm_[A-Za-z0-9_-]{43}\n", ann.stdout)
    assert not ann.stderr
    assert ann.stdout.strip() not in path.read_text()
    with json_authorizer("tokens", path) as server:
        assert server.ask(f"Bearer {ann.stdout.strip()}") == {
            "status": 200,
            "user": "ann",
        }
        assert server.ask(f"Bearer {bob}", "shell") == {
            "status": 200,
            "user": "bob",
            "applications": ["shell"],
        }
        assert server.ask(f"Bearer {bob}", "other") == {
            "status": 403,
            "text": "this token does not allow this application",
        }
        assert server.ask(f"Bearer {bob}x", "shell")["status"] == 401
        # A revoked token.
        path.write_text("")
        assert server.ask(f"Bearer {bob}", "shell")["status"] == 401


@pytest.mark.parametrize(
    ("content", "status", "fault"),
    [
        ("ann:$2y$05$x", os.EX_CONFIG, "line 1: no hash of a token"),
        (None, os.EX_USAGE, '"a b" cannot have a token'),
    ],
)
def test_tokens_that_are_not_made(
    tmp_path: Path, content: str | None, status: int, fault: str
) -> None:
    path = tmp_path / "tokens"
    if content is not None:
        path.write_text(content)
    done = run("token", path, "a b")
    assert (done.returncode, done.stdout) == (status, "")
    assert fault in done.stderr
    assert not path.exists() or path.read_text() == content


def test_a_line_that_is_no_question(users: Path) -> None:
    done = run("htpasswd", users, text='{"id":1}\n{"secret"\n')
    assert done.returncode == os.EX_PROTOCOL
    assert "a line that is not JSON" in done.stderr
    assert "secret" not in done.stderr


def test_all_questions_are_answered_before_the_end(users: Path) -> None:
    field = basic("ann", PASSWORD)
    headers = json.dumps({"authorization": field})
    text = "".join(f'{{"id":{n},"headers":{headers}}}\n' for n in range(300))
    done = run("htpasswd", users, text=text)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert sorted(each["id"] for each in answers) == [*range(300)]
    assert {each["status"] for each in answers} == {200}


def test_other_processes_of_the_user_cannot_read_its_memory(users: Path) -> None:
    with json_authorizer("htpasswd", users) as server:
        server.ask()
        pid = server.process.pid
        limits = read(f"/proc/{pid}/limits").decode()
        assert re.search(r"^Max core file size\s+0\s+0\s", limits, re.M)
        # Root owns the files of a process that is not dumpable (proc(5)).
        until(lambda: os.stat(f"/proc/{pid}/environ").st_uid == 0, "it is hidden")


def test_a_missing_file(tmp_path: Path) -> None:
    done = run("htpasswd", tmp_path / "users")
    assert done.returncode == os.EX_CONFIG
    assert done.stderr.endswith("users: No such file or directory\n")


def run_without(setup: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the program after a statement."""
    code = (
        f"import sys; {setup}; "
        "from chimirror.authorize.main import main; sys.exit(main())"
    )
    argv = [sys.executable, "-c", code, *arguments]
    return subprocess.run(argv, env=ENVIRONMENT, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("library", "arguments"),
    [
        ("bcrypt", ("htpasswd", "{users}")),
        ("jwt", ("--issuer", "i", "--audience", "a", "--jwks", "f", "jwt")),
        ("pamela", ("pam", "login")),
    ],
)
def test_a_missing_library_of_python(
    users: Path, library: str, arguments: tuple[str, ...]
) -> None:
    words = [word.format(users=users) for word in arguments]
    done = run_without(f"sys.modules[{library!r}] = None", *words)
    assert done.returncode == os.EX_UNAVAILABLE
    cure = f"{library} is missing; install it: pip install 'chimirror[auth]'\n"
    assert done.stderr == f"chimirror-authorize: {cure}"


def test_a_missing_libpam() -> None:
    hide = "import ctypes.util; ctypes.util.find_library = lambda name: None"
    done = run_without(hide, "pam", "login")
    assert done.returncode == os.EX_UNAVAILABLE
    assert done.stderr == "chimirror-authorize: libpam is missing; install it\n"
