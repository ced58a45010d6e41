"""The description of an endpoint in a few lines of plain text, and its methods."""

from __future__ import annotations

from chimirror.protocol import http
from chimirror.protocol.routes import (
    CATALOG_PATH,
    CLIENT_PATH,
    MANIFEST_FILE,
    ResourceRequest,
)


class TextPage:
    """Response with names, paths and subprotocols of the endpoint."""

    __slots__ = ("text",)
    status = 200

    def __init__(self, request: ResourceRequest) -> None:
        policy = request.policy
        url = request.url or policy.base
        what, where = "a program", url + (policy.root or "/")
        if policy.missing:
            what, where = "programs", f"{url}/NAME"
        lines = [
            f"chimirror: {what} behind a WebSocket.",
            "",
            f"Connect a WebSocket client to {where}: each connection starts a",
            "fresh process of the program, and ends with it.",
            "",
        ]
        here = f"http{url.removeprefix('ws')}" if request.url else url
        if not policy.missing:
            lines.append(f"Subprotocols: {policy.offer()}")
            lines.append(f"Manifest: {here}{policy.root}{MANIFEST_FILE}")
        lines.append(f"All that is served here: {here}{CATALOG_PATH}")
        if policy.web_client:
            lines.append(f"Library for web pages: {here}{CLIENT_PATH}")
        self.text = "\n".join([*lines, ""])

    def response(self, *, head: bool = False) -> bytes:
        return http.response(200, self.text, head=head)


class PassedCheck:
    """Response to the check of a handshake that would succeed: no content."""

    __slots__ = ()
    status = 204

    def response(self, *, head: bool = False) -> bytes:
        return http.response(204, "", head=head)


class MethodsResponse:
    """Response to OPTIONS: the methods, without content and without CORS fields."""

    __slots__ = ()
    status = 204

    def response(self, *, head: bool = False) -> bytes:
        return http.response(204, "", headers=(("Allow", http.METHODS),), head=head)
