"""Tell the service manager how we are (sd_notify(3))."""

from __future__ import annotations

import os


def tell(state: str) -> None:
    """Such as `READY=1`; nothing where nobody waits for it."""
    if "NOTIFY_SOCKET" in os.environ:
        import sdnotify

        notifier = sdnotify.SystemdNotifier()
        if notifier.socket is not None:
            notifier.socket.setblocking(False)  # process 1 may be busy
            notifier.notify(state.encode().decode("latin-1"))  # which it encodes in
            notifier.socket.close()
