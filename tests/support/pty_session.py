"""A client of an application on a terminal: types text and expects output."""

from __future__ import annotations

import re

from websocket_peer import Peer, Transcript, payload_of, stdin


class PtyClient:
    """Types into the terminal of a session and reads the output of the terminal."""

    def __init__(self, peer: Peer, pid: int) -> None:
        self.peer = peer
        self.pid = pid  # of the serving process
        self.shown = b""

    def type(self, text: str) -> None:
        self.peer.send(stdin(text.encode()))

    def resize(self, columns: object, rows: object) -> None:
        self.peer.send({"type": "resize", "columns": columns, "rows": rows})

    def expect(self, pattern: str) -> re.Match[bytes]:
        """Read output until the pattern matches, and drop it up to the match's end."""
        while not (found := re.search(pattern.encode(), self.shown)):
            self.shown += payload_of(self.peer.message())
        self.shown = self.shown[found.end() :]
        return found

    def transcript(self) -> Transcript:
        said = self.peer.transcript()
        return said._replace(stdout=self.shown + said.stdout)
