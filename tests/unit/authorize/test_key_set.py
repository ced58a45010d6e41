"""Key sets: usable keys, changes of a file, and rotation at a URL."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chimirror.authorize.key_set import (
    MAX_AGE,
    MAX_SIZE,
    MIN_AGE,
    KeyFile,
    KeyUrl,
    fetch_url,
    read_keys,
)
from chimirror.authorize.messages import FileFault
from token_issuer import SigningKey, key_server, key_set

ONE, TWO = SigningKey("one").public(), SigningKey("two", number=1).public()
OCTETS = {"kty": "oct", "k": "c2VjcmV0", "kid": "shared"}
RSA = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"]


@pytest.mark.parametrize(
    ("algorithm", "more", "algorithms"),
    [
        ("RS256", {}, RSA),
        ("RS256", {"alg": "PS256", "use": "sig"}, ["PS256"]),
        ("ES256", {"key_ops": ["verify"]}, ["ES256"]),
        *(("ES384", {}, ["ES384"]), ("ES512", {}, ["ES512"]), ("EdDSA", {}, ["EdDSA"])),
    ],
)
def test_algorithms_of_keys(
    algorithm: str, more: dict[str, object], algorithms: list[str]
) -> None:
    (found,) = read_keys(key_set(SigningKey("a", algorithm).public(**more)))
    assert found.id == "a"
    assert [*found.by_algorithm] == algorithms


@pytest.mark.parametrize(
    "key",
    [
        OCTETS,
        {**OCTETS, "alg": "HS256"},
        {"kty": "EC", "crv": "P-256", "use": "enc"},
        {"kty": "EC", "crv": "P-256", "key_ops": ["encrypt"]},
        {"kty": "RSA", "alg": "HS256"},
        {"kty": "RSA", "alg": "none"},
        {"kty": "EC", "crv": "P-192"},
        {"kty": "new"},
        {},
    ],
)
def test_keys_that_are_left_out(key: dict[str, object]) -> None:
    assert [each.id for each in read_keys(key_set(key, ONE))] == ["one"]
    with pytest.raises(ValueError, match="no public key for signatures; add one"):
        read_keys(key_set(key))


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"", "no key set; write"),
        (b"[]", "no key set; write"),
        (b'{"keys":1}', "no key set; write"),
        (b'{"keys":["a"]}', "no key set; write"),
        (b'{"keys":[{"kty":["a"]}]}', "no key set; write"),
        (b"[" * 10_000, "no key set; write"),
        (b"<html>", "no key set; write"),
        (b"\xff\xff", "no key set; write"),
        (b'{"keys":[{"kty":"EC","crv":"P-256"}]}', "a key that cannot be read"),
    ],
)
def test_faults(data: bytes, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        read_keys(data)


def test_faults_of_keys() -> None:
    with pytest.raises(ValueError, match="a key that cannot be read"):
        read_keys(key_set({**ONE, "x": "AA"}))
    with pytest.raises(ValueError, match="a private key; write its public") as caught:
        read_keys(key_set(ONE, {**TWO, "d": "secret"}))
    assert "secret" not in str(caught.value)


def test_a_file_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_bytes(key_set(ONE))
    keys = KeyFile(str(path))
    path.write_bytes(key_set(ONE, TWO))
    assert [key.id for key in keys.get()] == ["one", "two"]
    assert [key.id for key in keys.get_newest()] == ["one", "two"]


class FakeProvider:
    """A URL, and a clock."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.fetched = 0
        self.content: bytes | Exception = key_set(ONE)
        self.keys = KeyUrl("https://x/jwks", self.fetch, lambda: self.now)

    def fetch(self, url: str) -> bytes:
        assert url == "https://x/jwks"
        self.fetched += 1
        if isinstance(self.content, Exception):
            raise self.content
        return self.content

    def ids(self, *, newest: bool = False) -> list[str]:
        found = self.keys.get_newest() if newest else self.keys.get()
        return [key.id for key in found]


def test_a_url_is_fetched_again_after_a_while() -> None:
    provider = FakeProvider()
    provider.content = key_set(TWO)
    provider.now += MAX_AGE - 1
    assert (provider.ids(), provider.fetched) == (["one"], 1)
    provider.now += 1
    assert (provider.ids(), provider.fetched) == (["two"], 2)


def test_an_unknown_key_fetches_a_url_but_not_often() -> None:
    provider = FakeProvider()
    provider.content = key_set(ONE, TWO)
    assert (provider.ids(newest=True), provider.fetched) == (["one"], 1)
    provider.now += MIN_AGE
    assert (provider.ids(newest=True), provider.fetched) == (["one", "two"], 2)
    for _ in range(1000):
        provider.ids(newest=True)
    assert provider.fetched == 2


def test_a_url_that_fails_is_reported_once(capfd: pytest.CaptureFixture[str]) -> None:
    provider = FakeProvider()
    for content in (OSError("refused"), OSError("refused"), b"<html>", TimeoutError()):
        provider.content = content
        provider.now += MAX_AGE
        assert provider.ids() == ["one"]
    lines = capfd.readouterr().err.splitlines()
    start = "chimirror-authorize: https://x/jwks:"
    end = "; its last good version stays in use"
    assert lines == [
        f"{start} refused{end}",
        f'{start} no key set; write {{"keys":[...]}} of RFC 7517{end}',
        f"{start} TimeoutError{end}",
    ]
    provider.content = key_set(TWO)
    provider.now += MAX_AGE
    assert provider.ids() == ["two"]
    assert capfd.readouterr().err == f"{start} is good again, and in use\n"


def test_a_url_that_never_worked(capfd: pytest.CaptureFixture[str]) -> None:
    provider = FakeProvider()
    provider.content = OSError("refused")
    keys = KeyUrl("https://x/jwks", provider.fetch, lambda: provider.now)
    with pytest.raises(FileFault, match="https://x/jwks: refused"):
        keys.get()
    assert provider.fetched == 2
    assert capfd.readouterr().err.endswith("refused; no key is in use\n")
    provider.now += MIN_AGE
    provider.content = key_set(TWO)
    assert [key.id for key in keys.get()] == ["two"]


def test_fetching_by_http() -> None:
    with key_server() as server:
        server.response = 200, b'{"keys":[]}'
        assert json.loads(fetch_url(server.url)) == {"keys": []}
        server.response = 302, b""
        with pytest.raises(OSError, match="302"):
            fetch_url(server.url)
        assert server.requests == 2  # the redirection was not followed
        server.response = 404, b""
        with pytest.raises(OSError, match="404"):
            fetch_url(server.url)
        server.response = 200, bytes(MAX_SIZE + 1)
        with pytest.raises(ValueError, match="over 1 MiB"):
            fetch_url(server.url)
    with pytest.raises(OSError, match="refused"):
        fetch_url(server.url)
