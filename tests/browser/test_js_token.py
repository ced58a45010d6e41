"""Tokens of chimirror.js in Node and in a page: what is sent, and what a 401 tells."""

from __future__ import annotations

import base64
import http.server
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fake_server import SUBPROTOCOL
from identity_servers import UNKNOWN, new_token, tokens
from js_cases import CaseRunner, address, cases, runner
from js_runners import Node
from status_server import StatusServer, connect, dead

__all__ = ["cases", "dead", "runner"]  # fixtures

SUPPORT = Path(__file__).parents[1] / "support"
TOKEN = "s3cret~~~/~~~t0ken"  # its base64 has + and /, without "url"
CONTROL = "chimirror.control.v1"


def bearer(token: str) -> str:
    text = base64.urlsafe_b64encode(token.encode()).decode().rstrip("=")
    return f"chimirror.bearer.{text}"


@pytest.mark.parametrize("kind", ["text", "function", "promise"])
def test_a_token_is_a_subprotocol(cases: CaseRunner, kind: str) -> None:
    """A function is called for the session and for its control connection."""
    found = cases.run_case("tokens", ["cat"], kind=kind, token=TOKEN)
    first, second = (
        f"{TOKEN}{number}" if kind != "text" else TOKEN for number in (1, 2)
    )
    alive = "chimirror.alive.v1"
    (session,) = [name for name in found[1] if name.startswith("chimirror.session.")]
    assert found == [
        [SUBPROTOCOL, alive, bearer(first)],
        [CONTROL, session, bearer(second)],
    ]
    assert re.fullmatch(r"chimirror\.session\.[0-9a-f]{32}", session)


def test_wrong_tokens(cases: CaseRunner) -> None:
    wrong = ["", "se cret", "secret\n", "s\u00e9cret", "a:b", 7, None]
    with cases.runner.run_case("wrongTokens", "ws://h/", tokens=wrong) as running_case:
        *found, last = running_case.result()
    text = "a token has letters, digits and -._~+/ alone, and = at its end"
    assert {each["message"].partition(";")[0] for each in found} == {text}
    assert len(found) == 2 * len(wrong)
    assert {each["name"] for each in found} == {"TypeError"}
    assert (last["name"], last["message"]) == ("RangeError", "no token")


def test_a_token_that_does_not_come(cases: CaseRunner) -> None:
    with cases.runner.run_case("lateToken", "ws://h/") as running_case:
        assert running_case.result()["message"] == "enough"


def test_schemes(cases: CaseRunner) -> None:
    fields = [
        [],
        ['Basic realm="a, b", charset="UTF-8"'],
        ['Basic realm="a\\", Evil x", Bearer realm="b"'],
        ["Bearer", 'Basic realm="x"', "bearer"],
        ["Negotiate YWJj==, DPoP algs=x"],
        ["Basic realm = x , charset = UTF-8"],
        [", ".join(f"s{number}" for number in range(99))],
    ]
    with cases.runner.run_case("schemeNames", "", fields=fields) as running_case:
        found = running_case.result()
    assert found == [
        [],
        ["Basic"],
        ["Basic", "Bearer"],
        ["Bearer", "Basic"],
        ["Negotiate", "DPoP"],
        ["Basic"],
        [f"s{number}" for number in range(8)],
    ]


# Refusals. A page of another origin sees none.


class Refusing(http.server.BaseHTTPRequestHandler):
    """Answers each request with a 401, and keeps its fields."""

    asked: list[Any]

    def do_GET(self) -> None:
        self.asked.append(self.headers)
        self.send_response(401)
        self.send_header("WWW-Authenticate", 'Basic realm="a, b"')
        self.send_header("WWW-Authenticate", 'Bearer realm="a"')
        self.end_headers()
        self.wfile.write(b"who are you?\n")

    def log_request(self, *told: object) -> None:
        pass


@contextmanager
def refusing() -> Iterator[tuple[str, list[Any]]]:
    """A server that knows no client. Yields its URL and the requests."""
    asked: list[Any] = []
    kind = type("Kind", (Refusing,), {"asked": asked})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), kind) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        yield f"ws://127.0.0.1:{listening.server_port}/", asked
        listening.shutdown()
        thread.join()


def test_an_unknown_client() -> None:
    with refusing() as (url, asked):
        result = connect(Node(), url, token=TOKEN)
    assert (result["kind"], result["status"]) == ("refused", 401)
    assert result["schemes"] == ["Basic", "Bearer"]
    assert result["message"] == (
        f"{url.split('/')[2]} answers: who are you? (it asks for a user and a password "
        "(Basic) or a token (Bearer))"
    )
    handshake, *_, check = asked  # Node repeats a handshake after 401
    assert handshake["Authorization"] is None
    offered = [name.strip() for name in handshake["Sec-WebSocket-Protocol"].split(",")]
    assert offered[-1] == bearer(TOKEN)
    assert check["Authorization"] == f"Bearer {TOKEN}"
    assert "bearer" not in check["Chimirror-Subprotocol"]


STATUSES = [
    case
    for case in json.loads((SUPPORT / "status_cases.json").read_text())
    if case.get("only", "javascript") == "javascript"
]
REQUESTS = {401: 3, 421: 4}  # Node repeats some, of the handshake and the check


@pytest.mark.parametrize("case", STATUSES, ids=lambda case: case["status"])
def test_statuses(case: dict[str, Any], dead: str) -> None:
    """The table of all clients: which refusal is final, and which wait is observed."""
    status = case["status"]
    again = [101] if case["waits"] else []
    server = StatusServer([status] * REQUESTS.get(status, 2) + again, "0")
    urls = [server.url, dead]
    result = connect(Node(), *urls)
    server.join()
    if case["waits"]:
        assert result["exit"]["reason"] == "exit 0"
    else:
        statuses = [each[1] for each in result["errors"]]
        assert statuses == ([status, None] if case["retry"] else [status])


def test_a_session_with_a_token(cases: CaseRunner) -> None:
    """A server without identity ignores a token."""
    with cases.serve(["cat"]) as service:
        result = connect(cases.runner, address(service), token=TOKEN)
    assert result["exit"]["reason"] == "exit 0"


@pytest.mark.parametrize("kind", ["text", "function", "promise"])
def test_a_server_with_identity(cases: CaseRunner, tmp_path: Path, kind: str) -> None:
    """The page has another origin, which the server allows."""
    origin = cases.runner.origin
    options = ("--origin", origin) if origin else ()
    with tokens(tmp_path, *options) as (service, file):
        token, url = new_token(file, "ann"), f"{address(service)}who"
        with cases.runner.run_case("who", url, kind=kind, token=token) as running_case:
            found = running_case.result()
        refused = connect(cases.runner, url, token="other")
        log = service.log.read_text()
    assert found == {"line": "ann by Bearer", "state": "open"}
    assert refused["kind"] == "refused"
    if origin:
        assert "it needs a login" in refused["message"]
    else:
        assert (refused["status"], refused["schemes"]) == (401, ["Bearer"])
        text = f"{UNKNOWN}: this token is not known (it asks for a token (Bearer))"
        assert refused["message"].endswith(f" answers: {text}")
    assert "CHIMIRROR_USER" in log
    assert token not in log
