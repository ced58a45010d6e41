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
    from chimirror.client.flow import Flow
    from chimirror.client.handshake import ConnectionParams
    from chimirror.client.websocket import WebSocketProtocol


class ResourceProtocol:
    """Protocol of one request. Open once the response is complete."""

    timeout_cause = "no response"
    wants_data = True

    def __init__(self, websocket: WebSocketProtocol) -> None:
        self.websocket = websocket

    def data_received(self, data: bytes) -> None:
        self.websocket.data_received(data)

    def wait_until_open(self) -> Flow[None]:
        while self.websocket.connecting:
            yield None

    def abort(self) -> None:
        self.websocket.abort()


def get(params: ConnectionParams, path: str) -> bytes:
    """Return the body of the resource at this path of the server of `params`.

    Raises:
        NotConnected: There is no response, or it is no success. Refused: its status.
    """
    request = params.for_resource(path)
    protocol, driver = open_connection(
        [request], (), lambda _, websocket: ResourceProtocol(websocket)
    )
    driver.abort()
    error = protocol.websocket.protocol.handshake_exc
    if isinstance(error, InvalidStatus) and error.response.status_code == 200:
        return bytes(error.response.body)
    request.check_response(protocol.websocket, ())
    raise NotConnected(f"{request.target} opened a WebSocket for a plain GET")
