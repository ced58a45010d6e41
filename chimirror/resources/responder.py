"""Responses to plain requests: text page, manifest, catalog, files for pages.

A bridge loads this module only for such a request. Reading 500 application files for
the first time takes 0.2 s. The catalog is therefore built in slices, with sessions
served in between.
"""

from __future__ import annotations

from chimirror.io.loop import NEVER
from chimirror.manifest import document
from chimirror.protocol.routes import ASSET, CLIENT, MANIFEST, METHODS, TEXT
from chimirror.resources import json_response
from chimirror.resources.json_response import JSONDocument, JSONResponse
from chimirror.resources.text_page import MethodsResponse, TextPage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Protocol

    from chimirror.apps import Application, Catalog
    from chimirror.io.loop import EventLoop
    from chimirror.protocol.routes import ResourceRequest
    from chimirror.resources.static_response import StaticResponse

    class CatalogRequester(Protocol):
        """Request that waits for the catalog."""

        @property
        def is_waiting(self) -> bool: ...

        @property
        def user(self) -> str | None: ...

        def may_use(self, app: Application) -> bool: ...

        def on_catalog(self, catalog: JSONResponse) -> None: ...

        def on_catalog_failed(self, error: Exception) -> None: ...


ENTRIES_PER_TURN = 0.01  # seconds of a turn
MAX_MANIFESTS = 16  # documents that are kept
# An application file that has changed makes a new Application.
_manifests: dict[tuple[Application, str, bool], JSONDocument] = {}


def respond(
    request: ResourceRequest,
    app: Application,
    *,
    controllable: bool,
    user: str | None = None,
) -> TextPage | MethodsResponse | JSONResponse | StaticResponse:
    """Build the response to any request except those for the catalog.

    Args:
        request: the request.
        app: the application named by the path.
        controllable: control of sessions is available here.
        user: name of the client, "" without one. None: nobody asks for it.

    Raises:
        HTTPError: there is no such file.
    """
    if request.route == MANIFEST:
        manifest = _manifest_document(app, request.url, controllable)
        return JSONResponse(manifest, request.request, user)
    if request.route == METHODS:
        return MethodsResponse()
    if request.route == CLIENT:
        from chimirror.resources import web_client

        return web_client.file(request)
    if request.policy.console and request.route != TEXT:
        from chimirror.resources import console

        if request.route == ASSET:
            return console.asset(request)
        if console.is_wanted(request.request):
            return console.page(request)
    return TextPage(request)


def _manifest_document(app: Application, url: str, controllable: bool) -> JSONDocument:
    """Return the manifest as JSON. The last ones are kept: each takes up to 5 ms."""
    key = app, url, controllable
    found = _manifests.get(key)
    if found is None:
        manifest = build_manifest(app, url, controllable=controllable)
        found = JSONDocument(json_response.text(manifest))
        if len(_manifests) >= MAX_MANIFESTS:
            del _manifests[next(iter(_manifests))]  # the oldest
        _manifests[key] = found
    return found


def build_manifest(
    app: Application, url: str = "", *, controllable: bool = True
) -> dict[str, Any]:
    """Return the manifest of an application, as manifest.document builds it."""
    return document.document(
        app.interface, app.policy, app.config, url, controllable=controllable
    )


def build_catalog(catalog: Catalog) -> dict[str, Any]:
    """Return the catalog of all applications."""
    return {"applications": [entry for app in catalog.all() for entry in _entries(app)]}


def _entries(app: Application) -> list[dict[str, Any]]:
    """Return the entry of an application, or none if it cannot be served."""
    if app.unavailable is not None:
        return []
    return [_entry(app)]


def _entry(app: Application) -> dict[str, Any]:
    return document.catalog_entry(app.interface, app.policy, app.config)


class CatalogBuilder:
    """Builds the catalog in slices, one at a time for all requests of a process.

    A request that arrives meanwhile gets the next catalog, with those that arrive until
    that begins. So a catalog is never older than its request, and many requests cost
    little more than one.

    Args:
        loop: event loop of this process.
        catalog: the applications that are served.
    """

    def __init__(self, loop: EventLoop, catalog: Catalog) -> None:
        self._loop = loop
        self._catalog = catalog
        self._waiting: list[tuple[ResourceRequest, CatalogRequester]] = []
        self._next: list[tuple[ResourceRequest, CatalogRequester]] = []
        self._remaining: Iterator[Application] = iter(())
        self._entries: list[tuple[Application, str]] = []
        self._is_complete = False
        # by the names of the applications that a client may use
        self._documents: dict[tuple[str, ...], JSONDocument] = {}
        self.armed = 0
        self.deadline = NEVER

    def add(self, request: ResourceRequest, requester: CatalogRequester) -> None:
        """Answer a request once a catalog has been built, perhaps at once."""
        self._next.append((request, requester))
        if self.armed:
            return
        try:
            self.on_timer(0)
        except Exception as error:  # noqa: BLE001 (as in a turn of the loop)
            self.on_error(error)

    def on_timer(self, now: float) -> None:
        """Called to add more entries, or to answer more requests."""
        self._waiting = [each for each in self._waiting if each[1].is_waiting]
        end = self._loop.clock() + ENTRIES_PER_TURN
        if not self._waiting:
            self._begin()
        while self._waiting:
            self._step()
            if self._loop.clock() >= end:
                break
        if self._waiting or self._next:
            self._loop.set_timer(self, self._loop.now)

    def _begin(self) -> None:
        self._waiting, self._next = self._next, []
        self._remaining = iter(self._catalog.all())
        self._entries = []
        self._is_complete = False
        self._documents = {}

    def _step(self) -> None:
        """Add one entry. With all of them there, answer one request."""
        if not self._is_complete:
            app = next(self._remaining, None)
            if app is not None:
                self._entries += [(app, _entry_text(each)) for each in _entries(app)]
                return
            self._is_complete = True
        request, requester = self._waiting.pop(0)
        if requester.is_waiting:
            document = self._document_for(requester)
            requester.on_catalog(
                JSONResponse(document, request.request, requester.user)
            )

    def _document_for(self, requester: CatalogRequester) -> JSONDocument:
        """Return the catalog of the applications that a client may use."""
        usable = [each for each in self._entries if requester.may_use(each[0])]
        names = tuple([app.name for app, _ in usable])
        found = self._documents.get(names)
        if found is None:
            found = JSONDocument(_catalog_text([text for _, text in usable]))
            self._documents[names] = found
        return found

    def on_error(self, error: Exception) -> None:
        """Called with an error, which the requests have to answer."""
        failed, self._waiting = self._waiting, []
        for _, requester in failed:
            if requester.is_waiting:
                requester.on_catalog_failed(error)
        if self._next:
            self._loop.set_timer(self, self._loop.now)


def _entry_text(entry: dict[str, Any]) -> str:
    return json_response.text(entry).rstrip("\n").replace("\n", "\n    ")


def _catalog_text(entries: list[str]) -> str:
    """Return what json_response.text returns for the catalog of these entries."""
    if not entries:
        return json_response.text({"applications": []})
    joined = ",\n    ".join(entries)
    return f'{{\n  "applications": [\n    {joined}\n  ]\n}}\n'
