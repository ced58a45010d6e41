"""Reports the state of the service to the service manager (sd_notify(3))."""

from __future__ import annotations

import os


def notify(state: str) -> None:
    """Report a state such as `READY=1`, if the service manager waits for one."""
    if "NOTIFY_SOCKET" in os.environ:
        import sdnotify

        notifier = sdnotify.SystemdNotifier()
        if notifier.socket is not None:
            notifier.socket.setblocking(False)  # process 1 may be busy
            # the module encodes in Latin-1
            notifier.notify(state.encode().decode("latin-1"))
            notifier.socket.close()
