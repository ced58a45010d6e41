"""The target of bench_services.py: serves bytes or text of chimirror.services.

services_peer.py bytes|text SIZE
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path += [str(Path(__file__).parent)]

from chimirror.services import connect
from transports import ANSWER, LibraryEndpoint, serve


def main() -> None:
    kind, size = sys.argv[1], int(sys.argv[2])
    if kind == "text":
        with connect("text", send=str, receive=str) as texts:
            serve(LibraryEndpoint(texts), size, ANSWER.decode())
    else:
        with connect("bytes", send=memoryview, receive=memoryview) as pipe:
            serve(LibraryEndpoint(pipe), size, memoryview(ANSWER))


if __name__ == "__main__":
    main()
