"""An ACP agent (examples/agent.py): warm copies, and exec of the same.

An editor that connects sends `initialize` first, and shows the agent once that is
answered. The agent imports the official SDK, which takes most of that time. It is
served by chimirror-server twice at the same time, with --preload and by exec. Each
answers once in each round, from the connection to the first byte of the answer.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[1] / "support")]

import competitors
from competitors import OURS
from figures import Bound
from harness import Bench, Turn
from load_client import enter
from serve import Service, preloading

if TYPE_CHECKING:
    from collections.abc import Iterator

AGENT = Path(__file__).parents[2] / "examples" / "agent.py"
EXEC = f"exec by {OURS}"
WARM = Bound(most=0.2, against=EXEC)
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": 1},
}


@contextmanager
def preload(directory: Path, command: list[str]) -> Iterator[Service]:
    shutil.copy(command[-1], directory)
    with preloading(directory, "agent:main", "--framing=lines") as service:
        yield service


def measure(turn: Turn) -> None:
    began = perf_counter()
    request = json.dumps(INITIALIZE).encode()
    with enter(turn.service.address, turn.competitor.codec, request) as connection:
        answer = connection.recv(1 << 16)
        turn.note("first answer", "ms", (perf_counter() - began) * 1e3, WARM)
        if b'"agentInfo"' not in answer:
            raise ConnectionError(answer)


def main() -> int:
    bench = Bench("acp", __doc__ or "", rounds=20)
    bench.reference = EXEC
    args = bench.parser.parse_args()
    cold = competitors.ours(())[0]
    warm = cold._replace(name=f"{OURS} --preload", start=preload)
    bench.competitors = [warm, cold._replace(name=EXEC)]
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        command = [sys.executable, str(AGENT)]
        services = bench.enter(stack, Path(scratch), command)
        bench.rounds(args, measure, services)
    return bench.finish(args)


if __name__ == "__main__":
    sys.exit(main())
