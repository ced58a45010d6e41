"""The memory of sessions over TLS that have sent and received a long line."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from processes import field, require_access
from serve import server
from tls_authority import Authority, authority, stranger
from tls_peers import connect, tls_options
from websocket_peer import stdin

__all__ = ["authority", "stranger"]  # fixtures

SESSIONS = 100
LONG = 30_000  # bytes
MOST = 45_000  # bytes of each session. With pieces of 16 KiB it takes 65,000.


def test_idle_sessions_after_a_long_line(tmp_path: Path, authority: Authority) -> None:
    options = ("--workers=1", "--framing=stdio", *tls_options(authority))
    with server(tmp_path, ["cat"], *options) as service, ExitStack() as stack:

        def open_sessions(count: int) -> None:
            for _ in range(count):
                peer = stack.enter_context(connect(service, authority))
                peer.open(framing="stdio")
                peer.send(stdin(bytes(LONG)))
                assert peer.output(LONG) == bytes(LONG)

        (worker,) = service.workers()
        require_access(worker)
        open_sessions(10)
        before = field(worker, "Private_Dirty", "smaps_rollup")
        open_sessions(SESSIONS)
        found = field(worker, "Private_Dirty", "smaps_rollup") - before
        assert found / SESSIONS < MOST
