"""A journal for tests: receives datagrams and parses the native format.

It uses none of the package's own code, so that no error of the writer can hide.
https://systemd.io/JOURNAL_NATIVE_PROTOCOL
"""

from __future__ import annotations

import select
import socket


def parse(datagram: bytes) -> dict[str, str]:
    """Parse a record in the native format of the journal."""
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
    """Receiving end, at the socket of journald."""

    def __init__(self, path: str) -> None:
        self.server = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.server.bind(path)
        self.server.setblocking(False)

    def read(self) -> dict[str, str]:
        return parse(self.server.recv(1 << 20))

    def make_room(self, writer: int) -> list[dict[str, str]]:
        """Read until `writer`, a descriptor, is writable. Returns the records.

        That takes one record where the length of the queue is the limit, and most of
        the queue where the send buffer is (net.unix.max_dgram_qlen).
        """
        poll = select.poll()
        poll.register(writer, select.POLLOUT)
        found = [self.read()]
        while not poll.poll(0):
            found.append(self.read())
        return found

    def rest(self) -> list[dict[str, str]]:
        found = []
        try:
            while True:
                found.append(self.read())
        except BlockingIOError:
            return found
