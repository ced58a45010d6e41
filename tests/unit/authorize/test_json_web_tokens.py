"""JSON Web Tokens of an issuer, and forged ones."""

from __future__ import annotations

import base64
import hmac
import json
import time
from pathlib import Path

import jwt
import pytest

from chimirror.access import ALLOWED, FAILED, FORBIDDEN, UNKNOWN, Answer
from chimirror.authorize import LoginAttempt
from chimirror.authorize.json_web_tokens import JsonWebTokenVerifier
from chimirror.authorize.key_set import KeyFile, KeyUrl
from token_issuer import AUDIENCE, ISSUER, SigningKey, key_set

ONE, TWO = SigningKey("one"), SigningKey("two", number=1)
LATER = 4e9


class Verifier:
    """A verifier with the keys of a file."""

    def __init__(
        self, tmp_path: Path, *keys: dict[str, object], **options: str
    ) -> None:
        self.path = tmp_path / "keys"
        self.path.write_bytes(key_set(*keys))
        file = KeyFile(str(self.path))
        self._verifier = JsonWebTokenVerifier(
            file, ISSUER, AUDIENCE, max_age=60, **options
        )

    def ask(self, token: str, cookie: str = "") -> Answer:
        field = f"Bearer {token}" if token else ""
        return self._verifier.verify(LoginAttempt(field, cookie))


@pytest.fixture
def verifier(tmp_path: Path) -> Verifier:
    return Verifier(tmp_path, ONE.public())


@pytest.mark.parametrize(
    "algorithm", "RS256 RS512 PS256 PS384 ES256 ES384 ES512 EdDSA".split()
)
def test_algorithms(tmp_path: Path, algorithm: str) -> None:
    key = SigningKey("a", algorithm)
    answer = Verifier(tmp_path, ONE.public(), key.public()).ask(key.token())
    assert answer.identity is not None
    assert (answer.status, answer.identity.user) == (ALLOWED, "ann")
    assert (answer.identity.auth_type, answer.max_age) == ("Bearer", 60)


@pytest.mark.parametrize(
    ("claims", "text"),
    [
        ({"exp": 1.0}, "this token has expired"),
        ({"exp": "soon"}, "this is no valid token"),
        ({"exp": float("inf")}, "this is no valid token"),
        ({"exp": None}, "this token lacks exp, iss or aud"),
        ({"nbf": LATER}, "this token is not valid yet"),
        ({"iat": LATER}, "this token is not valid yet"),
        ({"aud": "other"}, "this token is for another audience"),
        ({"aud": ["a", "b"]}, "this token is for another audience"),
        ({"aud": None}, "this token is for another audience"),
        ({"iss": "https://evil.example"}, "this token is of another issuer"),
        ({"iss": None}, "this token lacks exp, iss or aud"),
    ],
)
def test_claims_that_do_not_fit(
    verifier: Verifier, claims: dict[str, object], text: str
) -> None:
    answer = verifier.ask(ONE.token(**claims))
    assert (answer.status, answer.identity) == (UNKNOWN, None)
    assert answer.text in (text, "this token lacks exp, iss or aud")
    fields = f'error="invalid_token", error_description="{answer.text}"'
    assert answer.challenges == (f'Bearer realm="chimirror", {fields}',)


def test_clocks_may_differ_a_little(verifier: Verifier) -> None:
    answer = verifier.ask(ONE.token(exp=time.time() - 3, iat=time.time() + 3))
    assert (answer.status, answer.max_age) == (ALLOWED, 0)


def test_an_answer_holds_no_longer_than_its_token(verifier: Verifier) -> None:
    assert verifier.ask(ONE.token(exp=time.time() + 30)).max_age <= 30


