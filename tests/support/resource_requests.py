"""Plain GET requests to one session harness."""

from __future__ import annotations

from chimirror.session import SessionContext
from session_harness import SessionHarness
from websocket_peer import Reply

CATALOG = "/.well-known/chimirror"


class ControllableContext(SessionContext):
    """Context with support for control."""

    __slots__ = ()

    def supports_control(self) -> bool:
        return True


def get(
    target: str,
    *arguments: str,
    fields: str = "",
    method: str = "GET",
    context_type: type[SessionContext] = SessionContext,
) -> Reply:
    """Send one request and return its response. No application is started."""
    with SessionHarness(*arguments, context_type=context_type) as harness:
        head = f"{method} {target} HTTP/1.1\r\nHost: localhost:30747\r\n{fields}\r\n"
        harness.ask(head.encode())
        assert not harness.application.started
        return harness.peer.refusal()
