"""Tests language servers of other projects behind the lsp framing.

The client is a WebSocket client that knows LSP 3.17 as far as these tests need it. The
knowledge of Python and C is in the servers.
"""

from __future__ import annotations

import itertools
import json
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from processes import until
from serve import SERVICES, Service
from websocket_peer import PATIENCE, Closed

OURS = Subprotocol("chimirror.lsp.v1")


class Place(NamedTuple):
    """A position in the text, from 0, with characters counted in UTF-16 units."""

    line: int
    character: int


class Language(NamedTuple):
    """A language server, a text for it, and the positions in the text."""

    name: str
    command: list[str]
    text: str
    written: str  # part of the hover text
    used: Place
    defined: Place
    begun: Place  # at a word to complete
    hasty: Closed  # close of the session after an exit without shutdown


PYTHON = Language(
    "python",
    [sys.executable, "-P", "-m", "pylsp"],
    'smile = "😀"; é = 1\n\n\n'
    'def greet(name: str) -> str:\n    """Grüße an: 😀."""\n    return name\n\n\n'
    "greet(smile)\ngre",
    "Grüße an: 😀.",
    Place(8, 2),
    Place(3, 4),
    Place(9, 3),
    Closed(1000, "exit 0"),
)
C = Language(
    "c",
    [str(Path(sys.executable).with_name("clangd")), "--background-index=false"],
    "/// Grüße an: 😀.\n"
    "int greet(const char *name) { return name[0]; }\n"
    'int main(void) { return greet("😀"); }\n'
    "int more(void) { return gre",
    "Grüße an: 😀.",
    Place(2, 26),
    Place(1, 4),
    Place(3, 27),
    Closed(1011, "exit 1"),
)


class Editor:
    """An editor with one open document, connected to one language server."""

    def __init__(self, link: ClientConnection, language: Language) -> None:
        self.link = link
        self.language = language
        self.uri = f"file:///nowhere/greet.{language.name}"
        self.numbers = itertools.count(1)
        self.largest = 0  # of the received messages

    def send(self, message: dict[str, Any]) -> None:
        # Spread over lines and not ASCII: both must pass unchanged.
        given = {"jsonrpc": "2.0", **message}
        self.link.send(json.dumps(given, indent=1, ensure_ascii=False))

    def notify(self, method: str, **params: Any) -> None:
        self.send({"method": method, "params": params})

    def ask(self, method: str, **params: Any) -> Any:
        """Send a request. Returns its result, and ignores requests of the server."""
        number = next(self.numbers)
        self.send({"id": number, "method": method, "params": params})
        while True:
            received = self.link.recv(PATIENCE)
            self.largest = max(self.largest, len(received))
            message = json.loads(received)
            if "method" not in message:
                assert message["id"] == number
                return message["result"]
            if "id" in message:
                self.send({"id": message["id"], "result": None})

    def begin(self) -> dict[str, Any]:
        """Initialize the server. Returns its capabilities."""
        able: dict[str, Any] = self.ask(
            "initialize", processId=None, rootUri=None, capabilities={}
        )["capabilities"]
        self.notify("initialized")
        return able

    def open(self, text: str) -> None:
        document = {"uri": self.uri, "languageId": self.language.name, "text": text}
        self.notify("textDocument/didOpen", textDocument={**document, "version": 1})

    def change(self, text: str) -> None:
        document = {"uri": self.uri, "version": 2}
        self.notify(
            "textDocument/didChange",
            textDocument=document,
            contentChanges=[{"text": text}],
        )

    def at(self, what: str, place: Place) -> Any:
        return self.ask(
            f"textDocument/{what}",
            textDocument={"uri": self.uri},
            position=place._asdict(),
        )

    def definition(self) -> Place:
        (found,) = self.at("definition", self.language.used)
        assert found["uri"] == self.uri
        return Place(**found["range"]["start"])

    def words(self) -> list[str]:
        """Return the proposed completions of a word."""
        found = self.at("completion", self.language.begun)
        return [item["label"].strip() for item in found["items"]]

    def closed(self) -> Closed:
        while True:
            try:
                assert "method" in json.loads(self.link.recv(PATIENCE))
            except ConnectionClosed as closed:
                assert closed.rcvd
                return Closed(closed.rcvd.code, closed.rcvd.reason)


@contextmanager
def editing(service: Service, language: Language) -> Iterator[Editor]:
    url = f"ws://127.0.0.1:{service.port}/"
    with connect(url, subprotocols=[OURS], proxy=None) as link:
        assert link.subprotocol == OURS
        yield Editor(link, language)


@pytest.fixture(params=[PYTHON, C], ids=["pylsp", "clangd"])
def language(request: pytest.FixtureRequest) -> Language:
    found: Language = request.param
    return found


@pytest.fixture(params=["server", "activate"])
def service(
    request: pytest.FixtureRequest, language: Language, tmp_path: Path
) -> Iterator[Service]:
    options = ("--framing=lsp", f"--env=XDG_CACHE_HOME={tmp_path}")
    with SERVICES[request.param](tmp_path, language.command, *options) as found:
        yield found
        until(lambda: not found.applications(), "no language server is left")


def test_opened_edited_and_queried(service: Service, language: Language) -> None:
    with editing(service, language) as editor:
        able = editor.begin()
        assert able["hoverProvider"]
        assert able["completionProvider"]
        editor.open(language.text)
        hover = json.dumps(editor.at("hover", language.used), ensure_ascii=False)
        assert language.written in hover
        assert editor.definition() == language.defined
        assert any(word.startswith("greet") for word in editor.words())

        line, character = language.defined
        editor.change("\n" + language.text.replace("gre", "re"))
        editor.language = language._replace(
            used=Place(language.used.line + 1, language.used.character),
            begun=Place(language.begun.line + 1, language.begun.character - 1),
        )
        assert editor.definition() == Place(line + 1, character)
        assert any(word.startswith("reet") for word in editor.words())

        assert editor.ask("shutdown") is None
        editor.notify("exit")
        assert editor.closed() == Closed(1000, "exit 0")


def test_a_large_document_and_a_large_answer(
    service: Service, language: Language
) -> None:
    """Hundreds of kilobytes each way, split at random by pipes and sockets."""
    remark = {"python": "# {}\ndef", "c": "// {}\nvoid"}[language.name]
    rest = {"python": "(): pass\n", "c": "(void) {}\n"}[language.name]
    names = [f"quite_a_long_name_for_number_{number}" for number in range(1000)]
    parts = [f"{remark.format('é' * 99)} {name}{rest}" for name in names]
    with editing(service, language) as editor:
        editor.begin()
        editor.open("".join(parts))
        document = {"uri": editor.uri}
        symbols = editor.ask("textDocument/documentSymbol", textDocument=document)
        assert [symbol["name"] for symbol in symbols] == names
        assert editor.largest > 1 << 17
        editor.ask("shutdown")
        editor.notify("exit")
        assert editor.closed() == Closed(1000, "exit 0")


def test_an_exit_that_was_not_prepared(service: Service, language: Language) -> None:
    """LSP demands status 1. The client gets the status that the server really has."""
    with editing(service, language) as editor:
        editor.begin()
        editor.notify("exit")
        assert editor.closed() == language.hasty


def test_an_editor_that_vanishes(service: Service, language: Language) -> None:
    with editing(service, language) as editor:
        editor.begin()
        editor.open(language.text)
        assert service.applications()
        editor.link.socket.shutdown(socket.SHUT_RDWR)
        until(lambda: not service.applications(), "the language server has gone")
