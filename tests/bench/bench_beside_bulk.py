"""Echo latency beside a session with bulk output.

The application of one session writes without end, and a process of its own reads it.
Beside it several sessions echo in turn, with one line in flight. Several are needed so
that some share a worker with the bulk session.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[1] / "support")]

from figures import Bound
from harness import Bench, Turn, percentile
from load_client import SIZE, enter, message, ping_pong

ENDLESS = b'"source 4096 1000000000"'
SESSIONS = 8
NO_WORSE = Bound(most=1.0)


@contextmanager
def bulk(turn: Turn) -> Iterator[None]:
    """Hold a session with endless output, read by a process of its own."""
    with enter(turn.service.address, turn.competitor.codec, ENDLESS) as connection:
        connection.settimeout(None)
        pid = os.fork()
        if pid == 0:
            buffer = bytearray(SIZE)
            try:
                while connection.recv_into(buffer):
                    pass
            finally:
                os._exit(0)
        try:
            yield
        finally:
            connection.shutdown(2)
            os.waitpid(pid, 0)


def main() -> int:
    bench = Bench("beside_bulk", __doc__ or "", rounds=7)
    bench.parser.add_argument("--count", type=int, default=150, help="of each session")
    args = bench.parser.parse_args()

    def measure(turn: Turn) -> None:
        codec = turn.competitor.codec
        data, reply = codec.wrap(message(64)), codec.reply(64)
        with ExitStack() as stack:
            sessions = [
                stack.enter_context(enter(turn.service.address, codec, b'"echo"'))
                for _ in range(SESSIONS)
            ]
            stack.enter_context(bulk(turn))
            times = [
                ping_pong(session, data, reply)
                for _ in range(args.count)
                for session in sessions
            ]
        turn.note("echo beside bulk p50", "µs", percentile(times, 0.5) * 1e6)
        turn.note("echo beside bulk p99", "µs", percentile(times, 0.99) * 1e6, NO_WORSE)

    return bench.run(args, measure)


if __name__ == "__main__":
    sys.exit(main())
