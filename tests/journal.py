"""A journal for tests: receives datagrams, and reads the native form by itself.

Law: nothing of chimirror is used, so that no fault of its writer can hide itself.
https://systemd.io/JOURNAL_NATIVE_PROTOCOL
"""

from __future__ import annotations

import socket


def parse(datagram: bytes) -> dict[str, str]:
    """A record in the journal's native form (the test's own reading of it)."""
    fields = {}
    while datagram:
        line, _, rest = datagram.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            size = int.from_bytes(rest[:8], "little")
            value, rest = rest[8 : 8 + size], rest[8 + size :]
            assert rest[:1] == b"\n"
            rest = rest[1:]
        assert name.decode() not in fields
        fields[name.decode()] = value.decode()
        datagram = rest
    return fields


class FakeJournal:
    """The receiving end, as journald has it at its socket."""

    def __init__(self, path: str) -> None:
        self.server = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.server.bind(path)
        self.server.setblocking(False)

    def read(self) -> dict[str, str]:
        return parse(self.server.recv(1 << 20))

    def rest(self) -> list[dict[str, str]]:
        found = []
        try:
            while True:
                found.append(self.read())
        except BlockingIOError:
            return found
