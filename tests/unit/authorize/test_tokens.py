"""Files of tokens: their lines, new tokens, and the answers to clients."""

from __future__ import annotations

import hashlib
import re
import stat
from pathlib import Path

import pytest

from chimirror.access import ALLOWED, FORBIDDEN, UNKNOWN, Answer
from chimirror.authorize import LoginAttempt, tokens
from chimirror.authorize.tokens import Token, TokenVerifier

DIGEST = hashlib.sha256(b"secret").hexdigest()
HASH = f"sha256:{DIGEST}"
NEW_YEAR = 1798761600.0  # 2027-01-01


class Verifier:
    """A verifier of one token, with a clock that stands."""

    def __init__(self, path: Path, fields: str, cookie: str = "") -> None:
        path.write_text(f"# tokens\n\nann {HASH} {fields}\n")
        self.now = NEW_YEAR - 30
        self._verifier = TokenVerifier(str(path), 60, cookie, lambda: self.now)

    def ask(
        self, token: str = "secret", application: str | None = "", cookie: str = ""
    ) -> Answer:
        field = f"Bearer {token}" if token else ""
        return self._verifier.verify(LoginAttempt(field, cookie, application))


def test_a_known_token(tmp_path: Path) -> None:
    answer = Verifier(tmp_path / "t", "").ask()
    assert answer.identity is not None
    assert (answer.status, answer.identity.user) == (ALLOWED, "ann")
    assert (answer.identity.auth_type, answer.max_age) == ("Bearer", 60)
    assert answer.identity.applications is None


@pytest.mark.parametrize(
    ("token", "text"),
    [
        ("other", "this token is not known"),
        ("a b", "the Bearer credentials are not a token"),
    ],
)
def test_other_tokens(tmp_path: Path, token: str, text: str) -> None:
    answer = Verifier(tmp_path / "t", "").ask(token)
    assert (answer.status, answer.identity, answer.text) == (UNKNOWN, None, text)
    fields = f'error="invalid_token", error_description="{text}"'
    assert answer.challenges == (f'Bearer realm="chimirror", {fields}',)


def test_no_token(tmp_path: Path) -> None:
    answer = Verifier(tmp_path / "t", "").ask("")
    assert (answer.status, answer.text) == (UNKNOWN, "log in with a token")
    assert answer.challenges == ('Bearer realm="chimirror"',)


def test_an_expired_token(tmp_path: Path) -> None:
    verifier = Verifier(tmp_path / "t", "expires=2027-01-01")
    assert verifier.ask().status == ALLOWED
    assert verifier.ask().max_age == 30  # no longer than the token
    verifier.now = NEW_YEAR
    answer = verifier.ask()
    assert (answer.status, answer.text) == (UNKNOWN, "this token has expired")


@pytest.mark.parametrize(
    ("application", "status"),
    [
        *(("shell", ALLOWED), ("log", ALLOWED), ("other", FORBIDDEN)),
        *(("", ALLOWED), (None, FORBIDDEN)),
    ],
)
def test_a_token_of_some_applications(
    tmp_path: Path, application: str | None, status: int
) -> None:
    verifier = Verifier(tmp_path / "t", "applications=shell,log")
    answer = verifier.ask(application=application)
    assert answer.status == status
    if status == ALLOWED:
        assert answer.identity is not None
        assert answer.identity.applications == ("shell", "log")
    else:
        assert "does not allow" in answer.text
    assert Verifier(tmp_path / "t", "").ask(application=application).status == ALLOWED


def test_a_cookie(tmp_path: Path) -> None:
    verifier = Verifier(tmp_path / "t", "", cookie="sid")
    assert verifier.ask("", cookie="sid=secret").status == ALLOWED
    assert verifier.ask("", cookie="sid=wrong").status == UNKNOWN
    without = Verifier(tmp_path / "t", "")
    assert without.ask("", cookie="sid=secret").status == UNKNOWN


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("ann secrettoken", "no hash of a token after the name"),
        ("ann", "no hash of a token after the name"),
        (f"a,b {HASH}", "no user that can have a name"),
        (f"ann {HASH} expires=soon", '"soon" is no time; write 2027-01-31'),
        (f"ann {HASH} applications=", '"" is no application; write a name'),
        (f"ann {HASH} applications=a,.b", '".b" is no application'),
        (f"ann {HASH} expires=2027-01-01 expires=2027-01-01", "write one expires="),
        (f"ann {HASH} shell", "one applications=NAME,NAME at most"),
    ],
)
def test_faults_name_the_line_and_not_the_hash(line: str, fault: str) -> None:
    with pytest.raises(ValueError, match=r"^line 2: ") as caught:
        tokens.read_tokens(f"\n{line}\n".encode())
    assert fault in str(caught.value)
    assert DIGEST not in str(caught.value)
    assert "secrettoken" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("2027-01-01", NEW_YEAR),
        ("2027-01-01T01:00Z", NEW_YEAR + 3600),
        ("2027-01-01T01:00+01:00", NEW_YEAR),
    ],
)
def test_times(text: str, found: float) -> None:
    assert tokens.parse_time(text) == found


def test_a_new_token(tmp_path: Path) -> None:
    path = tmp_path / "t"
    text, line = tokens.make_token("ann", "2999-01-01T00:00Z", ["shell", "log"])
    assert len(text) == 3 + 43  # 256 bits in base64
    tokens.append(str(path), line)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    (found,) = tokens.read_tokens(path.read_bytes())
    assert found.user == "ann"
    assert found.applications == ("shell", "log")
    assert tokens.find([found], text) is found
    assert tokens.find([found], f"{text}x") is None
    assert text not in path.read_text()


def test_a_line_without_an_end_is_ended_first(tmp_path: Path) -> None:
    path = tmp_path / "t"
    path.write_text(f"ann {HASH}")
    tokens.append(str(path), f"bob {HASH}")
    users = [each.user for each in tokens.read_tokens(path.read_bytes())]
    assert users == ["ann", "bob"]


@pytest.mark.parametrize(
    ("user", "expires", "applications", "fault"),
    [
        ("a b", None, [], '"a b" cannot have a token; write a NAME without spaces'),
        ("", None, [], "cannot have a token"),
        ("#ann", None, [], "cannot have a token"),
        ("ann", "2001-01-01", [], "2001-01-01 has passed; write a later time"),
        ("ann", "never", [], '"never" is no time'),
        ("ann", "2999-01-01 10:00", [], '"2999-01-01 10:00" is no time'),
        ("ann", None, ["a", "/x"], '"/x" is no application'),
        ("ann", None, ["a,b"], '"a,b" is no application'),
    ],
)
def test_tokens_that_cannot_be_made(
    user: str, expires: str | None, applications: list[str], fault: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(fault)):
        tokens.make_token(user, expires, applications)


def test_the_last_of_two_equal_digests_is_found() -> None:
    digest = hashlib.sha256(b"x").digest()
    pair = [Token(digest, "a"), Token(digest, "b")]
    assert tokens.find(pair, "x") is pair[1]
