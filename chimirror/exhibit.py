"""What somebody gets to see who just looks: a page, a manifest, their list, a file.

Loaded when somebody does: a bridge on its way to a session has no use for it.
"""

from __future__ import annotations

from chimirror.wire import manifest
from chimirror.wire.publication import Publication
from chimirror.wire.visit import ASSET, CATALOG, MANIFEST, Page

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from chimirror.apps import App, Apps
    from chimirror.console import Shown
    from chimirror.wire.visit import Visit


def exhibit(
    visit: Visit, app: App, apps: Apps, *, steerable: bool
) -> Page | Publication | Shown:
    """The answer to a visit.

    Args:
        visit: What is looked at.
        app: The application that the path names.
        apps: All that are served here.
        steerable: Sessions can be steered here.

    Raises:
        Refusal: There is no such file.
    """
    if visit.sight == MANIFEST:
        found = document(app, visit.url, steerable=steerable)
        return Publication(found, visit.request)
    if visit.sight == CATALOG:
        return Publication(catalog(apps.all()), visit.request)
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


def catalog(apps: Iterable[App]) -> dict[str, Any]:
    """The list of applications."""
    entries = [manifest.entry(app.interface, app.policy, app.config) for app in apps]
    return {"applications": entries}
