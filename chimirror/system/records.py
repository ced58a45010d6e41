r"""What is told of sessions: to the journal where there is one, else to stderr.

Law: never the payload; never raises; never blocks: what cannot be written at once is
dropped and counted, and the next record that gets through tells how much was. Whatever
a peer supplied is escaped (`\x1b`) and capped, so that it forges no line and moves no
cursor. systemd.journal-fields(7).

Where there is a loop, all records of one turn are written at its end, in as few writes
as a pipe takes whole: that is before the process waits, leaves or fails, so that only
a SIGKILL in the middle of a turn loses any, and those of that turn alone.

Knows no WebSocket. The bridge loads it on the way to its first byte: C modules only.
"""

from __future__ import annotations

import time

from chimirror.system import sinks
from chimirror.system.escape import escape, printable
from chimirror.system.lean import environment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from chimirror.system.sinks import Fields

# Fixed for all times: catalogs and `chimirror-ctl history` go by them.
SESSION_STARTED = "f9a6ed4ca8e248cebd8a0c71c9f97faa"
SESSION_ENDED = "064a48bb2f274460b689d473bc586ced"
REFUSED = "95f8fe4526c74907bbb885f7ec4eb1be"
APPLICATION_OUTPUT = "dfc571fafe9b434381fa99fd41446661"
NOTE = "8b08329f43e842fc9cb5365337435c7a"

NOTICE, INFO = 5, 6  # syslog(3)
NOTE_CAP = 16384  # characters: a traceback fits, and a datagram takes it
# Refusals told per period: a flood of them must not become a flood of records.
REFUSALS, PERIOD = 20, 10.0


