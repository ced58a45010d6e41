"""Records which processes serve sessions, before any application of them exists.

Every process can write to the journal, and name any session. `chimirror-ctl` believes
only the processes that these records name: systemd.journal-fields(7), `_PID`. A bridge
imports this module before its first byte, so it imports nothing else.
"""

from __future__ import annotations

from chimirror.builtin_modules import os, socket

JOURNAL = "/run/systemd/journal/socket"
# Fixed forever, like the ids in `records`.
SERVING = "8993cfffaf3b4b96a6479bb333a21345"
DEBUG = 7  # syslog(3)
SHORT_ID = 8  # as in `text`, which is not loaded yet


def announce_bridge(session: str) -> None:
    """Record that this process serves the session of its unit.

    Does not wait. Without the record, the first process with a start record of the
    session is believed.
    """
    fields = [
        f"MESSAGE=bridge (pid {os.getpid()}) serves session {session[:SHORT_ID]}",
        f"MESSAGE_ID={SERVING}",
        f"PRIORITY={DEBUG}",
        "SYSLOG_IDENTIFIER=chimirror",
        f"CHIMIRROR_SESSION={session}",
    ]
    datagram = "".join([f"{field}\n" for field in fields]).encode()
    journal = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        journal.sendto(datagram, socket.MSG_DONTWAIT, JOURNAL)
    except OSError:
        pass  # no journal, or no room
    finally:
        journal.close()
