"""Tests that a socket behaves as its manifest says, for files that Hypothesis makes.

The manifest is read from the socket that it describes. Expectations come from the
manifest only: the subprotocols, the messages in each direction, their form and maximum
size. Sessions run in this process (session_harness), those of real programs at the end.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import asyncapi_validator
from app_servers import AppServer, bridges, servers
from chimirror.session.connection import OPEN
from manifest_reader import FIELD, ManifestReader, request
from session_harness import SessionHarness
from strategies_apps import FOREIGN, FRAMINGS, Application, Side, applications, toml
from websocket_peer import Closed, Peer, payload_of, stdin, text, upgrade

KNOWN = [*(f"chimirror.{name}.v1" for name in FRAMINGS), *FOREIGN]


class Staged(ManifestReader):
    """An application in this process, with checks of its manifest."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        with self.harness() as harness:
            harness.ask(request("/game/asyncapi.json"))
            super().__init__(harness.peer.refusal())

    def harness(self) -> SessionHarness:
        return SessionHarness("--apps", str(self._directory))

    @contextmanager
    def session(self, channel: str) -> Iterator[SessionHarness]:
        """An open session on one of the channels."""
        with self.harness() as harness:
            offer = f"{FIELD}: {self.offers(channel)[-1]}"
            harness.open("", offer, target=self.address(channel))
            yield harness


@contextmanager
def opened_manifest(application: Application) -> Iterator[Staged]:
    with TemporaryDirectory() as directory:
        Path(directory, "game.toml").write_text(application.text)
        yield Staged(Path(directory))


# Messages, and their content for the application


def compact(value: Any) -> bytes:
    return json.dumps(value).encode()


def line_of(channel: str, side: Side, value: Any) -> bytes:
    """Encode a value for standard input or output."""
    if channel == "lines" and side.is_text:
        return str(value).encode() + b"\n"
    raw = compact(value)
    if channel == "lsp":
        return b"Content-Length: %d\r\n\r\n%b" % (len(raw), raw)
    return raw + b"\n"


def message_of(channel: str, side: Side, value: Any) -> bytes:
    """Encode a value for the wire, where it is not wrapped."""
    return line_of(channel, side, value).rpartition(b"\r\n")[2].removesuffix(b"\n")


def sayable(
    channel: str, name: str, side: Side
) -> st.SearchStrategy[tuple[bytes, bytes]]:
    """Return messages of this name, each with the bytes that standard input gets."""
    if name == "stdin":
        return st.binary(max_size=9).map(lambda data: (compact(stdin(data)), data))
    if name == "eof":
        return st.just((b'{"type":"eof"}', b""))
    if name == "signal":
        return st.just((b'{"type":"signal","name":"USR1"}', b""))
    return side.values.map(
        lambda value: (message_of(channel, side, value), line_of(channel, side, value))
    )


def end(harness: SessionHarness) -> tuple[list[bytes], Closed]:
    """Return the messages of a session and its close."""
    said: list[bytes] = []
    while not isinstance(got := harness.peer.receive(), Closed):
        said.append(got)
    return said, got


@settings(max_examples=60)
@given(applications())
def test_subprotocols(application: Application) -> None:
    with opened_manifest(application) as manifest:
        channels = {
            name: channel
            for channel in manifest.channels
            for name in manifest.offers(channel)
        }
        assert channels == application.offered()
        asyncapi_validator.check(manifest.document)
        for name in KNOWN:
            with manifest.harness() as harness:
                harness.ask(upgrade("/game", "", (f"{FIELD}: {name}",)))
                reply = harness.peer.head()
                if name not in channels:
                    assert reply.status == 400
                    continue
                assert reply.fields[FIELD.lower()] == name
                assert harness.session.framing.name == channels[name]


@settings(max_examples=60)
@given(applications())
def test_client_without_subprotocol(application: Application) -> None:
    with opened_manifest(application) as manifest, manifest.harness() as harness:
        harness.open("", target="/game")
        optional = [
            name
            for name in manifest.channels
            if "required" not in manifest.headers(name)
        ]
        assert optional == [harness.session.framing.name]
        assert optional == [manifest.contract["default_framing"]]


