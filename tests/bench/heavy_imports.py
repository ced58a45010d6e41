"""A Python application with long imports, which reports their time.

Its first line holds its pid and the seconds that its imports took, in this process or
before a fork. Then it echoes. The libraries are dependencies of the tests that an
application might import. Together they take about 300 ms.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from time import perf_counter

LIBRARIES = ("asyncio", "hypothesis", "mypy.build")

began = perf_counter()
for library in LIBRARIES:
    import_module(library)
TOOK = perf_counter() - began


def main() -> int:
    print("here", os.getpid(), TOOK, flush=True)
    for line in sys.stdin:
        print(line, end="", flush=True)
    return os.EX_OK


if __name__ == "__main__":
    sys.exit(main())
