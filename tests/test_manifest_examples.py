"""Every example is what its manifest says, and its manifest is valid."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

import asyncapi
from launch import Service
from peers import Peer, Reply, payload_of
from promises import FIELD, Promise, request
from test_examples_by_name import EXAMPLES, place, service

__all__ = ["place", "service"]  # fixtures

NAMES = sorted(file.stem for file in EXAMPLES.rglob("*.toml"))


@pytest.fixture(scope="module")
def parser() -> Iterator[asyncapi.Parser]:
    with asyncapi.Parser() as found:
        yield found


def get(service: Service, target: str) -> Reply:
    with Peer(service.connect()) as peer:
        peer.send_raw(request(target))
        return peer.refusal()


def test_all_are_listed(service: Service) -> None:
    listed = json.loads(get(service, "/.well-known/chimirror").body)["applications"]
    assert [entry["name"] for entry in listed] == NAMES
    for entry in listed:
        assert all(entry[name] for name in ("title", "purpose", "version"))
        assert Promise(get(service, entry["manifest"])).document["info"] == {
            "title": entry["title"],
            "version": entry["version"],
            "description": entry["purpose"],
        }


@pytest.mark.timeout(180)  # the parser takes its time
def test_what_they_say(service: Service, parser: asyncapi.Parser) -> None:
    for name in NAMES:
        promise = Promise(get(service, f"/{name}/asyncapi.json"))
        asyncapi.check(promise.document)
        assert not parser.objections(promise.document)
        for channel in promise.channels:
            asked = [*said(promise, channel, "receive")]
            assert asked or promise.contract["direction"] == "receive"
            assert [*said(promise, channel, "send")]
            converse(promise, channel, service, asked)


def said(promise: Promise, channel: str, action: str) -> Iterator[bytes]:
    """The examples of all messages of a kind."""
    for message in promise.messages(channel, action).values():
        yield from promise.examples(message)


def converse(
    promise: Promise, channel: str, service: Service, asked: list[bytes]
) -> None:
    """Until the first output: it has to be what was told of the application's lines."""
    (offer, *_) = promise.offers(channel)
    with Peer(service.connect()) as peer:
        target, fields = promise.address(channel), (f"{FIELD}: {offer}",)
        assert peer.open(target, framing="", fields=fields).status == 101
        peer.send(*asked[:1])
        kind, got = "", b""
        while kind not in ("stdout", "output"):
            message = peer.receive()
            assert isinstance(message, bytes)
            kind, got = promise.kind(channel, message), message
    if kind == "stdout":
        pieces = promise.messages(channel, "send")["stdout"]["payload"]["properties"]
        told = pieces["payload"]["x-chimirror-line"]
        line, *_ = payload_of(json.loads(got)).decode().splitlines()
        value = json.loads(line) if told["contentType"] != "text/plain" else line
        assert asyncapi.fits(promise.document, told["schema"], value)
