"""Fuzz targets for the client library: URLs, and all that a server can send."""

from __future__ import annotations

from chimirror.client import Error, InvalidURL, control, framing, stdio_messages, url
from chimirror.client.handshake import ConnectionParams
from chimirror.client.websocket import WebSocketProtocol
from chimirror.protocol.frame_format import text_header
from chimirror.protocol.handshake import switching_protocols
from fuzz_input import FuzzInput, pieces

PARAMS = ConnectionParams(url.parse("ws://localhost/"), max_message=300)


def connecting(subprotocol: str) -> tuple[WebSocketProtocol, bytes]:
    """Return a WebSocket before its response, and a response that accepts it."""
    websocket = PARAMS.create_websocket([subprotocol], lambda: 0.0)
    key = websocket.protocol.key.encode()
    return websocket, switching_protocols(key, subprotocol.encode())


def fuzz_client_url(data: bytes) -> None:
    """A URL has a target or a printable error."""
    text = data.decode("utf-8", "surrogateescape")
    try:
        str(url.parse(text)).encode("utf-8", "surrogateescape")
    except InvalidURL as error:
        assert str(error).isprintable()


def fuzz_client_response(data: bytes) -> None:
    """A response is accepted, or refused with a printable line."""
    websocket, accepting = connecting(stdio_messages.SUBPROTOCOL)
    if data[:1] == b"\0":
        data = accepting[: len(accepting) - 2] + data[1:]
    websocket.data_received(data)
    websocket.on_connection_lost("")
    try:
        PARAMS.check_response(websocket, [stdio_messages.SUBPROTOCOL])
    except Error as error:
        assert str(error).isprintable()


def fuzz_client_frames(data: bytes) -> None:
    """Frames of a server, cut anywhere, give the same messages and the same end."""
    source = FuzzInput(data)
    cuts, stream = source.cuts(), source.rest()
    assert receive([stream]) == receive(pieces(stream, cuts))


def receive(chunks: list[bytes]) -> tuple[object, ...]:
    websocket, accepting = connecting(stdio_messages.SUBPROTOCOL)
    assert websocket.data_received(accepting) == []
    messages: list[bytes] = []
    for chunk in chunks:
        messages += websocket.data_received(chunk)
        while websocket.has_received_data:
            messages += websocket.data_received(b"")
    assert all(len(message) <= 300 for message in messages)
    assert websocket.fault is None or websocket.fault.isprintable()
    websocket.tick()
    return messages, websocket.fault, websocket.close_received


def fuzz_client_messages(data: bytes) -> None:
    """A message of a server is an event, nothing, or a MessageError."""
    for name in ("stdio", "json", "lines", "lsp"):
        try:
            framing.create(name).decode(data)
        except stdio_messages.MessageError as error:
            assert error.code in {1007, 1008}
            assert str(error).isprintable()


def fuzz_client_control(data: bytes) -> None:
    """Messages on a control connection are responses, notifications or a fault."""
    websocket, accepting = connecting(control.SUBPROTOCOL)
    subscribers = control.Subscribers()
    subscription = subscribers.subscribe()
    protocol = control.ControlProtocol(websocket, PARAMS, {}, subscribers)
    protocol.data_received(accepting)
    call = protocol.call("x", {})
    next(call)
    for message in data.split(b"\xff")[:20]:
        protocol.data_received(text_header(len(message)) + message)
    try:
        next(call)
    except (StopIteration, Error):
        pass
    call.close()
    for _ in range(20):
        if subscription.take() is None:
            break
    assert websocket.fault is None or websocket.fault.isprintable()
