"""Files of passwords: their lines, and the answers to clients."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import argon2
import bcrypt
import pytest

from chimirror.access import ALLOWED, UNKNOWN, Answer
from chimirror.authorize import LoginAttempt, password_hashes
from chimirror.authorize.htpasswd import HtpasswdVerifier, read_passwords

LONG = "x" * 100


def hash_of(password: str, cost: int = 4) -> str:
    salt = bcrypt.gensalt(cost)
    return bcrypt.hashpw(password.encode()[:72], salt).decode()


ARGON2 = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
FILE = f"""\
# a comment

ann:{hash_of("pä:ss")}
bob:{ARGON2.hash("secret")}
long:{hash_of(LONG).replace("$2b$", "$2y$")}
jörg:{hash_of("")}
"""


def ask(verifier: HtpasswdVerifier, user: str, password: str) -> Answer:
    pair = base64.b64encode(f"{user}:{password}".encode()).decode()
    return verifier.verify(LoginAttempt(authorization=f"Basic {pair}"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "users"
    found.write_text(FILE)
    return found


@pytest.mark.parametrize(
    ("user", "password"),
    [("ann", "pä:ss"), ("bob", "secret"), ("long", LONG), ("jörg", "")],
)
def test_right_passwords(path: Path, user: str, password: str) -> None:
    answer = ask(HtpasswdVerifier(str(path), 60), user, password)
    assert answer.identity is not None
    assert (answer.status, answer.identity.user) == (ALLOWED, user)
    assert (answer.identity.auth_type, answer.max_age) == ("Basic", 60)


@pytest.mark.parametrize(
    ("user", "password"),
    [
        *(("ann", "pä"), ("ann", ""), ("ann", "PÄ:SS"), ("bob", "pä:ss")),
        *(("zoe", "secret"), ("", ""), ("Ann", "pä:ss"), ("#", "x")),
    ],
)
def test_wrong_passwords(path: Path, user: str, password: str) -> None:
    answer = ask(HtpasswdVerifier(str(path), 60), user, password)
    assert (answer.status, answer.identity) == (UNKNOWN, None)
    assert answer.text == "wrong user or password"
    assert answer.challenges == ('Basic realm="chimirror", charset="UTF-8"',)
    assert not answer.max_age


def test_without_credentials(path: Path) -> None:
    answer = HtpasswdVerifier(str(path), 0).verify(LoginAttempt())
    assert answer.status == UNKNOWN
    assert answer.text == "log in with a user and a password"
    malformed = LoginAttempt(authorization="Basic !")
    answer = HtpasswdVerifier(str(path), 0).verify(malformed)
    assert answer.text == "the Basic credentials are not base64"


def test_a_removed_user_is_unknown_at_once(path: Path) -> None:
    verifier = HtpasswdVerifier(str(path), 0)
    assert ask(verifier, "bob", "secret").status == ALLOWED
    path.write_text("")
    assert ask(verifier, "bob", "secret").status == UNKNOWN


def test_an_unknown_user_costs_one_hash_and_always_the_same(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[password_hashes.PasswordHash] = []

    def matches(self: password_hashes.BcryptHash, password: str) -> bool:
        compared.append(self)
        return True  # the result for another user is dropped

    monkeypatch.setattr(password_hashes.BcryptHash, "matches", matches)
    monkeypatch.setattr(password_hashes.Argon2Hash, "matches", matches)
    verifier = HtpasswdVerifier(str(path), 0)
    os.utime(path, (1, 1))
    for name in ("zoe", "zoe", *(f"user{number}" for number in range(40))):
        assert ask(verifier, name, "x").status == UNKNOWN
    assert len(compared) == 42
    assert compared[0].__class__ is compared[1].__class__
    assert len({type(each) for each in compared}) == 2  # of all kinds in the file


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (
            "ann:$apr1$salt$secrethash",
            "a hash of MD5, which is not safe; make it again",
        ),
        ("ann:{SHA}secrethash", "a hash of SHA-1"),
        ("ann:$6$salt$secrethash", "a hash of SHA-512"),
        ("ann:secrethash", "no hash of bcrypt or argon2, which is not safe"),
        ("ann:$2y$05$secrethash", "a malformed bcrypt hash; make it again"),
        (f"ann:$2y$18${'a' * 53}", "bcrypt of cost 18; make it again with a cost"),
        (f"ann:$2x$05${'a' * 53}", "a malformed bcrypt hash"),
        ("ann:$argon2id$secrethash", "a malformed argon2 hash"),
        (
            "ann:$argon2id$v=19$m=2097152,t=1,p=1$c2FsdHNhbHQ$secrethash",
            "argon2 with 2097152 KiB and 1 passes; make it again with at most",
        ),
        ("secrethash", "no colon; write USER:HASH"),
        (f":$2b$04${'a' * 53}", "no user that can have a name"),
        (f"a,b:$2b$04${'a' * 53}", "no user that can have a name"),
        ("\xff:x".encode("latin-1").decode("utf-8", "surrogateescape"), "not UTF-8"),
    ],
)
def test_faults_name_the_line_and_not_the_hash(line: str, fault: str) -> None:
    text = f"bob:{hash_of('x')}\n\n{line}\n"
    with pytest.raises(ValueError, match=r"^line 3: ") as caught:
        read_passwords(text.encode(errors="surrogateescape"))
    assert fault in str(caught.value)
    assert "secrethash" not in str(caught.value)


def test_a_user_has_one_line() -> None:
    line = f"bob:{hash_of('x')}\n"
    with pytest.raises(ValueError, match="line 2: its user is in line 1 too"):
        read_passwords((line * 2).encode())
