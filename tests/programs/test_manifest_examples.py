"""Tests that the manifest of each example is valid and describes its behaviour."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

import asyncapi_validator
from example_apps import (
    EXAMPLES,
    application_files,
    chats,
    examples_directory,
    service,
)
from manifest_reader import FIELD, ManifestReader, request
from serve import Service
from websocket_peer import Peer, Reply, payload_of

__all__ = ["chats", "examples_directory", "service"]  # fixtures

NAMES = [file.stem for file in application_files(EXAMPLES)]


@pytest.fixture(scope="module")
def parser() -> Iterator[asyncapi_validator.Parser]:
    with asyncapi_validator.Parser() as found:
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
        assert ManifestReader(get(service, entry["manifest"])).document["info"] == {
            "title": entry["title"],
            "version": entry["version"],
            "description": entry["purpose"],
        }


@pytest.mark.timeout(300)  # the parser is slow
def test_what_they_say(service: Service, parser: asyncapi_validator.Parser) -> None:
    for name in NAMES:
        manifest = ManifestReader(get(service, f"/{name}/asyncapi.json"))
        asyncapi_validator.check(manifest.document)
        assert not parser.objections(manifest.document)
        for channel in manifest.channels:
            asked = [*said(manifest, channel, "receive")]
            assert asked or manifest.contract["direction"] == "receive"
            assert [*said(manifest, channel, "send")]
            converse(manifest, channel, service, asked)


def said(manifest: ManifestReader, channel: str, action: str) -> Iterator[bytes]:
    """Return the examples of all messages of a kind."""
    for message in manifest.messages(channel, action).values():
        yield from manifest.examples(message)


def converse(
    manifest: ManifestReader, channel: str, service: Service, asked: list[bytes]
) -> None:
    """Run until the first output, which must match the manifest's output message."""
    (offer, *_) = manifest.offers(channel)
    with Peer(service.connect()) as peer:
        target, fields = manifest.address(channel), (f"{FIELD}: {offer}",)
        assert peer.open(target, framing="", fields=fields).status == 101
        peer.send(*asked[:1])
        kind, got = "", b""
        while kind not in ("stdout", "output"):
            message = peer.receive()
            assert isinstance(message, bytes)
            kind, got = manifest.kind(channel, message), message
    if kind == "stdout":
        pieces = manifest.messages(channel, "send")["stdout"]["payload"]["properties"]
        output = payload_of(json.loads(got)).decode()
        told = pieces["payload"].get("x-chimirror-line")
        if told is None:
            told = pieces["payload"]["x-chimirror-body"]
            _, _, output = output.partition("\r\n\r\n")
        if told["contentType"] == "text/plain":
            value, *_ = output.splitlines()
        else:  # another line or body may follow
            value, _ = json.JSONDecoder().raw_decode(output)
        assert asyncapi_validator.fits(manifest.document, told["schema"], value)
