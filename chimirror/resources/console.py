"""The console page and its files: a browser page that talks to applications.

Guarantees:
- The page is the same for all clients and contains nothing from the request.
- The path of a file contains a hash over all files. Page and files refer to each other
  by relative paths. So content at one path never changes, and a proxy may add a path.
  If the path is known, the page names it: its address may lack the slash at the end.
- The page may load these files and connect to its own origin, and nothing else.

Knows nothing of the scripts of the page (web/console.js).
"""

from __future__ import annotations

from chimirror.protocol import http
from chimirror.protocol.routes import ASSETS_PATH
from chimirror.resources import static_response
from chimirror.resources.json_response import etag
from chimirror.resources.static_response import StaticFile, StaticResponse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.protocol.http import HTTPRequest
    from chimirror.protocol.routes import ResourceRequest

PAGE = "console.html"
ASSETS = (
    "ansi.js",
    "chimirror.js",
    "command.js",
    "console.css",
    "console.js",
    "controls.js",
    "copy.js",
    "elements.js",
    "entry.js",
    "folds.js",
    "follow.js",
    "icon.svg",
    "input.js",
    "json.js",
    "keyboard.js",
    "line_editor.js",
    "login.js",
    "pace.js",
    "plot.js",
    "requests.js",
    "settings.js",
    "talk.js",
    "terminal.js",
    "terminal_style.js",
    "transcript.js",
    "vendor/addon-fit.mjs",
    "vendor/addon-unicode-graphemes.mjs",
    "vendor/xterm.css",
    "vendor/xterm.mjs",
    "widths.js",
)
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
HEADERS = (
    ("Content-Security-Policy", POLICY),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Referrer-Policy", "no-referrer"),
)
FOREVER = "public, max-age=31536000, immutable"
_HERE = b"@ASSETS@"  # placeholder in the page for the path of the files


class ConsoleFiles:
    """The page, its files by name, and the prefix of their paths."""

    __slots__ = ("assets", "page", "prefix")

    def __init__(self) -> None:
        self.page = static_response.read(PAGE).content
        self.assets = {name: static_response.read(name) for name in ASSETS}
        contents = [asset.content for asset in self.assets.values()]
        whole = b"".join([b"%d " % len(content) + content for content in contents])
        self.prefix = f"{ASSETS_PATH}{etag(whole)[1:-1]}/"


_files: ConsoleFiles | None = None


def files() -> ConsoleFiles:
    """Return the files. Reads them on first use."""
    global _files
    if _files is None:
        _files = ConsoleFiles()
    return _files


def is_wanted(request: HTTPRequest) -> bool:
    """Return True if a browser asks for a page to display."""
    kinds = [each.partition(b";")[0].strip() for each in request.tokens(b"accept")]
    return b"text/html" in kinds


def page(request: ResourceRequest) -> StaticResponse:
    """Return the page. It learns the application from its own address."""
    levels = request.request.path.count("/") - 1
    base = request.policy.base.replace("&", "&amp;") or "." * (2 if levels else 1)
    prefix = base + files().prefix
    content = files().page.replace(_HERE, prefix.encode())
    # Other clients get a text page at the same path.
    headers = (*HEADERS, ("Vary", "Accept"))
    return StaticResponse(request, StaticFile(PAGE, content), "no-cache", headers)


def asset(request: ResourceRequest) -> StaticResponse:
    """Return a file of the page.

    Raises:
        HTTPError: 404, there is no such file, or not any more.
    """
    loaded = files()
    path = request.request.path
    file = None
    if path.startswith(loaded.prefix):
        file = loaded.assets.get(path.removeprefix(loaded.prefix))
    if file is None:
        text = "there is no such file here; if a page asked for it, load that anew"
        raise http.HTTPError(404, text, cause="no-asset")
    return StaticResponse(request, file, FOREVER, HEADERS)
