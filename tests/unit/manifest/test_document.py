"""Manifests: valid AsyncAPI, complete, and equal to the application file.

tests/programs/test_manifest_contract.py compares them with real connections.
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

import asyncapi_validator
from chimirror.control import controller
from chimirror.framing import registry
from chimirror.manifest import document
from chimirror.manifest.interface import Interface
from chimirror.manifest.schema import find_errors
from chimirror.protocol.policy import HandshakePolicy
from recursive_schemas import RECURSIVE, UNRESOLVABLE
from strategies_schemas import TEXTS, VALUES, damaged, schemas
from websocket_peer import payload_of, stdin

ROOT = Path(__file__).parents[3]
JSON = "application/json"
FRAMINGS = tuple(registry.FRAMINGS)
URL = "wss://play.example:8443"


def described(
    interface: Interface,
    *framings: str,
    foreign: dict[str, str] | None = None,
    url: str = "",
    controllable: bool = False,
    **changed: Any,
) -> Any:
    usual: dict[str, Any] = {"client_direction": "both", "read_only": False}
    usual |= {"stderr": None, "pty": False}
    usual |= {"max_message": 1 << 20, "max_line": 1 << 24}
    usual["max_output_message"] = 1 << 15
    usual |= {"control": False, "multiline": "refuse"}
    usual |= {"protocol": None, "preset": {}, "session_id_header": None}
    policy = HandshakePolicy(framings or FRAMINGS, foreign)
    return document.document(
        interface,
        policy,
        SimpleNamespace(**usual | changed),
        url,
        controllable=controllable,
    )


@pytest.fixture(scope="module")
def parser() -> Iterator[asyncapi_validator.Parser]:
    with asyncapi_validator.Parser() as found:
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
    controllable=st.booleans(),
    control=st.booleans(),
    multiline=st.sampled_from(["refuse", "split"]),
    client_direction=st.sampled_from(["send", "receive", "both"]),
    read_only=st.booleans(),
    stderr=st.sampled_from([None, "client", "log", "discard"]),
    pty=st.booleans(),
)


@settings(max_examples=50)
@given(document=DOCUMENTS)
def test_is_valid_and_whole(document: Any, parser: asyncapi_validator.Parser) -> None:
    asyncapi_validator.check(document)
    assert not parser.objections(document)


@settings(max_examples=150)
@given(schema=damaged())
def test_every_schema_without_errors_gives_a_valid_manifest(
    schema: Any, parser: asyncapi_validator.Parser
) -> None:
    if not find_errors(schema):
        document = described(Interface(send_schema=schema), "json")
        asyncapi_validator.check(document)
        assert not parser.objections(document)
        assert not [*asyncapi_validator.dangling(document)]


@pytest.mark.parametrize("schema", [schema for schema, _ in UNRESOLVABLE])
def test_the_official_parser_cannot_resolve_these(
    schema: Any, parser: asyncapi_validator.Parser
) -> None:
    """The official parser still fails on these schemas, so they have to be refused."""
    document = described(Interface(send_schema=schema), "json")
    asyncapi_validator.check(document)
    (objection,) = parser.objections(document)
    assert "Maximum call stack size exceeded" in objection["message"]


@pytest.mark.parametrize("schema", RECURSIVE)
def test_recursive_schemas(schema: Any, parser: asyncapi_validator.Parser) -> None:
    document = described(Interface(send_schema=schema), "json")
    assert not parser.objections(document)


def test_the_validators_find_errors(parser: asyncapi_validator.Parser) -> None:
    document = described(Interface())
    document["operations"]["send-json"]["messages"] = [{"$ref": "#/components/a"}]
    assert [*asyncapi_validator.dangling(document)] == ["#/components/a"]
    assert parser.objections(document)
    del document["info"]["version"]
    assert not asyncapi_validator.specification().is_valid(document)


GUESSING = Interface(
    "animals",
    title="Animals",
    purpose="Guesses the animal you think of.",
    version="1.2.0",
    send_schema={"type": "string", "maxLength": 9},
    send_examples=("yes", "no"),
    receive_examples=("Is it a cat?\n", ["more"], "two\nlines"),
)


def test_texts_of_the_file() -> None:
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


def test_defaults_of_missing_texts() -> None:
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
    # A client without a subprotocol gets the first framing.
    assert [name for name in fields if "required" not in fields[name]] == ["stdio"]
    assert document["x-chimirror"]["default_framing"] == "stdio"


def test_the_preset_and_what_it_set(parser: asyncapi_validator.Parser) -> None:
    options = {"framing": "lines,stdio", "session-id-header": "Acp-Connection-Id"}
    found = described(
        GUESSING,
        "lines",
        "stdio",
        protocol="acp",
        preset=options,
        session_id_header="Acp-Connection-Id",
    )
    assert not parser.objections(found)
    extension = found["x-chimirror"]
    assert (extension["protocol"], extension["protocol_options"]) == ("acp", options)
    assert extension["session_id_header"] == "Acp-Connection-Id"
    none = described(GUESSING)["x-chimirror"]
    assert (none["protocol"], none["protocol_options"]) == (None, {})
    assert none["session_id_header"] is None


def messages_by_action(**changed: Any) -> dict[str, set[str]]:
    """Return the names of the messages of each operation."""
    return {
        name: {each["$ref"].rpartition("/")[2] for each in operation["messages"]}
        for name, operation in described(GUESSING, **changed)["operations"].items()
    }


def test_a_client_sends_what_the_application_receives() -> None:
    assert messages_by_action() == {
        "receive-json": {"text"},
        "send-json": {"stdout", "stderr", "error"},
        "receive-stdio": {"stdin", "eof", "signal"},
        "send-stdio": {"session", "alive", "stdout", "stderr", "error", "exit"},
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
    assert messages_by_action(client_direction="receive") == {
        "send-json": {"stdout", "stderr", "error"},
        "receive-stdio": {"eof", "signal"},
        "send-stdio": {"session", "alive", "stdout", "stderr", "error", "exit"},
        "send-lines": {"output"},
        "send-lsp": {"output"},
    }
    contract = described(GUESSING, client_direction="receive")["x-chimirror"]
    assert contract["direction"] == "receive"
    assert 1008 in [each["code"] for each in contract["close"]]


def test_a_client_that_only_watches() -> None:
    way: dict[str, Any] = {"client_direction": "receive", "read_only": True}
    assert "receive-stdio" not in messages_by_action(**way)
    assert messages_by_action(**way, pty=True)["receive-stdio"] == {
        "resize",
        "window",
    }
    document = described(GUESSING, "stdio", **way)
    assert 1008 not in [each["code"] for each in document["x-chimirror"]["close"]]
    session = document["channels"]["stdio"]["messages"]["session"]["payload"]
    fits = partial(asyncapi_validator.fits, document, session)
    message = {"type": "session", "id": "6f", "direction": "receive"}
    assert fits({**message, "read_only": True})
    assert not fits(message)


def test_a_client_that_only_sends() -> None:
    found = messages_by_action(client_direction="send")
    assert found["send-json"] == {"error"}
    assert found["send-stdio"] == {"session", "alive", "error", "exit"}
    assert "send-lines" not in found
    assert "send-lsp" not in found


def test_a_terminal() -> None:
    """A terminal has a size, and shows standard error with the rest."""
    document = described(GUESSING, "json", "stdio", pty=True)
    assert document["x-chimirror"]["pty"] is True
    assert described(GUESSING)["x-chimirror"]["pty"] is False
    for channel in document["channels"].values():
        headers = channel["bindings"]["ws"]["headers"]["properties"]
        assert (
            "chimirror.size.80x24" in headers["Sec-WebSocket-Protocol"]["description"]
        )
    messages = document["channels"]["stdio"]["messages"]
    assert {"resize", "stdout", "session"} <= messages.keys()
    assert "stderr" not in messages
    assert "stderr" not in document["channels"]["json"]["messages"]
    fits = partial(asyncapi_validator.fits, document)
    resize, session = messages["resize"]["payload"], messages["session"]["payload"]
    window = messages["window"]["payload"]
    assert fits(window, {"type": "window", "bytes": 2**53 - 1})
    assert not fits(window, {"type": "window", "bytes": -1})
    assert fits(resize, {"type": "resize", "columns": 80, "rows": 65535})
    assert not fits(resize, {"type": "resize", "columns": 0, "rows": 24})
    message = {"type": "session", "id": "6f", "direction": "both"}
    assert fits(session, {**message, "pty": True, "window": True})
    assert not fits(session, {**message, "pty": True})
    assert not fits(session, message)


def test_examples() -> None:
    document = described(GUESSING)

    def examples(framing: str, name: str) -> list[Any]:
        message = document["channels"][framing]["messages"][name]
        found = [each["payload"] for each in message["examples"]]
        assert all(
            asyncapi_validator.fits(document, message["payload"], each)
            for each in found
        )
        return found

    assert examples("json", "text") == ["yes", "no"]
    assert examples("stdio", "stdin")[0] == stdin(b"yes\n")
    said = [b"Is it a cat?\n", b'["more"]\n', b"two\nlines\n"]
    assert [*map(payload_of, examples("json", "stdout"))] == said
    # Text stays text, and other values become JSON.
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
        assert asyncapi_validator.fits(document, message["payload"], 1)
        assert not asyncapi_validator.fits(document, message["payload"], 2)
    line = wrapped(channels["stdio"]["messages"]["stdin"])["x-chimirror-line"]
    assert line["contentType"] == JSON
    assert asyncapi_validator.fits(document, line["schema"], 1)
    line = wrapped(channels["json"]["messages"]["stdout"])["x-chimirror-line"]
    assert asyncapi_validator.lookup(document, line["schema"]["$ref"]) == {
        "type": "object"
    }
    assert "x-chimirror-line" not in wrapped(channels["json"]["messages"]["stderr"])


def test_schemas_of_text() -> None:
    """A schema of strings describes lines, and JSON strings for JSON framings."""
    document = described(GUESSING)
    channels = document["channels"]
    line = channels["lines"]["messages"]["line"]
    assert line["contentType"] == "text/plain"
    assert asyncapi_validator.fits(document, line["payload"], "an owl")
    assert not asyncapi_validator.fits(document, line["payload"], "0123456789")
    assert not asyncapi_validator.fits(document, line["payload"], "a\nb")
    piece = wrapped(channels["stdio"]["messages"]["stdin"])["x-chimirror-line"]
    assert piece["contentType"] == "text/plain"
    assert asyncapi_validator.fits(
        document, channels["json"]["messages"]["text"]["payload"], "a"
    )
    # The file does not describe the output.
    assert "x-chimirror-line" not in wrapped(channels["json"]["messages"]["stdout"])
    assert channels["lines"]["messages"]["output"]["contentType"] == "text/plain"


def test_pieces_of_bodies() -> None:
    """An application that is served with lsp writes headers and bodies to stdout."""
    schema = {"type": "object"}
    interface = Interface(receive_schema=schema, receive_examples=({"é": 1},))
    document = described(interface, "lsp", "stdio")
    message = document["channels"]["stdio"]["messages"]["stdout"]
    piece = wrapped(message)
    assert "x-chimirror-line" not in piece
    assert piece["x-chimirror-body"]["contentType"] == JSON
    assert asyncapi_validator.fits(document, piece["x-chimirror-body"]["schema"], {})
    (example,) = message["examples"]
    text = payload_of(example["payload"])
    assert text == b'Content-Length: 13\r\n\r\n{"\\u00e9": 1}'


def test_a_message_of_several_lines() -> None:
    document = described(GUESSING, "lines", multiline="split")
    line = document["channels"]["lines"]["messages"]["line"]
    assert asyncapi_validator.fits(document, line["payload"], "a\nb")
    assert not asyncapi_validator.fits(document, line["payload"], 1)
    reasons = [each["reason"] for each in document["x-chimirror"]["close"]]
    assert "line break outside JSON" not in reasons
    assert "line not UTF-8" in reasons


def wrapped(message: Any) -> Any:
    return message["payload"]["properties"]["payload"]


def test_close_reasons_are_those_of_the_manual() -> None:
    page = (ROOT / "man" / "chimirror-protocol.7").read_text()
    told = page[page.index(".Sh CLOSE") : page.index(".Sh ORDER")]
    told += page[page.index(".Sh MESSAGES") : page.index(".Sh CLOSE")]
    closes = described(GUESSING, direction="receive")["x-chimirror"]["close"]
    for close in closes:
        assert f".It {close['code']}" in told
        assert close["reason"] in " ".join(told.split())


def test_the_control_channel() -> None:
    document = described(GUESSING, controllable=True)
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
    found = messages_by_action(controllable=True)
    assert found["receive-control"] == {"authorize", *controller.METHODS}
    assert found["send-control"] == {"result", "fault", "changed"}
    assert described(GUESSING)["x-chimirror"]["control"] is False


def test_methods_of_the_application() -> None:
    found = messages_by_action(controllable=True, control=True)
    assert found["receive-control"] == {"authorize", "another", *controller.METHODS}
    assert found["send-control"] == {"result", "fault", "changed", "told"}
    assert described(GUESSING, control=True)["x-chimirror"]["control"] is True


def test_entry() -> None:
    policy = HandshakePolicy(["lines"], {"mcp": "lines"})
    settings = SimpleNamespace(
        client_direction="both", protocol="mcp", max_message=9, control=True, pty=True
    )
    assert document.catalog_entry(GUESSING, policy, settings) == {
        "name": "animals",
        "title": "Animals",
        "purpose": "Guesses the animal you think of.",
        "version": "1.2.0",
        "path": "/animals",
        "manifest": "/animals/asyncapi.json",
        "framings": ["lines"],
        "subprotocols": ["chimirror.lines.v1", "mcp"],
        "protocol": "mcp",
        "direction": "both",
        "control": True,
        "pty": True,
    }
    assert document.catalog_entry(Interface(), policy, settings)["path"] == "/"
    assert (
        document.catalog_entry(Interface(), policy, settings)["manifest"]
        == "/asyncapi.json"
    )
