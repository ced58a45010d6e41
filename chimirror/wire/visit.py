"""Somebody who just looks, with a browser or a tool: what is to be seen, and where.

Loaded with the first such request: clients of WebSocket have no use for it.
Ignorance: manifests are made elsewhere, of what only the owner of a visit knows.
"""

from __future__ import annotations

from chimirror.wire import http

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.wire.handshake import Policy
    from chimirror.wire.http import Request

PAGE, MANIFEST, CATALOG, ASSET = "page", "manifest", "catalog", "asset"
MANIFEST_FILE = "/asyncapi.json"  # below the path of an application
CATALOG_PATH = "/.well-known/chimirror"
ASSETS_PATH = f"{CATALOG_PATH}/assets/"


def sights(policy: Policy) -> dict[str, str]:
    """What is to be seen at which path, where this policy holds."""
    root, found = policy.root, {}
    if policy.missing is None:
        found[root + MANIFEST_FILE] = MANIFEST
        found[root or "/"] = found[f"{root}/"] = PAGE
    if not root:
        # Nobody looks at what is missing, but everybody at what there is instead.
        found["/"] = PAGE
        found[CATALOG_PATH] = CATALOG
    return found


def sight(path: str, policy: Policy) -> str:
    """What is to be seen at a path; or nothing."""
    if policy.console and not policy.root and path.startswith(ASSETS_PATH):
        return ASSET
    return sights(policy).get(path, "")


class Visit:
    """A request of somebody who just looks.

    Attributes:
        sight: PAGE, MANIFEST, CATALOG or ASSET.
        request: The request.
        policy: Of what is looked at.
        url: Of this server, as the visitor sees it, without a path.
    """

    __slots__ = ("policy", "request", "sight", "url")

    def __init__(self, sight: str, request: Request, policy: Policy, url: str) -> None:
        self.sight = sight
        self.request = request
        self.policy = policy
        self.url = url


class Page:
    """Says what is served here, in a few lines of plain text."""

    __slots__ = ("text",)
    status = 200

    def __init__(self, visit: Visit) -> None:
        policy, url = visit.policy, visit.url
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
        here = "http" + url.removeprefix("ws")
        if not policy.missing:
            lines.append(f"Subprotocols: {policy.offer()}")
            lines.append(f"Manifest: {here}{policy.root}{MANIFEST_FILE}")
        lines.append(f"All that is served here: {here}{CATALOG_PATH}")
        self.text = "\n".join([*lines, ""])

    def response(self, *, head: bool = False) -> bytes:
        return http.response(200, self.text, head=head)
