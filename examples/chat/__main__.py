"""The program `chat`: `chat server PORT [HOST]` and `chat client PORT [HOST]`.

Python runs this file for `python3 DIRECTORY` too. Modules come from the package `chat`,
not from the directory itself, and the generated one from build/examples.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import NoReturn

EXAMPLES = Path(__file__).resolve().parent.parent
GENERATED = EXAMPLES.parent / "build" / "examples"


class UsageParser(argparse.ArgumentParser):
    """A parser that exits with the status of sysexits(3) for a usage error."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(os.EX_USAGE, f"{self.prog}: {message}\n")


def main() -> int:
    sys.path[:1] = [str(EXAMPLES), str(GENERATED)]
    if not (GENERATED / "chat_pb2.py").exists():
        print("first: make -C examples chat", file=sys.stderr)
        return os.EX_UNAVAILABLE
    from chat import client, server

    parser = UsageParser("chat", allow_abbrev=False)
    programs = parser.add_subparsers(metavar="PROGRAM", required=True)
    part = programs.add_parser(
        "server", allow_abbrev=False, help="introduce users and pass messages on"
    )
    server.add_options(part)
    part.set_defaults(run=server.run)
    part = programs.add_parser("client", allow_abbrev=False, help="talk to other users")
    client.add_options(part)
    part.set_defaults(run=client.run)
    args = parser.parse_args()
    status: int = args.run(args)
    return status


if __name__ == "__main__":
    sys.exit(main())
