"""What somebody gets to see who just looks: a page, a manifest, their list, a file.

Loaded when somebody does: a bridge on its way to a session has no use for it. To read
500 files that nobody has read before takes 0.2 s, so that the list is made in slices,
between which sessions are served.
"""

from __future__ import annotations

from chimirror.system.loop import NEVER
from chimirror.wire import manifest
from chimirror.wire.publication import Publication
from chimirror.wire.visit import ASSET, MANIFEST, Page

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    from chimirror.apps import App, Apps
    from chimirror.console import Shown
    from chimirror.system.loop import Loop
    from chimirror.wire.visit import Visit

    class Reader(Protocol):
        """Who waits for the list."""

        @property
        def is_waiting(self) -> bool: ...

        def on_listed(self, found: Publication) -> None: ...

        def on_fault(self, error: Exception) -> None: ...


SLICE = 0.01  # seconds of a turn


def exhibit(visit: Visit, app: App, *, steerable: bool) -> Page | Publication | Shown:
    """The answer to a visit, but of one that wants the list.

    Args:
        visit: What is looked at.
        app: The application that the path names.
        steerable: Sessions can be steered here.

    Raises:
        Refusal: There is no such file.
    """
    if visit.sight == MANIFEST:
        found = document(app, visit.url, steerable=steerable)
        return Publication(found, visit.request)
    if visit.policy.console:
        from chimirror import console

        if visit.sight == ASSET:
            return console.asset(visit)
        if console.is_wanted(visit.request):
            return console.page(visit)
    return Page(visit)


def document(app: App, url: str = "", *, steerable: bool = True) -> dict[str, Any]:
    """The manifest of an application; see manifest.document."""
    return manifest.document(
        app.interface, app.policy, app.config, url, steerable=steerable
    )


def catalog(apps: Apps) -> dict[str, Any]:
    """The list of applications."""
    return {"applications": [_entry(app) for app in apps.all()]}


def _entry(app: App) -> dict[str, Any]:
    return manifest.entry(app.interface, app.policy, app.config)


class Listing:
    """The same in slices; what was read is compiled, so that it is quicker next time.

    Args:
        visit: Of somebody who wants the list.
        apps: All that are served here.
        reader: Whose visit it is.
    """

    def __init__(self, loop: Loop, visit: Visit, apps: Apps, reader: Reader) -> None:
        self._loop = loop
        self._visit = visit
        self._apps = apps
        self._rest = iter(apps.all())
        self._reader = reader
        self._entries: list[dict[str, Any]] = []
        self.armed = 0
        self.deadline = NEVER

    def on_timer(self, now: float) -> None:
        """Go on, and answer once all is read."""
        if not self._reader.is_waiting:
            return
        end = self._loop.clock() + SLICE
        for app in self._rest:
            self._entries.append(_entry(app))
            self._apps.settle()
            if self._loop.clock() >= end:
                self._loop.arm(self, self._loop.now)
                return
        found = {"applications": self._entries}
        self._reader.on_listed(Publication(found, self._visit.request))

    def on_event(self, fd: int, events: int) -> None:
        """We watch no descriptor."""

    def on_fault(self, error: Exception) -> None:
        """The reader's connection has to be answered."""
        self._reader.on_fault(error)
