"""An application's standard error on its way to the log: line by line, bounded."""

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

    __slots__ = ("_rest", "_service", "_session")

    def __init__(self, service: Service, session: str) -> None:
        self._service = service
        self._session = session
        self._rest = b""

    def add(self, chunk: bytes) -> None:
        """More has come."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        while len(self._rest) > LINE:
            lines.append(self._rest[:LINE])
            self._rest = self._rest[LINE:]
        for line in lines:
            self._service.records.stderr(self._session, line)

    def end(self) -> None:
        """The last line may be unterminated."""
        if self._rest:
            self._service.records.stderr(self._session, self._rest)
