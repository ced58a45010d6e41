"""Serves /metrics, /live and /ready by HTTP, on an address of their own.

For scrapers and probes inside of a network: no login, no TLS and no page of a browser.
A request from a page is refused (Origin). So is a name that is not this host's, by
which a page could reach it nevertheless (DNS rebinding). HTTP/1: RFC 9110, RFC 9112.

Knows no session: the supervisor passes samples and status.
"""

from __future__ import annotations

from chimirror.metrics import exposition
from chimirror.protocol import addresses, http
from chimirror.server.short_connections import ShortConnection, ShortServer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from chimirror.io.listener import Listener
    from chimirror.io.loop import EventLoop
    from chimirror.metrics.exposition import Samples
    from chimirror.server.server_status import ServerStatus

MAX_HEAD = 8192  # bytes
PATHS = ("/metrics", "/live", "/ready")
METHODS = ("GET", "HEAD")


class MetricsServer:
    """The answers to all requests.

    Args:
        loop: reports readiness.
        listeners: their owner closes them.
        collect: returns the samples.
        status: tells whether the server is ready.
        hosts: names that Host may hold, beside addresses and `localhost`.
        log: called with the text of a warning.
    """

    def __init__(
        self,
        loop: EventLoop,
        listeners: Sequence[Listener],
        collect: Callable[[], Samples],
        status: ServerStatus,
        hosts: Sequence[str],
        log: Callable[[str], object],
    ) -> None:
        self._collect = collect
        self._status = status
        self._hosts = frozenset(host.lower() for host in hosts)
        self._server = ShortServer(loop, listeners, self._connect, log)
        self.close = self._server.close
        self.release_after_fork = self._server.release_after_fork

    def _connect(
        self, server: ShortServer, loop: EventLoop, fd: int
    ) -> ShortConnection:
        return MetricsConnection(server, loop, fd, self.respond)

    def respond(self, request: http.HTTPRequest) -> bytes:
        """Return the response to a request.

        Raises:
            HTTPError: The request is refused.
        """
        self._check(request)
        is_head = request.method == "HEAD"
        if request.path == "/metrics":
            accept = b",".join(request.get_all(b"accept")).decode("latin-1")
            is_new = exposition.prefers_open_metrics(accept)
            body = exposition.render(self._collect(), open_metrics=is_new)
            kind = exposition.OPEN_METRICS_TYPE if is_new else exposition.TEXT_TYPE
            return http.response(200, body, head=is_head, content_type=kind)
        if request.path == "/live":
            return http.response(200, "live\n", head=is_head)
        if request.path == "/ready":
            obstacle = self._status.obstacle()
            status = 503 if obstacle else 200
            return http.response(status, f"{obstacle or 'ready'}\n", head=is_head)
        text = f"there is no such page; ask for {', '.join(PATHS)}"
        raise http.HTTPError(404, text, cause="path")

    def _check(self, request: http.HTTPRequest) -> None:
        if request.method not in METHODS:
            allowed = ", ".join(METHODS)
            raise http.HTTPError(
                405, f"write {allowed}", (("Allow", allowed),), cause="method"
            )
        if request.get(b"origin") is not None:
            text = "pages of browsers get nothing here"
            raise http.HTTPError(403, text, cause="origin")
        value = request.get(b"host")
        if value is None:  # HTTP/1.0
            return
        place = addresses.authority(value.decode("latin-1"))
        if place is None:
            raise http.malformed_host(value)
        host = place[0]
        is_known = host == "localhost" or host in self._hosts
        if not is_known and not addresses.is_literal(host):
            shown = http.quote(host.encode())
            text = f'Host "{shown}" is not served here; start with --host {shown}'
            raise http.HTTPError(403, text, cause="host")


class MetricsConnection(ShortConnection):
    """One request.

    Args:
        server, loop, fd: as for ShortConnection.
        respond: returns the response to a request.
    """

    __slots__ = ("_head", "_next_size", "_respond")

    def __init__(
        self,
        server: ShortServer,
        loop: EventLoop,
        fd: int,
        respond: Callable[[http.HTTPRequest], bytes],
    ) -> None:
        super().__init__(server, loop, fd)
        self._head = b""
        self._next_size = 0  # bytes of the head at which it is parsed again
        self._respond = respond

    def on_request_data(self, data: bytes) -> None:
        """Called with more of the request. Answers it once it is complete."""
        self._head += data
        # At each line end, and when the head has doubled: parsing at each read would
        # take quadratic time.
        size = len(self._head)
        if b"\n" not in data and size < self._next_size:
            return
        self._next_size = min(2 * size, MAX_HEAD)
        try:
            parsed = http.parse(self._head)
            if parsed is not None:
                self.answer(self._respond(parsed[0]))
            elif size >= MAX_HEAD:
                text = f"a request head of more than {MAX_HEAD} bytes"
                raise http.HTTPError(431, text, cause="head-too-large")
        except http.HTTPError as error:
            self.answer(error.response(head=self._head.startswith(b"HEAD ")))
