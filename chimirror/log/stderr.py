"""Lines of a program itself on standard error, before and beside its records.

They are few: the addresses of a server, the failure of a start, an internal error that
ends a process. They have the format of the records: a stream has lines of text or of
JSON, never both. Knows no session object.
"""

from __future__ import annotations

import os
import select
import sys
import traceback
from contextlib import contextmanager

from chimirror.builtin_modules import environ_dict
from chimirror.log.sinks import AUTO, JSON, TEXT, format_of, open_sink
from chimirror.text import printable, short_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PIPE_BUF = 4096  # a pipe that is ready takes as much without blocking (pipe(7))
REPORT_TIMEOUT = 1.0  # seconds for a full standard error to take more
ERROR, WARNING, NOTICE, INFO = 3, 4, 5, 6  # syslog(3)
OPTION = "--log-format"
MAX_CAPTURED = 1 << 20  # bytes of output of an import

PLAIN = "plain"  # text without the time, for a terminal and for the journal

_form = ""  # of the lines. Empty until the command line has been read


def set_format(wanted: str) -> None:
    """Set the value of --log-format. Until then, `sys.argv` is searched for it."""
    global _form
    _form = _form_of(wanted)


def _form_of(wanted: str) -> str:
    found = format_of(2, wanted, environ_dict())
    is_plain = found not in (TEXT, JSON) or (found == TEXT and os.isatty(2))
    return PLAIN if is_plain else found


def requested_format(argv: Sequence[str]) -> str:
    """Find --log-format on a command line that may be faulty.

    Returns:
        Its value, or `auto` without a known one.
    """
    words = iter(argv)
    for word in words:
        if word == "--":
            break
        name, equals, value = word.partition("=")
        if name == OPTION:
            value = value if equals else next(words, "")
            return value if value in (TEXT, JSON) else AUTO
    return AUTO


def form() -> str:
    """Return the form of the lines: PLAIN, TEXT or JSON."""
    return _form or _form_of(requested_format(sys.argv[1:]))


def report(
    text: str, priority: int = NOTICE, *, session: str = "", detail: str = ""
) -> None:
    """Print a line on standard error, unless it cannot be written in time.

    A log on a full disk, or a pipe without a reader, neither ends a program nor changes
    its exit status.

    Args:
        text: the message, of one or more lines.
        priority: of syslog(3), for JSON.
        session: id of the session that the text is about, if there is one.
        detail: a traceback, which follows the message.
    """
    if form() == PLAIN:
        lines = f"{text}\n{detail}" if detail else text
        rest = f"{lines}\n".encode(errors="backslashreplace")
    else:
        rest = _encode(text, priority, session, detail)
    room = select.poll()
    room.register(2, select.POLLOUT)
    try:
        while rest and room.poll(REPORT_TIMEOUT * 1000):
            rest = rest[os.write(2, rest[:PIPE_BUF]) :]
    except OSError:
        pass  # closed, full or without a reader


def _encode(text: str, priority: int, session: str, detail: str) -> bytes:
    from chimirror.log.records import MESSAGE, common_fields

    fields = [("MESSAGE", printable(text, "\n")), *common_fields(MESSAGE, priority)]
    if session:
        fields.append(("CHIMIRROR_SESSION", printable(session)))
    if detail:
        fields.append(("CHIMIRROR_DETAIL", printable(detail, "\n")))
    return open_sink(form()).encode(fields)


def report_exception(error: BaseException, session: str = "") -> None:
    """Print the traceback of an internal error, as `report` prints a line.

    Args:
        error: the error.
        session: id of the session that met the error, if it was one.
    """
    place = f" in session {short_id(session)}" if session else ""
    summary = traceback.format_exception_only(error)[-1].strip()
    detail = "".join(traceback.format_exception(error)).removesuffix("\n")
    text = f"internal error{place}: {summary}"
    report(text, ERROR, session=session, detail=detail)


@contextmanager
def captured() -> Iterator[None]:
    """Report what code prints that knows no log, such as an import.

    Only for JSON. The lines are reported when the code has ended.
    """
    if form() != JSON:
        yield
        return
    memory = os.memfd_create("stderr")
    streams = [2, *([1] if os.path.sameopenfile(1, 2) else [])]
    saved = [os.dup(stream) for stream in streams]
    for stream in streams:
        os.dup2(memory, stream)
    try:
        yield
    finally:
        for file in (sys.stdout, sys.stderr):
            file.flush()
        for stream, former in zip(streams, saved, strict=True):
            os.dup2(former, stream)
            os.close(former)
        output = os.pread(memory, MAX_CAPTURED, 0)
        os.close(memory)
        for line in output.splitlines():
            report(line.decode(errors="backslashreplace"))
