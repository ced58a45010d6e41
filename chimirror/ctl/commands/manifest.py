"""The verb that prints the manifest of an application: manifest.

It reads application files as a server without further options does. It connects to no
server.
"""

from __future__ import annotations

import os

from chimirror.ctl.messages import CommandError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.apps import Application
    from chimirror.ctl.output import OutputWriter
    from chimirror.ctl.paths import HostPaths
    from chimirror.ctl.usage import CommandLine


def manifest(given: CommandLine, host: HostPaths, output: OutputWriter) -> int:
    """Print a manifest, or the list of applications."""
    # Imported here, since no other verb needs these modules.
    from chimirror.apps.directory import ApplicationDirectory
    from chimirror.config import parser
    from chimirror.resources import json_response, responder

    path = given.options.get("--apps", f"{host.etc}/chimirror/apps")
    url = _checked(given.options.get("--url", ""))
    try:
        directory = ApplicationDirectory(
            path, parser.parse_server(["--apps", path]), {}
        )
    except parser.UsageError as error:
        raise CommandError(error.status, error.text) from None
    if given.ids:
        (name,) = given.ids
        app = _found(directory.get(name), name, path)
        output.write(json_response.text(responder.build_manifest(app, url)))
    else:
        output.write(json_response.text(responder.build_catalog(directory)))
    return os.EX_OK


def _found(app: Application, name: str, path: str) -> Application:
    if app.unavailable is None:
        return app
    if "detail" in app.unavailable:
        raise CommandError(os.EX_CONFIG, f"{path}/{app.unavailable['detail']}")
    raise CommandError(os.EX_NOINPUT, f"there is no application {name} in {path}")


def _checked(url: str) -> str:
    """Check the URL of a server: scheme, address and an optional base path."""
    from chimirror.protocol import addresses

    scheme, _, rest = url.partition("://")
    host, _, path_part = rest.partition("/")
    valid = scheme in ("ws", "wss") and addresses.authority(host) is not None
    if url and (not valid or "?" in path_part or "#" in path_part):
        text = f'--url: "{url}" is not the URL of a server; write wss://play.example'
        raise CommandError(os.EX_USAGE, text)
    return url
