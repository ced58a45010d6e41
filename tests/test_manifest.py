"""Manifests: valid AsyncAPI, whole, and made of what the application file says.

(That the socket does what they say is in test_manifest_live.py.)
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import asyncapi
from chimirror import helm
from chimirror.wire import manifest
from chimirror.wire.handshake import Policy
from chimirror.wire.interface import Interface
from chimirror.wire.schema import faults
from peers import payload_of, stdin
from schemas import TEXTS, VALUES, damaged, schemas

ROOT = Path(__file__).parent.parent
JSON = "application/json"
FRAMINGS = ("json", "stdio", "lines", "lsp")
URL = "wss://play.example:8443"


def described(
    interface: Interface,
    *framings: str,
    foreign: dict[str, str] | None = None,
    url: str = "",
    steerable: bool = False,
    **changed: Any,
) -> Any:
    usual: dict[str, Any] = {"direction": "both", "stderr": None, "pty": False}
    usual |= {"max_message": 1 << 20, "control": False}
    policy = Policy(framings or FRAMINGS, foreign)
    return manifest.document(
        interface,
        policy,
        SimpleNamespace(**usual | changed),
        url,
        steerable=steerable,
    )


@pytest.fixture(scope="module")
def parser() -> Iterator[asyncapi.Parser]:
    with asyncapi.Parser() as found:
        yield found


INTERFACES = st.builds(
    Interface,
    st.sampled_from(["", "animals", "A.b-c_9"]),
    title=TEXTS,
    purpose=TEXTS,
    version=TEXTS,
    send_schema=st.none() | schemas(),
    send_examples=st.lists(VALUES, max_size=2).map(tuple),
    receive_schema=st.none() | schemas(),
    receive_examples=st.lists(VALUES, max_size=2).map(tuple),
)
DOCUMENTS = st.builds(
    lambda interface, framings, **rest: described(interface, *framings, **rest),
    INTERFACES,
    st.lists(st.sampled_from(FRAMINGS), min_size=1, unique=True),
    foreign=st.dictionaries(
        st.sampled_from(["mcp", "graphql-ws"]), st.sampled_from(FRAMINGS)
    ),
    url=st.sampled_from(["", URL, "ws://[::1]:30747/below"]),
    steerable=st.booleans(),
    control=st.booleans(),
    direction=st.sampled_from(["send", "receive", "both"]),
    stderr=st.sampled_from([None, "client", "log", "discard"]),
    pty=st.booleans(),
)


@settings(max_examples=50, deadline=None)
@given(document=DOCUMENTS)
def test_is_valid_and_whole(document: Any) -> None:
    asyncapi.check(document)


@settings(max_examples=150, deadline=None)
@given(damaged())
def test_whatever_has_no_fault_makes_a_valid_manifest(schema: Any) -> None:
    if not faults(schema):
        asyncapi.check(described(Interface(send_schema=schema), "json"))


@pytest.mark.timeout(180)  # it takes its time
@settings(max_examples=10, deadline=None)
@given(document=DOCUMENTS)
def test_the_official_parser_agrees(document: Any, parser: asyncapi.Parser) -> None:
    assert not parser.objections(document)


def test_the_judges_see_what_is_wrong(parser: asyncapi.Parser) -> None:
    document = described(Interface())
    document["operations"]["send-json"]["messages"] = [{"$ref": "#/components/a"}]
    assert [*asyncapi.dangling(document)] == ["#/components/a"]
    assert parser.objections(document)
    del document["info"]["version"]
    assert not asyncapi.specification().is_valid(document)


GUESSING = Interface(
    "animals",
    title="Animals",
    purpose="Guesses the animal you think of.",
    version="1.2.0",
    send_schema={"type": "string", "maxLength": 9},
    send_examples=("yes", "no"),
    receive_examples=("Is it a cat?\n", ["more"], "two\nlines"),
)


def test_what_the_file_says() -> None:
    document = described(GUESSING, url=URL + "/games/")
    assert document["info"] == {
        "title": "Animals",
        "version": "1.2.0",
        "description": "Guesses the animal you think of.",
    }
    assert document["servers"] == {
        "here": {"host": "play.example:8443", "protocol": "wss", "pathname": "/games"}
    }
    assert {each["address"] for each in document["channels"].values()} == {"/animals"}


def test_what_nobody_says() -> None:
    document = described(Interface())
    assert document["info"] == {"title": "An application", "version": "unknown"}
    assert "servers" not in document
    assert {each["address"] for each in document["channels"].values()} == {"/"}
    assert described(Interface("vault"))["info"]["title"] == "vault"


def test_a_channel_for_each_framing() -> None:
    document = described(
        GUESSING, "stdio", "json", foreign={"mcp": "lines", "j": "json"}
    )
    fields = {
        name: channel["bindings"]["ws"]["headers"]
        for name, channel in document["channels"].items()
    }
    offers = {
        name: field["properties"]["Sec-WebSocket-Protocol"]["enum"]
        for name, field in fields.items()
    }
    assert offers == {
        "stdio": ["chimirror.stdio.v1"],
        "json": ["chimirror.json.v1", "j"],
        "lines": ["mcp"],
    }
    # Who offers none gets the first framing.
    assert [name for name in fields if "required" not in fields[name]] == ["stdio"]
    assert document["x-chimirror"]["default_framing"] == "stdio"


def ways(**changed: Any) -> dict[str, set[str]]:
    """The names of the messages of each operation."""
    return {
        name: {each["$ref"].rpartition("/")[2] for each in operation["messages"]}
        for name, operation in described(GUESSING, **changed)["operations"].items()
    }


def test_a_client_sends_what_the_application_receives() -> None:
    assert ways() == {
        "receive-json": {"text"},
        "send-json": {"stdout", "stderr", "error"},
        "receive-stdio": {"stdin", "eof", "signal"},
        "send-stdio": {"session", "stdout", "stderr", "error", "exit"},
        "receive-lines": {"line"},
        "send-lines": {"output"},
        "receive-lsp": {"message"},
        "send-lsp": {"output"},
    }
    actions = {
        name: each["action"] for name, each in described(GUESSING)["operations"].items()
    }
    assert all(name.startswith(action + "-") for name, action in actions.items())


def test_a_client_that_only_receives() -> None:
    assert ways(direction="receive") == {
        "send-json": {"stdout", "stderr"},
        "send-stdio": {"session", "stdout", "stderr", "exit"},
        "send-lines": {"output"},
        "send-lsp": {"output"},
    }
    contract = described(GUESSING, direction="receive")["x-chimirror"]
    assert contract["direction"] == "receive"
    assert 1008 in [each["code"] for each in contract["close"]]


def test_a_client_that_only_sends() -> None:
    found = ways(direction="send")
    assert found["send-json"] == {"error"}
    assert found["send-stdio"] == {"session", "error", "exit"}
    assert "send-lines" not in found
    assert "send-lsp" not in found


def test_a_terminal() -> None:
    """It has a size, and standard error is shown with the rest."""
    document = described(GUESSING, "json", "stdio", pty=True)
    messages = document["channels"]["stdio"]["messages"]
    assert {"resize", "stdout", "session"} <= messages.keys()
    assert "stderr" not in messages
    assert "stderr" not in document["channels"]["json"]["messages"]
    fits = partial(asyncapi.fits, document)
    resize, session = messages["resize"]["payload"], messages["session"]["payload"]
    assert fits(resize, {"type": "resize", "columns": 80, "rows": 65535})
    assert not fits(resize, {"type": "resize", "columns": 0, "rows": 24})
    assert fits(session, {"type": "session", "id": "6f", "pty": True})
    assert not fits(session, {"type": "session", "id": "6f"})


def test_examples() -> None:
    document = described(GUESSING)

    def examples(framing: str, name: str) -> list[Any]:
        message = document["channels"][framing]["messages"][name]
        found = [each["payload"] for each in message["examples"]]
        assert all(asyncapi.fits(document, message["payload"], each) for each in found)
        return found

    assert examples("json", "text") == ["yes", "no"]
    assert examples("stdio", "stdin")[0] == stdin(b"yes\n")
    said = [b"Is it a cat?\n", b'["more"]\n', b"two\nlines\n"]
    assert [*map(payload_of, examples("json", "stdout"))] == said
    # Text is what it is, all else the JSON of it.
    assert examples("lines", "line") == ["yes", "no"]
    assert examples("lines", "output") == ["Is it a cat?", '["more"]']
    assert examples("lsp", "message") == ["yes", "no"]


def test_schemas_of_json() -> None:
    document = described(
        Interface(
            send_schema={
                "$ref": "#/definitions/a",
                "definitions": {"a": {"enum": [1]}},
            },
            receive_schema={"type": "object"},
        )
    )
    channels = document["channels"]
    for framing, name in (("json", "text"), ("lines", "line"), ("lsp", "message")):
        message = channels[framing]["messages"][name]
        assert message.get("contentType", document["defaultContentType"]) == JSON
        assert asyncapi.fits(document, message["payload"], 1)
        assert not asyncapi.fits(document, message["payload"], 2)
    line = wrapped(channels["stdio"]["messages"]["stdin"])["x-chimirror-line"]
    assert line["contentType"] == JSON
    assert asyncapi.fits(document, line["schema"], 1)
    line = wrapped(channels["json"]["messages"]["stdout"])["x-chimirror-line"]
    assert asyncapi.lookup(document, line["schema"]["$ref"]) == {"type": "object"}
    assert "x-chimirror-line" not in wrapped(channels["json"]["messages"]["stderr"])


def test_schemas_of_text() -> None:
    """A schema of strings is one of lines, and of JSON strings where all is JSON."""
    document = described(GUESSING)
    channels = document["channels"]
    line = channels["lines"]["messages"]["line"]
    assert line["contentType"] == "text/plain"
    assert asyncapi.fits(document, line["payload"], "an owl")
    assert not asyncapi.fits(document, line["payload"], "0123456789")
    assert not asyncapi.fits(document, line["payload"], "a\nb")
    piece = wrapped(channels["stdio"]["messages"]["stdin"])["x-chimirror-line"]
    assert piece["contentType"] == "text/plain"
    assert asyncapi.fits(document, channels["json"]["messages"]["text"]["payload"], "a")
    # Nobody has said anything of the output.
    assert "x-chimirror-line" not in wrapped(channels["json"]["messages"]["stdout"])
    assert channels["lines"]["messages"]["output"]["contentType"] == "text/plain"


def wrapped(message: Any) -> Any:
    return message["payload"]["properties"]["payload"]


def test_close_reasons_are_those_of_the_manual() -> None:
    page = (ROOT / "man" / "chimirror-protocol.7").read_text()
    told = page[page.index(".Sh CLOSE") : page.index(".Sh ORDER")]
    told += page[page.index(".Sh MESSAGES") : page.index(".Sh CLOSE")]
    closes = described(GUESSING, direction="receive")["x-chimirror"]["close"]
    for close in closes:
        assert f".It {close['code']}" in told
        example = {"exit N": "exit 3", "signal NAME": "signal KILL"}
        assert example.get(close["reason"], close["reason"]) in " ".join(told.split())


def test_the_control_part() -> None:
    document = described(GUESSING, steerable=True)
    assert document["channels"]["control"]["bindings"]["ws"]["headers"] == {
        "type": "object",
        "required": ["Sec-WebSocket-Protocol"],
        "properties": {
            "Sec-WebSocket-Protocol": {
                "type": "string",
                "enum": ["chimirror.control.v1"],
            }
        },
    }
    found = ways(steerable=True)
    assert found["receive-control"] == {"authorize", *helm.METHODS}
    assert found["send-control"] == {"result", "fault", "changed"}
    assert described(GUESSING)["x-chimirror"]["control"] is False


def test_what_is_passed_on() -> None:
    found = ways(steerable=True, control=True)
    assert found["receive-control"] == {"authorize", "another", *helm.METHODS}
    assert found["send-control"] == {"result", "fault", "changed", "told"}
    assert described(GUESSING, control=True)["x-chimirror"]["control"] is True


def test_entry() -> None:
    policy = Policy(["lines"], {"mcp": "lines"})
    settings = SimpleNamespace(
        direction="both", stderr=None, max_message=9, control=True
    )
    assert manifest.entry(GUESSING, policy, settings) == {
        "name": "animals",
        "title": "Animals",
        "purpose": "Guesses the animal you think of.",
        "version": "1.2.0",
        "path": "/animals",
        "manifest": "/animals/asyncapi.json",
        "framings": ["lines"],
        "subprotocols": ["chimirror.lines.v1", "mcp"],
        "direction": "both",
        "control": True,
    }
    assert manifest.entry(Interface(), policy, settings)["path"] == "/"
    assert manifest.entry(Interface(), policy, settings)["manifest"] == "/asyncapi.json"
