"""The clients log in at real servers, which ask chimirror-authorize.

Both APIs of the library, and chimirror-connect.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from chimirror.client import Forbidden, Unauthorized
from client_apis import APIS, Connect
from connect_process import connect as run_connect
from connect_process import error_text
from identity_servers import PASSWORD, UNKNOWN, new_token, passwords, tokens
from serve import Service

ANN = b"ann by Bearer\n"


@pytest.fixture(params=sorted(APIS))
def connect(request: pytest.FixtureRequest) -> Connect:
    return APIS[request.param]


def url_of(service: Service, user: str = "", path: str = "who") -> str:
    return f"ws://{user}127.0.0.1:{service.port}/{path}"


def secret(path: Path, text: str) -> str:
    path.write_text(f"{text}\n")
    path.chmod(0o600)
    return str(path)


# The library.


def test_a_token(connect: Connect, tmp_path: Path) -> None:
    """It opens the control connection too, which belongs to the user."""
    with tokens(tmp_path) as (service, file):
        token = new_token(file, "ann")
        with connect(url_of(service), token=lambda: token) as session:
            assert session.control.status()["state"] == "open"
            assert session.communicate(b"").stdout == ANN


def test_a_token_that_is_not_valid(connect: Connect, tmp_path: Path) -> None:
    with tokens(tmp_path) as (service, file):
        url = url_of(service)
        with pytest.raises(Unauthorized) as caught, connect(url):
            pass
        assert caught.value.text == f"{UNKNOWN}: log in with a token"
        with pytest.raises(Unauthorized) as caught, connect(url, token="other"):
            pass
        assert caught.value.text == f"{UNKNOWN}: this token is not known"
        assert (caught.value.schemes, caught.value.retry) == (("Bearer",), False)
        token = new_token(file, "ann", "--application", "other")
        with pytest.raises(Forbidden) as refused, connect(url, token=token):
            pass
        assert refused.value.text == "this token does not allow this application"


def test_a_password_of_the_url(connect: Connect, tmp_path: Path) -> None:
    with passwords(tmp_path) as service:
        url = url_of(service, "ann:s%3A%C3%A9cret@")
        with connect(url) as session:
            assert session.control.status()["state"] == "open"
            assert session.communicate(b"").stdout == b"ann by Basic\n"
        with pytest.raises(Unauthorized) as caught, connect(url_of(service, "ann:x@")):
            pass
        assert caught.value.schemes == ("Basic",)


# chimirror-connect.


def test_a_token_in_a_file(tmp_path: Path) -> None:
    with tokens(tmp_path) as (service, file):
        option = "--token-file", secret(tmp_path / "token", new_token(file, "ann"))
        assert run_connect(*option, url_of(service)).stdout == ANN
        found = run_connect(*option, "--list", url_of(service, path="")).stdout
        assert [line.split()[0] for line in found.splitlines()] == [
            *(b"NAME", b"other", b"who")
        ]
        # Without a name in the URL, the list is asked for with the token too.
        done = run_connect(*option, url_of(service, path=""))
        assert (done.returncode, b"\nwho" in done.stderr) == (64, True)
        done = run_connect(url_of(service))
        assert error_text(done) == (
            f"401 Unauthorized: {UNKNOWN}: log in with a token (it asks for a token "
            "(Bearer)); log in with --token-file FILE"
        )


def test_a_password_in_a_netrc_file(tmp_path: Path) -> None:
    entry = f"machine 127.0.0.1 login ann password {PASSWORD}"
    with passwords(tmp_path) as service:
        option = "--netrc-file", secret(tmp_path / "netrc", entry)
        assert run_connect(*option, url_of(service)).stdout == b"ann by Basic\n"
        done = run_connect(url_of(service))
    assert error_text(done).endswith("log in with --netrc-file FILE")
