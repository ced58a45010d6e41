"""The verb that hands out what clients may expect of applications: manifest.

It reads application files as a server does that was started with no other options, and
asks no server.
"""

from __future__ import annotations

import os

from chimirror.ctl.failure import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.apps import App
    from chimirror.ctl.host import Host
    from chimirror.ctl.table import Output
    from chimirror.ctl.usage import Given


def manifest(given: Given, host: Host, output: Output) -> int:
    """Print a manifest, or the list of applications."""
    # No other verb needs any of this.
    from chimirror import exhibit, options
    from chimirror.directory import Directory
    from chimirror.wire import publication

    path = given.options.get("--apps", f"{host.etc}/chimirror/apps")
    url = _checked(given.options.get("--url", ""))
    try:
        directory = Directory(path, options.server(["--apps", path]), {})
    except options.UsageError as error:
        raise Failure(error.status, error.text) from None
    if given.ids:
        (name,) = given.ids
        app = _found(directory.get(name), name, path)
        output.write(publication.text(exhibit.document(app, url)))
    else:
        output.write(publication.text(exhibit.catalog(directory)))
    return os.EX_OK


def _found(app: App, name: str, path: str) -> App:
    if app.missing is None:
        return app
    if "detail" in app.missing:
        raise Failure(os.EX_CONFIG, f"{path}/{app.missing['detail']}")
    raise Failure(os.EX_NOINPUT, f"there is no application {name} in {path}")


def _checked(url: str) -> str:
    """The address of a server: where it is, and what its paths are below."""
    from chimirror.wire import address

    scheme, _, rest = url.partition("://")
    host, _, below = rest.partition("/")
    sound = scheme in ("ws", "wss") and address.authority(host) is not None
    if url and (not sound or "?" in below or "#" in below):
        text = f'--url: "{url}" is none of a server; write wss://play.example'
        raise Failure(os.EX_USAGE, text)
    return url
