"""Handlers for `fake_server` that play a remote process."""

from __future__ import annotations

import base64
import json

from fake_server import Remote, exited, output


def send_session(ws: Remote, session: str = "x") -> None:
    ws.send(json.dumps({"type": "session", "id": session}))


def echo(ws: Remote) -> None:
    """Echo stdin to both streams up to its end, then exit with 3."""
    send_session(ws)
    for message in ws:
        if message["type"] == "eof":
            break
        data = base64.b64decode(message["payload"])
        ws.send(output(data))
        ws.send(output(data[::-1], "stderr"))
    ws.send(exited(3))
    ws.close(1011, "exit 3")


def sends(*messages: str, code: int = 1000, reason: str = "exit 0"):  # type: ignore[no-untyped-def]
    """Return a handler that sends these messages and then exits with 0."""

    def handler(ws: Remote) -> None:
        send_session(ws)
        for message in messages:
            ws.send(message)
        ws.send(exited(0))
        ws.close(code, reason)

    return handler