@settings(max_examples=60)
@given(applications(), st.data())
def test_what_a_client_may_send(application: Application, data: st.DataObject) -> None:
    with opened_manifest(application) as manifest:
        for channel in manifest.channels:
            messages = manifest.messages(channel, "receive")
            said = {
                name: data.draw(sayable(channel, name, application.send))
                for name in messages
            }
            with manifest.session(channel) as harness:
                for name, (raw, line) in said.items():
                    assert manifest.fits(messages[name], raw)
                    harness.say(text(raw))
                    assert harness.application.read_stdin() == line
                harness.exit()
                told, closed = end(harness)
            assert {manifest.kind(channel, raw) for raw in told} <= {"session", "exit"}
            assert closed == (1000, "exit 0")


@settings(max_examples=60)
@given(applications(), st.data())
def test_what_a_client_gets(application: Application, data: st.DataObject) -> None:
    with opened_manifest(application) as manifest:
        for channel in manifest.channels:
            messages = manifest.messages(channel, "send")
            value = data.draw(application.receive.values)
            line = line_of(channel, application.receive, value)
            with manifest.session(channel) as harness:
                harness.print(line)
                if harness.application.stderr >= 0:
                    harness.print(b"\xff\x00", "stderr")
                if "error" in messages:
                    harness.say(text(b"no JSON"))
                harness.exit()
                said, _ = end(harness)
            found = {manifest.kind(channel, raw): raw for raw in said}
            assert found.keys() == messages.keys() - UNASKED
            if "stdout" in found:
                assert payload_of(json.loads(found["stdout"])) == line
            if "output" in found:
                expected = message_of(channel, application.receive, value)
                assert found["output"] == expected


UNASKED = {"alive"}  # only for clients that offer to get them
NO_INPUT = {"eof", "signal", "resize", "window"}
INPUT = b'{"type":"stdin","payload":"eA=="}'  # in each framing


@settings(max_examples=60)
@given(applications())
def test_direction(application: Application) -> None:
    with opened_manifest(application) as manifest:
        direction = manifest.contract["direction"]
        assert direction == application.direction
        assert manifest.contract["control"] is application.control
        for channel in manifest.channels:
            hears = bool(manifest.messages(channel, "receive").keys() - NO_INPUT)
            speaks = {"stdout", "output"} & manifest.messages(channel, "send").keys()
            assert (hears, bool(speaks)) == (
                direction != "receive",
                direction != "send",
            )
            if hears:
                continue
            with manifest.session(channel) as harness:
                # the end of the session
                assert os.read(harness.application.stdin, 1) == b""
                harness.say(text(INPUT))
                _, closed = end(harness)
            assert {"code": closed.code, "reason": closed.reason}.items() <= next(
                each.items()
                for each in manifest.contract["close"]
                if each["code"] == 1008
            )


@settings(max_examples=60)
@given(applications())
def test_the_largest_message(application: Application) -> None:
    with opened_manifest(application) as manifest:
        size = manifest.contract["max_message"]
        assert size == application.max_message
        for channel in manifest.channels:
            if not manifest.messages(channel, "receive"):
                continue
            with manifest.session(channel) as harness:
                harness.say(text(b'{"type":"signal","name":"USR1"}'.ljust(size)))
                assert harness.session.connection.state == OPEN
                harness.say(text(b'{"type":"signal","name":"USR1"}'.ljust(size + 1)))
                _, closed = end(harness)
            assert closed == (1009, "over --max-message")


# Real programs

# Writes a line, and then a response to each request.
CONTROL_APPLICATION = """
import json, os, socket
control = socket.socket(fileno=int(os.environ["CHIMIRROR_CONTROL_FD"]))
for line in control.makefile():
    asked = json.loads(line)
    for said in (
        {"jsonrpc": "2.0", "method": "turned", "params": [1]},
        {"jsonrpc": "2.0", "id": asked["id"], "result": [asked["method"]]},
    ):
        control.sendall(json.dumps(said).encode() + b"\\n")
"""
FILES = {
    "cat": """
        command = ["cat"]
        framing = "json,stdio,lines,lsp"
        subprotocol = { mcp = "lines" }
        max-message = 1000
        [interface.send]
        examples = [{ a = 1 }]
    """,
    "controlled": f"""
        command = ["python3", "-c", {toml(CONTROL_APPLICATION)}]
        framing = "stdio,json"
        direction = "send"
        control = true
    """,
    "terminal": """
        command = ["cat"]
        framing = "stdio,json"
        pty = true
        [interface.send]
        examples = ["hello"]
    """,
    "clock": """
        command = ["sh", "-c", "echo '[12, 0]'; echo noon >&2; exec sleep 60"]
        framing = "lines,json,stdio"
        direction = "receive"
        [interface.receive.schema]
        type = "array"
        items = { type = "integer" }
    """,
    "diary": """
        command = ["sh", "-c", "echo dear diary; exec cat"]
        framing = "stdio,json,lines,lsp"
        direction = "send"
        [interface.send]
        examples = ["slept well"]
    """,
}


