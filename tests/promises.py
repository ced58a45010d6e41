"""What a manifest promises, read from it alone.

Law: nothing of chimirror is asked, and no application file: whoever holds a socket to
its manifest knows of it what its clients know.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import asyncapi
from peers import Reply

FIELD = "Sec-WebSocket-Protocol"


def request(target: str) -> bytes:
    return f"GET {target} HTTP/1.1\r\nHost: localhost:30747\r\n\r\n".encode()


class Promise:
    """A manifest, as it was answered.

    Attributes:
        channels: those of sessions.
        control: the one that steers them, None where there is none.
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
        """The subprotocols that choose it."""
        found: list[str] = self.headers(channel)["properties"][FIELD]["enum"]
        return found

    def messages(self, channel: str, action: str) -> dict[str, Any]:
        """The messages of an operation; none, if there is no such operation."""
        for operation in self.document["operations"].values():
            if operation["action"] != action:
                continue
            if operation["channel"]["$ref"] == f"#/channels/{channel}":
                return {
                    each["$ref"].rpartition("/")[2]: asyncapi.lookup(
                        self.document, each["$ref"]
                    )
                    for each in operation["messages"]
                }
        return {}

    def fits(self, message: Any, raw: bytes) -> bool:
        """Whether a message of the socket is one of these."""
        value: Any = raw.decode()
        if message.get("contentType", "application/json") == "application/json":
            value = json.loads(raw)
        return asyncapi.fits(self.document, message["payload"], value)

    def kind(self, channel: str, raw: bytes) -> str:
        """The name of what the server has sent: just one message is like it."""
        names = [
            name
            for name, message in self.messages(channel, "send").items()
            if self.fits(message, raw)
        ]
        assert len(names) == 1, (names, raw)
        return names[0]

    def examples(self, message: Any) -> Iterator[bytes]:
        """As they travel; each has to be one of its kind."""
        for example in message.get("examples", []):
            raw = json.dumps(example["payload"]).encode()
            if message.get("contentType") == "text/plain":
                raw = example["payload"].encode()
            assert self.fits(message, raw), raw
            yield raw
