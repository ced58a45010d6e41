"""Takes questions as HTTP requests: of chimirror, and of proxies that ask likewise.

chimirror-protocol(7), section AUTHORIZERS. Serves auth_request of nginx, forward_auth
of Caddy and ext_authz of Envoy. Every method and path is the same question. h11 reads
the requests (RFC 9112). Every wait and every size is bounded.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING, cast

import h11

from chimirror.access import ALLOWED
from chimirror.authorize import LoginAttempt
from chimirror.authorize.messages import warn_internal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from chimirror.access import Answer
    from chimirror.authorize.verifier_pool import VerifierPool
    from chimirror.io.listener import Listener

MAX_HEAD = 1 << 16  # bytes
MAX_BODY = 1 << 16  # bytes of a request that are read and ignored
MAX_CONNECTIONS = 500
HEAD_TIMEOUT = 10.0  # seconds for the rest of a head, and for a response
BODY_TIMEOUT = 10.0  # seconds for a body
IDLE_TIMEOUT = 300.0  # seconds between two requests
LIST_PATH = "/.well-known/chimirror"  # shows only applications that one may use
Fields = list[tuple[bytes, bytes]]


class HttpFront:
    """Serves all connections of some listeners.

    Args:
        pool: Verifies.
        listeners: The sockets, which stay open.
    """

    def __init__(self, pool: VerifierPool, listeners: Sequence[Listener]) -> None:
        self._pool = pool
        self._listeners = listeners
        self._connections: set[asyncio.Task[None]] = set()

    def serve(self, on_ready: Callable[[], object]) -> None:
        """Serve until SIGTERM, SIGINT or SIGHUP.

        Args:
            on_ready: Called when questions are answered.
        """
        asyncio.run(self._serve(on_ready))

    async def _serve(self, on_ready: Callable[[], object]) -> None:
        loop, stopped = asyncio.get_running_loop(), asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            if signal.getsignal(number) != signal.SIG_IGN:  # as with nohup(1)
                loop.add_signal_handler(number, stopped.set)
        servers = [
            await asyncio.start_server(
                self._on_connection, sock=socket.socket(fileno=os.dup(each.fd))
            )
            for each in self._listeners
        ]
        on_ready()
        await stopped.wait()
        for server in servers:
            server.close()
        for task in self._connections:
            task.cancel()

    async def _on_connection(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Called for each connection."""
        task = cast("asyncio.Task[None]", asyncio.current_task())
        self._connections.add(task)
        try:
            if len(self._connections) <= MAX_CONNECTIONS:
                await HttpConnection(self._pool, reader, writer).serve()
        except (OSError, TimeoutError, asyncio.CancelledError):
            pass  # closed by the caller, too slow, or stopping
        except Exception as error:  # noqa: BLE001  # this connection alone fails
            warn_internal(error)
        finally:
            self._connections.discard(task)
            writer.close()


class HttpConnection:
    """One connection, and its requests one after the other."""

    def __init__(
        self,
        pool: VerifierPool,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._pool = pool
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)

    async def serve(self) -> None:
        """Serve requests until one of both sides closes the connection."""
        try:
            while await self._serve_request():
                self._http.start_next_cycle()
        except h11.RemoteProtocolError as error:
            if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                text = "this is no request of HTTP/1.1, or it is too long"
                await self._respond(error.error_status_hint, [], text, head=False)

    async def _serve_request(self) -> bool:
        """Serve one request. Returns True if another one may follow."""
        request = await self._read_head()
        if request is None:
            return False
        answer = await asyncio.wrap_future(self._pool.submit(read_attempt(request)))
        is_head = request.method == b"HEAD"
        fields = answer_fields(answer)
        await self._respond(answer.status, fields, answer.text, head=is_head)
        return await self._skip_body()

    async def _read_head(self) -> h11.Request | None:
        """Return the next request, None at the end of the connection."""
        event = self._http.next_event()
        if event is h11.NEED_DATA and not self._http.trailing_data[0]:
            async with asyncio.timeout(IDLE_TIMEOUT):
                await self._receive()
            event = self._http.next_event()
        async with asyncio.timeout(HEAD_TIMEOUT):
            while event is h11.NEED_DATA:
                await self._receive()
                event = self._http.next_event()
        return event if isinstance(event, h11.Request) else None

    async def _receive(self) -> None:
        self._http.receive_data(await self._reader.read(MAX_HEAD))

    async def _respond(
        self, status: int, fields: Fields, text: str, *, head: bool
    ) -> None:
        body = f"{text}\n".encode() if text else b""
        response = h11.Response(
            status_code=status,
            headers=[
                (b"Date", formatdate(usegmt=True).encode()),
                (b"Content-Type", b"text/plain; charset=utf-8"),
                (b"Content-Length", b"%d" % len(body)),
                *fields,
            ],
            reason=HTTPStatus(status).phrase,
        )
        data = self._http.send(response) or b""
        if body and not head:
            data += self._http.send(h11.Data(data=body)) or b""
        if self._http.our_state is h11.SEND_BODY:  # not after a CONNECT
            data += self._http.send(h11.EndOfMessage()) or b""
        self._writer.write(data)
        async with asyncio.timeout(HEAD_TIMEOUT):
            await self._writer.drain()

    async def _skip_body(self) -> bool:
        """Read the rest of a request. Returns True if another request may follow."""
        left = MAX_BODY
        async with asyncio.timeout(BODY_TIMEOUT):
            while left >= 0 and self._http.our_state is h11.DONE:
                if self._http.their_state is h11.DONE:
                    return True
                event = self._http.next_event()
                if isinstance(event, h11.Data):
                    left -= len(event.data)
                elif event is h11.NEED_DATA:
                    await self._receive()
        return False


def read_attempt(request: h11.Request) -> LoginAttempt:
    """Read the client of a question."""
    application = _field(request, b"chimirror-application")
    uri = _field(request, b"x-forwarded-uri") or _field(request, b"x-original-uri")
    path = (uri or request.target.decode("latin-1")).partition("?")[0]
    return LoginAttempt(
        authorization=_field(request, b"authorization"),
        cookie=_field(request, b"cookie", "; "),
        application=application or ("" if path == LIST_PATH else None),
        address=_field(request, b"x-forwarded-for").rpartition(",")[2].strip(),
    )


def _field(request: h11.Request, name: bytes, separator: str = ", ") -> str:
    values = [
        value.decode("latin-1") for found, value in request.headers if found == name
    ]
    return separator.join(values)


def answer_fields(answer: Answer) -> Fields:
    """Return the fields of an answer."""
    fields: Fields = [
        (b"WWW-Authenticate", challenge.encode()) for challenge in answer.challenges
    ]
    identity = answer.identity
    if answer.status != ALLOWED or identity is None:
        return [*fields, (b"Cache-Control", b"no-store")]
    if identity.user:
        fields.append((b"Remote-User", identity.user.encode()))
    if identity.groups:
        fields.append((b"Remote-Groups", ",".join(identity.groups).encode()))
    if identity.applications is not None:
        names = ",".join(identity.applications)
        fields.append((b"Chimirror-Applications", names.encode()))
    age = int(answer.max_age)
    return [*fields, (b"Cache-Control", b"max-age=%d" % age if age else b"no-store")]
