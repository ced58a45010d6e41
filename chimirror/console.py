"""The console: a page that talks to applications, and the files that it is made of.

Law: the page is the same for everybody, and nothing of a request stands in it. A file
is looked up in a list, never in the file system, under the hash of all of them: they
refer to each other as they lie in the package, and what has that address never changes.
The page may load what lies here and connect to where it comes from, and nothing else.
Ignorance: what the page does; see web/console.js.
"""

from __future__ import annotations

from chimirror.wire import http
from chimirror.wire.publication import is_known, tag
from chimirror.wire.visit import ASSETS_PATH

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.wire.http import Request
    from chimirror.wire.visit import Visit

WEB = __file__.rpartition("/")[0] + "/web/"
PAGE = "console.html"
ASSETS = (
    "chimirror.js",
    "console.css",
    "console.js",
    "icon.svg",
    "pace.js",
    "plot.js",
    "talk.js",
    "terminal.js",
    "transcript.js",
    "vendor/addon-fit.mjs",
    "vendor/xterm.css",
    "vendor/xterm.mjs",
)
TYPES = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "mjs": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
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
_HERE = b"@ASSETS@"  # in the page, where the address of the files belongs


class Shown:
    """The page, or a file.

    Attributes:
        status: 200, or 304 if the request names its tag.
    """

    __slots__ = ("_cache", "_content", "_headers", "_type", "status")

    def __init__(self, visit: Visit, name: str, content: bytes, cache: str) -> None:
        self._content = content
        self._type = TYPES[name.rpartition(".")[2]]
        self._cache = cache
        etag = tag(content)
        self._headers = [("ETag", etag), *HEADERS]
        if name == PAGE:  # and for others there is a text at the same place
            self._headers.append(("Vary", "Accept"))
        self.status = 304 if is_known(etag, visit.request) else 200

    def response(self, *, head: bool = False) -> bytes:
        return http.response(
            self.status,
            self._content,
            headers=self._headers,
            head=head or self.status == 304,
            content_type=self._type,
            cache=self._cache,
        )


class Files:
    """Those of the package, as they were when they were asked for first."""

    __slots__ = ("content", "prefix")

    def __init__(self) -> None:
        self.content = {name: _read(name) for name in ASSETS}
        whole = b"".join([b"%d " % len(each) + each for each in self.content.values()])
        self.prefix = f"{ASSETS_PATH}{tag(whole)[1:-1]}/"


_files: Files | None = None


def files() -> Files:
    """See Files."""
    global _files
    if _files is None:
        _files = Files()
    return _files


def _read(name: str) -> bytes:
    with open(WEB + name, "rb") as file:
        return file.read()


def is_wanted(request: Request) -> bool:
    """Whether it is a browser that asks, for a page to show to somebody."""
    kinds = [each.partition(b";")[0].strip() for each in request.tokens(b"accept")]
    return b"text/html" in kinds


def page(visit: Visit) -> Shown:
    """The page; the same for every application, which it finds out by its address."""
    content = _read(PAGE).replace(_HERE, files().prefix.encode())
    return Shown(visit, PAGE, content, "no-cache")


def asset(visit: Visit) -> Shown:
    """A file of the page.

    Raises:
        Refusal: 404, there is none of this name, or none any more.
    """
    found = files()
    path = visit.request.path
    content = None
    if path.startswith(found.prefix):
        content = found.content.get(path.removeprefix(found.prefix))
    if content is None:
        text = "there is no such file here; if a page asked for it, load that anew"
        raise http.Refusal(404, text, cause="no-asset")
    return Shown(visit, path, content, FOREVER)
