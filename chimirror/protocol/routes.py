"""Routes of plain HTTP requests: text page, manifest, catalog, files for pages.

Imported with the first such request, because WebSocket clients never need it. Knows
no content of these resources.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from chimirror.protocol.http import HTTPRequest
    from chimirror.protocol.policy import HandshakePolicy

    class CheckedRequest(Protocol):
        """What a request tells of its client: a part of AcceptedHandshake."""

        request: HTTPRequest
        scheme: str
        peer_address: str
        peer_port: int
        is_proxied: bool


PAGE, MANIFEST, CATALOG, ASSET = "page", "manifest", "catalog", "asset"
CLIENT = "client"  # the library for web pages, or its types
# What HTTP/1.0 gets for any path, and the answer to OPTIONS: health checks use both.
TEXT, METHODS = "text", "methods"
MANIFEST_FILE = "/asyncapi.json"  # below the path of an application
CATALOG_PATH = "/.well-known/chimirror"
ASSETS_PATH = f"{CATALOG_PATH}/assets/"
CLIENT_PATH = f"{CATALOG_PATH}.js"
TYPES_PATH = f"{CATALOG_PATH}.d.ts"


def routes(policy: HandshakePolicy) -> dict[str, str]:
    """Return the resource at each path under this policy."""
    root, found = policy.root, {}
    if policy.missing is None:
        found[root + MANIFEST_FILE] = MANIFEST
        found[root or "/"] = found[f"{root}/"] = PAGE
    if not root:
        # A missing application has no page, but the root always has one.
        found["/"] = PAGE
        found[CATALOG_PATH] = CATALOG
        if policy.web_client:
            found[CLIENT_PATH] = found[TYPES_PATH] = CLIENT
    return found


def match_route(request: HTTPRequest, policy: HandshakePolicy) -> str:
    """Return the resource that a request gets, "" if there is none."""
    path = request.path
    if request.method == "OPTIONS" or request.is_http10:
        exists = policy.missing is None or path == "*" or path in routes(policy)
        text = METHODS if request.method == "OPTIONS" else TEXT
        return text if exists else ""
    if policy.console and not policy.root and path.startswith(ASSETS_PATH):
        return ASSET
    found = routes(policy).get(path, "")
    if found == PAGE and b"text/event-stream" in request.tokens(b"accept"):
        return ""  # a client of another protocol, which takes any 200 for a stream
    return found


class ResourceRequest:
    """A plain request for one resource.

    Attributes:
        route: PAGE, MANIFEST, CATALOG, ASSET, CLIENT, TEXT or METHODS.
        request: The request.
        handshake: What the request tells of its client.
        policy: The policy of the requested application.
        url: The URL of this server on the client's side, without a slash at its end.
            "" if a client by HTTP/1.0 did not name the host.
    """

    __slots__ = ("handshake", "policy", "request", "route", "url")

    def __init__(
        self,
        route: str,
        handshake: CheckedRequest,
        policy: HandshakePolicy,
        url: str,
    ) -> None:
        self.route = route
        self.request = handshake.request
        self.handshake = handshake
        self.policy = policy
        self.url = url
