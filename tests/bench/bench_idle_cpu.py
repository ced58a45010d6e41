"""What idle sessions cost: processor time while they are only kept alive.

Law: nothing is said but pings, which the client answers; so that there is something to
measure, chimirror-server pings every second here and not every twenty, and the figure
is what its default would cost. Others keep their defaults, in which websocketd and
socat do not ping at all, and so never notice that a client has died.
"""

from __future__ import annotations

import select
import socket
import sys
from pathlib import Path
from time import monotonic

sys.path += [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

from contenders import CEILING, Contender
from harness import Bench, Turn, cpu_seconds
from load import PATIENCE, enter

from peers import frame
from settling import descendants, read

PONG = frame(10, b"")
PING_INTERVAL, DEFAULT_INTERVAL = 1, 20


def serving(root: int) -> list[int]:
    """The processes that serve; not the applications."""
    family = [root, *[child.pid for child in descendants(root)]]
    return [pid for pid in family if read(f"/proc/{pid}/comm") != b"tiny\n"]


def answer(sessions: list[socket.socket], seconds: float) -> int:
    """Answers pings for a while; how many."""
    poller = select.epoll()
    by_number = {session.fileno(): session for session in sessions}
    for number in by_number:
        poller.register(number, select.EPOLLIN)
    limit, count = monotonic() + seconds, 0
    while (left := limit - monotonic()) > 0:
        for number, _ in poller.poll(min(left, PATIENCE)):
            if not by_number[number].recv(4096):
                raise ConnectionError("an idle session ended")
            by_number[number].send(PONG)
            count += 1
    poller.close()
    return count


def main() -> int:
    bench = Bench("idle_cpu", __doc__ or "", rounds=2)
    bench.parser.add_argument("--sessions", type=int, default=200)
    bench.parser.add_argument("--seconds", type=float, default=2.5)
    args = bench.parser.parse_args()
    bench.own = (f"--ping-interval={PING_INTERVAL}",)

    def measure(turn: Turn) -> None:
        address, codec = turn.service.address, turn.contender.codec
        sessions = [enter(address, codec) for _ in range(args.sessions)]
        answer(sessions, 1.0)  # their first words
        pids = serving(turn.service.pid)
        before = cpu_seconds(pids)
        answer(sessions, args.seconds)
        used = (cpu_seconds(pids) - before) / args.seconds / args.sessions
        if turn.contender.ours:
            used *= PING_INTERVAL / DEFAULT_INTERVAL
        for session in sessions:
            session.close()
        name = "CPU of 10,000 idle sessions"
        turn.note(name, "% of a core", used * 10_000 * 100)

    def wanted(one: Contender) -> bool:
        return one.name != CEILING and one.codec.framing in ("lines", "text", "none")

    return bench.run(args, measure, wanted, tiny=True)


if __name__ == "__main__":
    sys.exit(main())
