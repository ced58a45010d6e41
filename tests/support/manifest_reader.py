"""Reads the contract of a manifest from the document alone.

Uses nothing of chimirror and no application file, so that it knows exactly as much as
a client.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import asyncapi_validator
from websocket_peer import Reply

FIELD = "Sec-WebSocket-Protocol"


def request(target: str) -> bytes:
    return f"GET {target} HTTP/1.1\r\nHost: localhost:30747\r\n\r\n".encode()


class ManifestReader:
    """A manifest, as the server sent it.

    Attributes:
        channels: The channels of sessions.
        control: The channel of control connections, or None.
    """

    def __init__(self, reply: Reply) -> None:
        assert (reply.status, reply.fields["content-type"]) == (200, "application/json")
        self.document = json.loads(reply.body)
        self.channels = dict(self.document["channels"])
        self.control = self.channels.pop("control", None)
        self.contract = self.document["x-chimirror"]

    def address(self, channel: str) -> str:
        found: str = self.document["channels"][channel]["address"]
        return found

    def headers(self, channel: str) -> Any:
        return self.document["channels"][channel]["bindings"]["ws"]["headers"]

    def offers(self, channel: str) -> list[str]:
        """Return the subprotocols that choose a channel."""
        found: list[str] = self.headers(channel)["properties"][FIELD]["enum"]
        return found

    def messages(self, channel: str, action: str) -> dict[str, Any]:
        """Return the messages of an operation, none if there is no such operation."""
        for operation in self.document["operations"].values():
            if operation["action"] != action:
                continue
            if operation["channel"]["$ref"] == f"#/channels/{channel}":
                return {
                    each["$ref"].rpartition("/")[2]: asyncapi_validator.lookup(
                        self.document, each["$ref"]
                    )
                    for each in operation["messages"]
                }
        return {}

    def fits(self, message: Any, raw: bytes) -> bool:
        """Tell whether a message is one of these."""
        value: Any = raw.decode()
        if message.get("contentType", "application/json") == "application/json":
            value = json.loads(raw)
        return asyncapi_validator.fits(self.document, message["payload"], value)

    def kind(self, channel: str, raw: bytes) -> str:
        """Return the name of a server's message. Exactly one description must fit."""
        names = [
            name
            for name, message in self.messages(channel, "send").items()
            if self.fits(message, raw)
        ]
        assert len(names) == 1, (names, raw)
        return names[0]

    def examples(self, message: Any) -> Iterator[bytes]:
        """Return the examples as messages. Each one must fit its description."""
        for example in message.get("examples", []):
            raw = json.dumps(example["payload"]).encode()
            if message.get("contentType") == "text/plain":
                raw = example["payload"].encode()
            assert self.fits(message, raw), raw
            yield raw
