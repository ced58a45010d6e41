"""Serves tests/browser/web and chimirror.js on loopback, as a program.

Every page has a Content-Security-Policy that allows its own files and the WebSockets
named in the query. Prints its port, and exits at the end of its stdin.
"""

from __future__ import annotations

import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import chimirror

MODULE = Path(chimirror.__file__).parent / "web" / "chimirror.js"
CASES = Path(__file__).parents[1] / "browser" / "web"
POLICY = "default-src 'none'; script-src 'self'; img-src data:; connect-src {}"


class Site(SimpleHTTPRequestHandler):
    def translate_path(self, path: str) -> str:
        name = path.partition("?")[0].lstrip("/")
        return str(MODULE if name == MODULE.name else CASES / name)

    def end_headers(self) -> None:
        policy = POLICY.format(self.path.partition("?")[2] or "'none'")
        self.send_header("Content-Security-Policy", policy)
        super().end_headers()

    def log_request(self, *told: object) -> None:
        pass


def main() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
