"""Plain GET of a resource of the server: a manifest or the list of applications.

Uses the connection, the TLS and the time limit of a session. The `websockets` library
parses the response of a handshake with its body, up to 1 MiB. So a request without the
fields of the handshake gets any resource. Knows nothing of the contents.
"""

from __future__ import annotations

from websockets.exceptions import InvalidStatus

from chimirror.client.errors import NotConnected
from chimirror.client.thread_driver import open_connection

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from chimirror.client.flow import Flow
    from chimirror.client.handshake import ConnectionParams
    from chimirror.client.websocket import WebSocketProtocol


class ResourceProtocol:
    """Protocol of one request. Open once a response with a body is complete."""

    timeout_cause = "no response"
    wants_data = True

    def __init__(self, request: ConnectionParams, websocket: WebSocketProtocol) -> None:
        self.body = b""
        self.websocket = websocket
        self._request = request

    def data_received(self, data: bytes) -> None:
        self.websocket.data_received(data)

    def wait_until_open(self) -> Flow[None]:
        while self.websocket.connecting:
            yield None
        error = self.websocket.protocol.handshake_exc
        if not isinstance(error, InvalidStatus) or error.response.status_code != 200:
            self._request.check_response(self.websocket, ())
            raise NotConnected(f"{self._request.target} opened a WebSocket for a GET")
        self.body = bytes(error.response.body)

    def abort(self) -> None:
        self.websocket.abort()


def get(
    servers: Sequence[ConnectionParams], path_on: Callable[[ConnectionParams], str]
) -> bytes:
    """Return the body of a resource of the first server that has it.

    Args:
        servers: Parameters for each URL. As for a session, the next one is tried if
            there is no connection, or if a server is not available.
        path_on: Returns the path of the resource on a server.

    Raises:
        NotConnected: There is no response, or it is no success. Refused: its status.
    """
    requests = [params.for_resource(path_on(params)) for params in servers]
    protocol, driver = open_connection(requests, (), ResourceProtocol)
    driver.abort()
    return protocol.body
