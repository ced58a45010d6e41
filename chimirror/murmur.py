"""An application's output on its way to the log: line by line, bounded."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.service import Service

LINE = 4096  # bytes in one record


class Murmur:
    """Cuts what one application says into lines.

    Args:
        service: its records are written to.
        session: the id that they carry.
    """

    __slots__ = ("_rests", "_service", "_session")

    def __init__(self, service: Service, session: str) -> None:
        self._service = service
        self._session = session
        self._rests: dict[str, bytes] = {}  # of each stream

    def add(self, stream: str, chunk: bytes) -> None:
        """More has come."""
        *lines, rest = (self._rests.get(stream, b"") + chunk).split(b"\n")
        while len(rest) > LINE:
            lines.append(rest[:LINE])
            rest = rest[LINE:]
        self._rests[stream] = rest
        for line in lines:
            self._service.records.output(self._session, stream, line)

    def end(self) -> None:
        """The last line may be unterminated."""
        for stream, rest in self._rests.items():
            if rest:
                self._service.records.output(self._session, stream, rest)
