"""Fuzz targets for the start of a connection: PROXY header, request head, handshake."""

from __future__ import annotations

from chimirror.protocol import MAX_TERMINAL_SIZE, handshake, http, proxy_protocol
from chimirror.protocol.http import HTTPError, HTTPRequest
from chimirror.protocol.policy import HandshakePolicy
from chimirror.protocol.request_cache import RequestCache, SessionRequest
from fuzz_input import FuzzInput

STATUSES = {400, 403, 404, 405, 421, 426, 431, 500, 505}
PEER = ("192.0.2.1", 4711)
POLICY = HandshakePolicy(
    ("json", "stdio"), {"mcp": "lines"}, ("example.org",), ("https://a.example",)
)
PROXIED = HandshakePolicy(
    ("lines",), trusted=proxy_protocol.trusted_networks(["192.0.2.0/24"])
)


def check_refusal(refusal: HTTPError) -> None:
    """Every refusal is one complete and printable response."""
    assert refusal.status in STATUSES
    assert refusal.text.isprintable()
    head, _, body = refusal.response().partition(b"\r\n\r\n")
    assert body == refusal.text.encode() + b"\n"
    assert head.count(b"\n") == head.count(b"\r\n")


def fuzz_head(data: bytes) -> None:
    """A head is read the same with any cut, and its verdict never changes."""
    source = FuzzInput(data)
    cuts, stream = source.cuts(), source.rest()
    outcomes = [read_head(stream[:cut]) for cut in cuts]
    whole = read_head(stream)
    decided = next((found for found in outcomes if found is not None), whole)
    assert decided == whole
    if whole is not None and isinstance(whole[0], str):
        fields, length = whole[2], whole[3]
        assert isinstance(fields, tuple)
        assert len(fields) <= http.MAX_FIELDS
        assert isinstance(length, int)
        assert length <= http.MAX_HEAD + 4


def read_head(data: bytes) -> tuple[object, ...] | None:
    try:
        found = http.parse(bytearray(data))
    except HTTPError as refusal:
        check_refusal(refusal)
        return refusal.status, refusal.text
    if found is None:
        return None
    request, length = found
    return request.method, request.target, tuple(request.fields), length


def fuzz_handshake(data: bytes) -> None:
    """A request is refused by an HTTPError or accepted, with and without a proxy."""
    source = FuzzInput(data)
    policy = PROXIED if source.byte() % 2 else POLICY
    try:
        found = http.parse(source.rest())
        if found is not None:
            check_size(handshake.negotiate(found[0], policy, *PEER))
    except HTTPError as refusal:
        check_refusal(refusal)


def check_size(decision: object) -> None:
    """The size of a terminal fits into the kernel's two fields."""
    size = getattr(decision, "terminal_size", None)
    assert size is None or all(0 < number <= MAX_TERMINAL_SIZE for number in size)


def fuzz_request_cache(data: bytes) -> None:
    """The cache never changes an answer, not even after another request."""
    first, _, second = data.partition(b"\xff\xfe")
    cache = RequestCache(POLICY, "x", ())
    for stream in (first, second or first, first):
        assert cached(cache, stream) == cached(RequestCache(POLICY, "x", ()), stream)


def cached(cache: RequestCache, stream: bytes) -> object:
    try:
        found = cache.read(stream, *PEER)
    except HTTPError as refusal:
        return refusal.response()
    if isinstance(found, SessionRequest):
        return found.response(), found.variables, found.terminal_size
    return found and (found.route, found.url)


def fuzz_proxy_protocol(data: bytes) -> None:
    """A header has an address or none, and is read the same with any cut."""
    source = FuzzInput(data)
    cuts, stream = source.cuts(), source.rest()
    outcomes = [read_proxy_header(stream[:cut]) for cut in cuts]
    whole = read_proxy_header(stream)
    decided = next((found for found in outcomes if found is not None), whole)
    assert decided == whole


def read_proxy_header(data: bytes) -> object:
    try:
        found = proxy_protocol.parse(bytearray(data))
    except HTTPError as refusal:
        check_refusal(refusal)
        return refusal.text
    if found is not None:
        assert 0 < found[1] <= min(len(data), proxy_protocol.MAX_BLOCK)
    return found


def fuzz_forwarded(data: bytes) -> None:
    """Fields of a trusted proxy give a client's address or are refused."""
    names = (b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"origin")
    parts = data.split(b"\n")[:12]
    fields = [(names[n % 4], part.strip(b" \t\r\0")) for n, part in enumerate(parts)]
    usual = [
        (b"host", b"localhost"),
        (b"upgrade", b"websocket"),
        (b"connection", b"upgrade"),
        (b"sec-websocket-version", b"13"),
        (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ=="),
    ]
    request = HTTPRequest("GET", "/", usual + fields)
    try:
        accepted = handshake.negotiate(request, PROXIED, *PEER)
    except HTTPError as refusal:
        check_refusal(refusal)
        return
    assert isinstance(accepted, handshake.AcceptedHandshake)
    assert accepted.peer_address.isprintable()
    assert 0 <= accepted.peer_port <= 65535