class Records:
    """Writes the records of one process.

    Args:
        stderr_was_wire: descriptor 2 was the connection (inetd), so it is not ours to
            write to, and only the journal is left.
        environ: ours, for JOURNAL_STREAM.
        clock: seconds, monotonic.

    Attributes:
        dropped: records that could not be written so far.
    """

    __slots__ = (
        "_batch",
        "_clock",
        "_later",
        "_period",
        "_refusals",
        "_sink",
        "_suppressed",
        "_untold",
        "dropped",
    )

    def __init__(
        self,
        *,
        stderr_was_wire: bool = False,
        environ: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        stream = (environment() if environ is None else environ).get("JOURNAL_STREAM")
        journal = stderr_was_wire or stream == sinks.journal_stream(2)
        self._sink = sinks.choose(journal=journal)
        self._clock = clock
        self._period = clock() - PERIOD
        self._refusals = self._suppressed = 0
        self._untold = self.dropped = 0
        self._batch: list[Fields] = []
        self._later: Callable[[Callable[[], None]], None] | None = None

    def defer(self, later: Callable[[Callable[[], None]], None]) -> None:
        """Write no record at once from now on.

        Args:
            later: calls what it is given at the end of the turn (Loop.at_end).
        """
        self._later = later

    def start(
        self,
        session: str,
        peer: str,
        command: str,
        path: str,
        origin: str,
        framing: str,
        application: str = "",
    ) -> None:
        """A session has started: its application runs."""
        peer, command = escape(peer), escape(command)
        self._put(
            SESSION_STARTED,
            INFO,
            f"session for {peer} started: {command}",
            [
                ("CHIMIRROR_SESSION", session),
                ("CHIMIRROR_PEER", peer),
                ("CHIMIRROR_COMMAND", command),
                ("CHIMIRROR_APPLICATION", application),
                ("CHIMIRROR_PATH", escape(path)),
                ("CHIMIRROR_ORIGIN", escape(origin)),
                ("CHIMIRROR_FRAMING", escape(framing)),
            ],
        )

    def end(
        self,
        session: str,
        peer: str,
        command: str,
        bytes_in: int,
        bytes_out: int,
        messages_in: int,
        messages_out: int,
        exit: str,  # noqa: A002  # the name of its field
        reason: str,
        duration_usec: int,
        application: str = "",
    ) -> None:
        """A session has ended, and nothing of it is left.

        Args:
            exit: how the application ended, such as `exit 0`.
            reason: why the session did: that of its close frame.
        """
        peer, reason = escape(peer), escape(reason)
        self._put(
            SESSION_ENDED,
            INFO,
            f"session for {peer} ended after {duration_usec / 1e6:.1f} s: {reason}",
            [
                ("CHIMIRROR_SESSION", session),
                ("CHIMIRROR_PEER", peer),
                ("CHIMIRROR_COMMAND", escape(command)),
                ("CHIMIRROR_APPLICATION", application),
                ("CHIMIRROR_BYTES_IN", str(bytes_in)),
                ("CHIMIRROR_BYTES_OUT", str(bytes_out)),
                ("CHIMIRROR_MESSAGES_IN", str(messages_in)),
                ("CHIMIRROR_MESSAGES_OUT", str(messages_out)),
                ("CHIMIRROR_EXIT", escape(exit)),
                ("CHIMIRROR_REASON", reason),
                ("CHIMIRROR_DURATION_USEC", str(duration_usec)),
            ],
        )

    def refused(self, peer: str, status: int, cause: str, detail: str) -> None:
        """A request was refused; of a flood, the first few and how many more."""
        now = self._clock()
        if now - self._period >= PERIOD:
            self._period, self._refusals = now, 0
        self._refusals += 1
        if self._refusals > REFUSALS:
            self._suppressed += 1
            return
        suppressed, self._suppressed = self._suppressed, 0
        peer, cause, detail = escape(peer), escape(cause), escape(detail)
        self._put(
            REFUSED,
            NOTICE,
            f"refused {peer}: {status} {cause}: {detail}",
            [
                ("CHIMIRROR_PEER", peer),
                ("CHIMIRROR_STATUS", str(status)),
                ("CHIMIRROR_CAUSE", cause),
                ("CHIMIRROR_DETAIL", detail),
                ("CHIMIRROR_SUPPRESSED", str(suppressed or "")),
            ],
        )

    def output(self, session: str, stream: str, line: bytes) -> None:
        """A line that an application wrote; a long one becomes several records."""
        size = self._sink.piece
        line = line.rstrip(b"\r\n")
        while line:
            piece = line[:size]
            if len(line) > size:
                piece = _whole(piece)
            line = line[len(piece) :]
            fields = [("CHIMIRROR_SESSION", session), ("CHIMIRROR_STREAM", stream)]
            self._put(APPLICATION_OUTPUT, INFO, printable(piece), fields)

    def note(self, priority: int, text: str, **fields: object) -> None:
        """Whatever else there is to tell, of ours and not of a peer's.

        Args:
            priority: of syslog(3): 3 is an error, 4 a warning.
            text: may have several lines.
            fields: become CHIMIRROR_<NAME>.
        """
        shown = [
            (f"CHIMIRROR_{name.upper()}", _lines(str(fields[name]))) for name in fields
        ]
        self._put(NOTE, priority, _lines(text), shown)

    def close(self) -> None:
        """Let go of the descriptors; the next record opens them again."""
        self.flush()
        self._sink.close()

    def _put(self, identity: str, priority: int, text: str, fields: Fields) -> None:
        every = [
            ("MESSAGE", text),
            ("MESSAGE_ID", identity),
            ("PRIORITY", str(priority)),
            ("SYSLOG_IDENTIFIER", "chimirror"),
            *[field for field in fields if field[1]],
        ]
        self._batch.append(every)
        if self._later is None:
            self.flush()
        elif len(self._batch) == 1:
            self._later(self.flush)

    def flush(self) -> None:
        """Write what has been put off."""
        batch, self._batch = self._batch, []
        while batch:
            if self._untold:
                batch[0].append(("CHIMIRROR_DROPPED", str(self._untold)))
            try:
                written = self._sink.send(*batch)
            except OSError:  # nobody reads, no room, no journal: sessions matter more
                written = 0
            if written:
                self._untold = 0
            else:
                self._untold += 1
                self.dropped += 1
            batch = batch[written or 1 :]


def _lines(text: str) -> str:
    return printable(text[-NOTE_CAP:], "\n")


def _whole(piece: bytes) -> bytes:
    """Cut before a character that a cut would split."""
    for back in range(1, 4):
        if piece[-back] & 0xC0 == 0xC0:
            length = 2 + (piece[-back] >= 0xE0) + (piece[-back] >= 0xF0)
            return piece[:-back] if length > back else piece
        if piece[-back] < 0x80:
            break
    return piece
