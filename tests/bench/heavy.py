"""A Python application that takes long to import, and says how long.

Its first line is its process, and the seconds that its imports took, wherever they
were made; then it writes what it reads. The libraries are some that the tests need
anyway, and each is what an application might import: together about 300 ms.
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
