"""chimirror-authorize jwt with a key set by HTTP, and with one of a file."""

from __future__ import annotations

from pathlib import Path

from authorize_program import http_authorizer, json_authorizer, run
from token_issuer import AUDIENCE, ISSUER, SigningKey, key_server, key_set

OPTIONS = ("--issuer", ISSUER, "--audience", AUDIENCE)
ONE, TWO = SigningKey("one"), SigningKey("two", number=1)


def test_a_key_set_by_http() -> None:
    with key_server() as server:
        server.response = 200, key_set(ONE.public())
        with json_authorizer(*OPTIONS, "--jwks", server.url, "jwt") as authorizer:
            claims = {"groups": ["staff"], "sub": "jörg"}
            field = f"Bearer {ONE.token(**claims)}"
            yes = {"status": 200, "user": "jörg", "groups": ["staff"]}
            assert authorizer.ask(field) == yes
            assert authorizer.ask(f"Bearer {TWO.token()}")["status"] == 401
            assert authorizer.ask(field) == yes
        assert server.requests == 1  # an unknown key fetches no set that is new


def test_a_rotated_key_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_bytes(key_set(ONE.public()))
    options = (*OPTIONS, "--jwks", path, "--cookie", "sid", "jwt")
    with http_authorizer(tmp_path, *options) as authorizer:
        cookie = f"a=b; sid={TWO.token()}"
        response = authorizer.ask(Cookie=cookie)
        assert response.status == 401
        assert "not known" in response.headers["WWW-Authenticate"]
        path.write_bytes(key_set(ONE.public(), TWO.public()))
        assert authorizer.ask(Cookie=cookie).headers["Remote-User"] == "ann"
        assert TWO.token() not in authorizer.log.read_text()


def test_no_key_set(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("{}")
    done = run(*OPTIONS, "--jwks", tmp_path / "keys", "jwt")
    assert done.returncode == 78
    assert "keys: no key set; write" in done.stderr