def encoded(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


CLAIMS = {"iss": ISSUER, "aud": AUDIENCE, "sub": "root", "exp": LATER}


def test_no_algorithm_and_shared_secrets_are_refused(verifier: Verifier) -> None:
    text = "the algorithm of this token is not allowed"
    for name in ("none", "None", "NONE", "nOnE", ""):
        header = encoded({"alg": name, "kid": "one"})
        for signature in ("", "AAAA"):
            answer = verifier.ask(f"{header}.{encoded(CLAIMS)}.{signature}")
            assert (answer.status, answer.text) == (UNKNOWN, text)
    # The public key as the secret of an HMAC.
    public = json.dumps(ONE.public())
    for secret in (public, verifier.path.read_text(), "x" * 64):
        signed = f"{encoded({'alg': 'HS256', 'kid': 'one'})}.{encoded(CLAIMS)}"
        digest = hmac.digest(secret.encode(), signed.encode(), "sha256")
        signature = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        assert verifier.ask(f"{signed}.{signature}").text == text


def test_keys_of_the_token_are_ignored(verifier: Verifier) -> None:
    key = TWO.public(kid="one")
    forged = jwt.encode(
        CLAIMS,
        TWO.private,  # type: ignore[arg-type]
        "ES256",
        {"kid": "one", "jwk": key, "jku": "http://127.0.0.1:1/", "x5u": "file:///"},
    )
    answer = verifier.ask(forged)
    assert answer.text == "the signature of this token is wrong"


def test_a_wrong_and_an_unknown_key(verifier: Verifier) -> None:
    wrong = SigningKey("one", number=1).token()
    assert verifier.ask(wrong).text == "the signature of this token is wrong"
    assert verifier.ask(TWO.token()).text == "the key of this token is not known"
    # A key for another algorithm.
    other = SigningKey("one", "ES384").token()
    assert verifier.ask(other).text == "the key of this token is not known"


def test_a_changed_token(verifier: Verifier) -> None:
    header, claims, signature = ONE.token().split(".")
    for changed in (
        f"{header}.{encoded(CLAIMS)}.{signature}",
        f"{header}.{claims}.{signature[:-4]}AAAA",
        f"{header}.{claims}.",
    ):
        answer = verifier.ask(changed)
        assert answer.text == "the signature of this token is wrong"


DEEP = base64.urlsafe_b64encode(b"[" * 40_000).decode().rstrip("=")


@pytest.mark.parametrize(
    "header",
    [
        *("x", ["x"], {"alg": ["ES256"]}, {"alg": "ES256", "kid": 7}, {}),
        *({"alg": "ES256", "crit": ["x"], "x": 1}, {"alg": "ES256", "b64": False}),
    ],
)
def test_headers_that_are_refused(verifier: Verifier, header: object) -> None:
    for signature in ("AA", "A" * 86):
        answer = verifier.ask(f"{encoded(header)}.{encoded(CLAIMS)}.{signature}")
        assert answer.status == UNKNOWN


def test_garbage(verifier: Verifier) -> None:
    known = encoded({"alg": "ES256", "kid": "one"})
    for text in (
        *("a", "a.b", "a.b.c", "a.b.c.d.e", "..", "cm_secret", f"{'x' * 60_000}.a.b"),
        *(f"{DEEP}.a.b", f"{known}.{DEEP}.a", f"{known}.a.b"),
    ):
        answer = verifier.ask(text)
        assert answer.status == UNKNOWN
        assert "token" in answer.text


def test_without_a_token(verifier: Verifier) -> None:
    answer = verifier.ask("")
    assert (answer.status, answer.text) == (UNKNOWN, "log in with a token")


def test_a_cookie(tmp_path: Path) -> None:
    verifier = Verifier(tmp_path, ONE.public(), cookie="__Host-session")
    answer = verifier.ask("", f"__Host-session={ONE.token()}")
    assert answer.status == ALLOWED


def test_keys_without_a_name_are_all_tried(tmp_path: Path) -> None:
    keys = [SigningKey(None, number=number) for number in range(3)]
    verifier = Verifier(tmp_path, *(key.public() for key in keys))
    for key in keys:
        assert verifier.ask(key.token()).status == ALLOWED
    assert verifier.ask(SigningKey(None, number=3).token()).status == UNKNOWN
    # Also those with a name, if the token names none.
    named = Verifier(tmp_path, SigningKey("one").public(), TWO.public())
    assert named.ask(SigningKey(None, number=1).token()).status == ALLOWED


def test_a_rotated_key(verifier: Verifier) -> None:
    verifier.path.write_bytes(key_set(ONE.public(), TWO.public()))
    assert verifier.ask(TWO.token()).status == ALLOWED
    verifier.path.write_bytes(key_set(TWO.public()))
    assert verifier.ask(ONE.token()).status == UNKNOWN


@pytest.mark.parametrize(
    ("claim", "value", "user"),
    [
        ("sub", "jörg", "jörg"),
        ("email", "ann@x.example", "ann@x.example"),
        ("email", None, None),
        ("email", 7, None),
        ("email", "a,b", None),
        ("email", "a\nb", None),
        ("email", "x" * 257, None),
    ],
)
def test_users(tmp_path: Path, claim: str, value: object, user: str | None) -> None:
    verifier = Verifier(tmp_path, ONE.public(), user_claim=claim)
    answer = verifier.ask(ONE.token(**{claim: value}))
    if user is None:
        assert answer.status == FORBIDDEN
        assert answer.text == f"{claim} of this token is no name of a user"
    else:
        assert answer.identity is not None
        assert answer.identity.user == user


@pytest.mark.parametrize(
    ("name", "value", "groups"),
    [
        ("groups", ["staff", "lab"], ("staff", "lab")),
        ("groups", ["staff", "a,b", 7, "", " x"], ("staff",)),
        ("groups", "staff", ()),
        ("groups", None, ()),
        ("groups", [f"g{number}" for number in range(2000)], 1024),
    ],
)
def test_groups(
    verifier: Verifier, name: str, value: object, groups: tuple[str, ...] | int
) -> None:
    answer = verifier.ask(ONE.token(**{name: value}))
    assert answer.identity is not None
    found = answer.identity.groups
    assert found == groups or len(found) == groups


def test_groups_of_a_nested_claim(tmp_path: Path) -> None:
    verifier = Verifier(tmp_path, ONE.public(), groups_claim="realm_access.roles")
    for claims in (
        {"realm_access": {"roles": ["staff"]}},
        {"realm_access.roles": ["staff"]},  # a name with a dot comes first
    ):
        answer = verifier.ask(ONE.token(**claims))
        assert answer.identity is not None
        assert answer.identity.groups == ("staff",)
    answer = verifier.ask(ONE.token(realm_access=["roles"]))
    assert answer.identity is not None
    assert answer.identity.groups == ()


def test_keys_that_cannot_be_fetched() -> None:
    def refuse(url: str) -> bytes:
        raise OSError("refused")

    keys = KeyUrl("https://x/", refuse)
    verifier = JsonWebTokenVerifier(keys, ISSUER, AUDIENCE)
    answer = verifier.verify(LoginAttempt(f"Bearer {ONE.token()}"))
    assert answer.status == FAILED
    assert answer.text == "the keys of the issuer cannot be fetched"
