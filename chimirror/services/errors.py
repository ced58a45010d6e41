"""Exceptions of the services library.

Pure. The text of each exception is one line that is safe for terminals: what the other
side sent is escaped and cut. Data for decisions of a program are in the attributes.
"""

from __future__ import annotations

from chimirror.text import escape_line

MAX_EVIDENCE = 100  # characters
EVIDENCE_BYTES = 4 * MAX_EVIDENCE  # more is never shown


class Error(Exception):
    """Base class of all exceptions here. Wrong arguments raise ValueError."""


class NotConnected(Error):
    """There is no such service, or its server has ended. The text says which."""


class PeerClosed(Error):
    """The other side has closed this direction, or has ended.

    `receive` raises it after the last message, `send` when nothing reads any more.
    """


class InvalidMessage(Error):
    """A message that is no value of the service. Later messages still arrive.

    Attributes:
        service: Name of the service.
        reason: One line.
        evidence: The beginning of the message, escaped.
    """

    def __init__(self, service: str, reason: str, evidence: bytes) -> None:
        self.service = service
        self.reason = escape_line(reason)
        self.evidence = escape_line(evidence[:EVIDENCE_BYTES], MAX_EVIDENCE)
        super().__init__(
            f"invalid message of service {service}: {self.reason}: {self.evidence}"
        )