@pytest.mark.parametrize("ways", [bridges, servers])
@pytest.mark.parametrize("name", FILES)
def test_by_real_programs(
    ways: Callable[..., AbstractContextManager[AppServer]], name: str, tmp_path: Path
) -> None:
    directory = tmp_path / "apps"
    directory.mkdir()
    (directory / f"{name}.toml").write_text(FILES[name])
    with ways(directory) as way:
        with way.connect() as peer:
            peer.send_raw(request(f"/{name}/asyncapi.json"))
            manifest = ManifestReader(peer.refusal())
        asyncapi_validator.check(manifest.document)
        for channel in manifest.channels:
            with opened(manifest, channel, way) as peer:
                converse(manifest, channel, peer)
        with opened(manifest, "stdio", way) as peer:
            told = peer.message()
            assert ("secret" in told) == (manifest.control is not None)
            if "secret" in told:
                steer(manifest, told, way)


def opened(manifest: ManifestReader, channel: str, way: AppServer) -> Peer:
    peer = way.connect()
    offer = f"{FIELD}: {manifest.offers(channel)[-1]}"
    reply = peer.open(manifest.address(channel), framing="", fields=(offer,))
    assert reply.status == 101
    return peer


def converse(manifest: ManifestReader, channel: str, peer: Peer) -> None:
    """Send every message that the manifest allows, and check all output."""
    expected = set(manifest.messages(channel, "send")) - UNASKED
    expected -= {"error", "stderr", "exit"}
    heard: set[str] = set()
    for message in manifest.messages(channel, "receive").values():
        for raw in manifest.examples(message):
            peer.send(raw)
    while heard < expected:
        got = peer.receive()
        assert isinstance(got, bytes)
        heard.add(manifest.kind(channel, got))
    if manifest.contract["direction"] == "receive":
        peer.send(INPUT)
        code, reason = 1008, "this application only sends"
    else:
        peer.send(b" " * (manifest.contract["max_message"] + 1))
        code, reason = 1009, "over --max-message"
    while isinstance(got := peer.receive(), bytes):
        assert manifest.kind(channel, got) in manifest.messages(channel, "send")
    assert got == (code, reason)
    assert {(code, reason)} <= {
        (each["code"], each["reason"]) for each in manifest.contract["close"]
    }


def steer(manifest: ManifestReader, told: dict[str, Any], way: AppServer) -> None:
    """Call every method of the manifest in order, and one unknown method."""
    params = {
        "authorize": {"session": told["id"], "secret": told["secret"]},
        "signal": {"name": "CONT"},
    }
    messages = manifest.messages("control", "receive")
    methods = [name for name in messages if name != "close"]
    with opened(manifest, "control", way) as peer:
        for name in (*filter("another".__ne__, methods), "dance", "close"):
            call: dict[str, Any] = {"jsonrpc": "2.0", "id": name, "method": name}
            if name in params:
                call["params"] = params[name]
            raw = compact(call)
            known = name in messages or manifest.contract["control"]
            assert known == any(
                manifest.fits(message, raw) for message in messages.values()
            )
            peer.send(raw)
            kind, answer = answered(manifest, peer)
            assert answer["id"] == name
            passed_on = manifest.contract["control"]
            assert kind == ("fault" if name == "dance" and not passed_on else "result")
            if name in ("status", "subscribe"):
                check_status(manifest, answer["result"])
            elif name == "manifest":
                assert answer["result"].items() <= manifest.document.items()
        assert peer.receive() == (1000, "control over")


def answered(manifest: ManifestReader, peer: Peer) -> tuple[str, dict[str, Any]]:
    """Return the response to the last call. Notifications may precede it."""
    kind, answer = "changed", {}
    while kind in ("changed", "told"):
        got = peer.receive()
        assert isinstance(got, bytes)
        kind, answer = manifest.kind("control", got), json.loads(got)
        if kind == "changed":
            check_status(manifest, answer["params"])
    return kind, answer


def check_status(manifest: ManifestReader, status: dict[str, Any]) -> None:
    schema = manifest.document["components"]["schemas"]["status"]
    assert status.keys() == schema["properties"].keys()
    assert asyncapi_validator.fits(manifest.document, schema, status)
