"""Tell the service manager how we are (sd_notify(3))."""

from __future__ import annotations

import os


def tell(state: str) -> None:
    """Such as `READY=1`; nothing where nobody waits for it."""
    if "NOTIFY_SOCKET" in os.environ:
        import sdnotify

        sdnotify.SystemdNotifier().notify(state)
