"""The request head, with h11 as the reference, and the responses byte for byte."""

from __future__ import annotations

import h11
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chimirror.protocol import http
from chimirror.protocol.http import MAX_FIELDS, MAX_HEAD, HTTPError, HTTPRequest

GOOD = (
    b"GET /a/b?c=d HTTP/1.1\r\n"
    b"Host: localhost:30747\r\n"
    b"Upgrade: websocket\r\n"
    b"Connection: keep-alive, Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Version: 13\r\n"
    b"X-Empty:\r\n"
    b"X-Text: \tm\xfcll  \t\r\n"
    b"\r\n"
)
Outcome = tuple[object, ...] | None


def outcome(data: bytes | bytearray) -> Outcome:
    """Return the result of parse() for comparison."""
    try:
        found = http.parse(data)
    except HTTPError as refusal:
        return refusal.status, refusal.text, refusal.headers, refusal.cause
    if found is None:
        return None
    request, length = found
    return request.method, request.target, tuple(request.fields), length


def head(*lines: bytes, first: bytes = b"GET / HTTP/1.1", host: bool = True) -> bytes:
    """Return a request head, with a Host by default."""
    every = [first, *([b"Host: h"] if host else []), *lines, b"", b""]
    return b"\r\n".join(every)


def refused(data: bytes) -> HTTPError:
    with pytest.raises(HTTPError) as caught:
        http.parse(data)
    return caught.value


def parsed(data: bytes) -> HTTPRequest:
    found = http.parse(data)
    assert found is not None
    assert found[1] == len(data)
    return found[0]


# Requests from a grammar, and damaged valid ones

TOKENS = st.text("abcXYZ019-_!#$%&'*+.^`|~", min_size=1, max_size=8)
TARGETS = st.text('/?ab%2f#:@*"<\\^é', max_size=12).map("/".__add__) | st.sampled_from(
    ["/", "*", "http://h/", "h:80", "", "/a b", "//", "/%zz", "/%00", "/%4"]
)
VALUES = st.text(st.characters(max_codepoint=255), max_size=12)
FIELDS = st.tuples(
    TOKENS
    | st.sampled_from(["Host", "host", "Content-Length", "Transfer-Encoding", "Origin"])
    | VALUES,
    st.sampled_from([":", ": ", ":\t ", " :", "", ";"]),
    VALUES | st.sampled_from(["0", "00", "0, 0", "+0", "chunked", "h", "h:1", "", "1"]),
    st.sampled_from(["", " ", "\t"]),
).map("".join)
ENDS = st.sampled_from(["\r\n"] * 12 + ["\n", "\r", "\r\r\n", "\r\n ", "\n\r\n"])


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """Requests that are valid, or nearly so."""
    versions = ["HTTP/1.1"] * 8 + [
        "HTTP/1.0",
        "HTTP/1.9",
        "HTTP/2.0",
        "http/1.1",
        "HTTP/1.10",
        "",
    ]
    first = " ".join(
        [
            draw(
                st.sampled_from(
                    ["GET", "HEAD", "POST", "PRI", "", "CONNECT", "OPTIONS"]
                )
            ),
            draw(TARGETS),
            draw(st.sampled_from(versions)),
        ]
    )
    lines = [first, *draw(st.lists(FIELDS, max_size=5))]
    if draw(st.integers(0, 9)):
        lines.append("Host: h")
    text = "".join([line + draw(ENDS) for line in lines]) + "\r\n"
    return text.encode("latin-1") + draw(st.binary(max_size=4))


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A valid request with a few bytes flipped, added, removed or doubled."""
    data = bytearray(GOOD)
    pieces = st.binary(min_size=1, max_size=3) | st.sampled_from(
        [
            b"\r",
            b"\n",
            b"\r\n",
            b"\0",
            b"\t",
            b" ",
            b":",
            b",",
            b"\x7f",
            b"\x0b",
            b"\r\n ",
        ]
    )
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data) - 1))
        match draw(st.integers(0, 4)):
            case 0:
                data[at] ^= 1 << draw(st.integers(0, 7))
            case 1:
                data[at:at] = draw(pieces)
            case 2:
                del data[at : at + draw(st.integers(1, 4))]
            case 3:
                data[at] = draw(st.integers(0, 255))
            case _:
                end = at + draw(st.integers(1, 40))
                data[at:at] = data[at:end]
    return bytes(data)


ANYTHING = requests() | damaged() | st.binary(max_size=40)


@given(ANYTHING)
@example(GOOD)
@example(GOOD + b"\x81\x80abcd")
def test_accepts_nothing_that_h11_refuses_and_reads_the_same(data: bytes) -> None:
    try:
        found = http.parse(data)
    except HTTPError:
        return
    if found is None:
        return
    request, length = found
    peer = h11.Connection(h11.SERVER)
    peer.receive_data(data)
    event = peer.next_event()
    assert isinstance(event, h11.Request)
    assert event.method == request.method.encode()
    assert (event.http_version == b"1.0") == request.is_http10
    assert event.http_version[:2] == b"1."
    fields = list(event.headers)
    if not request.scheme:
        assert event.target == request.target.encode() or request.method == "CONNECT"
        assert fields == request.fields
    else:
        assert event.target.endswith(request.target.encode())
        others = [field for field in fields if field[0] != b"host"]
        assert [field for field in request.fields if field[0] != b"host"] == others
    assert isinstance(peer.next_event(), h11.EndOfMessage)
    assert peer.trailing_data[0] == data[length:]


def h11_accepts(data: bytes) -> bool:
    peer = h11.Connection(h11.SERVER)
    peer.receive_data(data)
    try:
        return isinstance(peer.next_event(), h11.Request)
    except h11.RemoteProtocolError:
        return False


@pytest.mark.parametrize("high", range(0, 256, 32))
def test_every_byte_in_every_place(high: int) -> None:
    wrong = [
        data
        for byte in range(high, high + 32)
        for at in range(len(GOOD))
        for skip in (0, 1)
        for data in [GOOD[:at] + bytes([byte]) + GOOD[at + skip :]]
        for found in [outcome(data)]
        if found is not None and isinstance(found[0], str) and not h11_accepts(data)
    ]
    assert wrong == []


@given(ANYTHING, st.lists(st.integers(0, 400), max_size=6))
def test_any_chunking_gives_the_same_result(data: bytes, cuts: list[int]) -> None:
    found = None
    for cut in sorted(cuts):
        found = outcome(bytearray(data[:cut]))
        if found is not None:
            break
    assert found in (None, outcome(data))


@given(st.sampled_from([GOOD, GOOD + b"more"]) | damaged())
def test_byte_by_byte_gives_the_same_result(data: bytes) -> None:
    steps = (outcome(data[:cut]) for cut in range(len(data) + 1))
    assert next((step for step in steps if step is not None), None) == outcome(data)


def test_reads_the_parts() -> None:
    found = http.parse(GOOD + b"early frame")
    assert found is not None
    request, length = found
    assert length == len(GOOD)
    assert request.method == "GET"
    assert request.target == "/a/b?c=d"
    assert request.path == "/a/b"
    assert request.query == "c=d"
    assert request.fields[-2:] == [(b"x-empty", b""), (b"x-text", b"m\xfcll")]


def test_finds_fields() -> None:
    request = parsed(head(b"A: One,two", b"b: x", b"a:,\t THREE ,", b"B:"))
    assert request.get(b"a") == b"One,two"
    assert request.get(b"c") is None
    assert request.get_all(b"b") == [b"x", b""]
    assert request.get_all(b"c") == []
    assert request.elements(b"a") == [b"One", b"two", b"THREE"]
    assert request.tokens(b"a") == [b"one", b"two", b"three"]
    assert request.tokens(b"c") == []


@pytest.mark.parametrize(
    "target", ["/", "//x", "/a%20b", "/%2e%2E/", "/?%zz", "/?a?b", "/a|b", "/%C3%BC"]
)
def test_targets_that_are_served(target: str) -> None:
    request = parsed(head(first=f"GET {target} HTTP/1.1".encode()))
    assert request.target == target


@pytest.mark.parametrize(
    ("url", "host", "target"),
    [
        ("http://h:1", "h:1", "/"),
        ("HTTP://LocalHost/a?b", "LocalHost", "/a?b"),
        ("https://[::1]:443?b", "[::1]:443", "/?b"),
        ("http://192.0.2.1/http://x@y/", "192.0.2.1", "/http://x@y/"),
    ],
)
@pytest.mark.parametrize("version", ["1.0", "1.1", "1.9"])
def test_a_url_as_target_replaces_the_host(
    url: str, host: str, target: str, version: str
) -> None:
    request = parsed(head(b"A: b", first=f"GET {url} HTTP/{version}".encode()))
    assert request.scheme == url.partition(":")[0].lower()
    assert request.target == target
    assert (request.path, request.query) == target.partition("?")[::2]
    assert request.get_all(b"host") == [host.encode()]
    assert request.fields == [(b"host", host.encode()), (b"a", b"b")]
    assert request.is_http10 == (version == "1.0")


@pytest.mark.parametrize("host", ["", "h h", "user@h", "h:x"])
def test_a_url_as_target_excuses_no_malformed_host(host: str) -> None:
    data = head(b"Host: " + host.encode(), first=b"GET http://h/ HTTP/1.1", host=False)
    assert refused(data).text == f'malformed Host "{host}"'
    assert refused(head(first=b"GET http://h/ HTTP/1.1", host=False)).status == 400


def test_a_login_in_the_host_is_in_no_log() -> None:
    target = b"GET http://h/ HTTP/1.1"
    error = refused(head(b"Host: ann:secret@h", first=target, host=False))
    assert error.text == 'malformed Host "ann:secret@h"'
    assert error.detail == 'malformed Host "...@h"'


def test_only_http_1_0_may_have_no_host() -> None:
    request = parsed(head(first=b"OPTIONS * HTTP/1.0", host=False))
    assert (request.is_http10, request.target, request.get(b"host")) == (
        True,
        "*",
        None,
    )
    assert not parsed(head(first=b"CONNECT h:80 HTTP/1.9")).is_http10


def test_a_content_length_of_zero_is_allowed() -> None:
    assert parsed(head(b"Content-Length: 0")).get(b"content-length") == b"0"


@pytest.mark.parametrize(
    "rest", [b"c2VjcmV0\r\n\r\n", b" c2VjcmV0\r\n\r\n", b"c2Vj/cmV0\r\n\r\n", b"c2Vj/"]
)
def test_a_login_in_two_lines_is_in_no_log(rest: bytes) -> None:
    data = b"GET / HTTP/1.1\r\nAuthorization: Basic\r\n" + rest
    assert refused(data).detail == "malformed header field 2"


def line(shown: str) -> str:
    return f'malformed request line "{shown}"; write GET /PATH HTTP/1.1'


FIELD = "malformed header field 2: "
FOLDED = FIELD + "it continues the line before; write each field on one line"
CONTROL = FIELD + "control character 0x{} in A"
VERSION = 'this port speaks HTTP/1.1, not "{}"'
HTTP2 = (
    "this port speaks HTTP/1.1, not HTTP/2; set the proxy or client in front to "
    "HTTP/1.1"
)
NOT_USED = (
    "{}:// is not used in requests; write {}:// (RFC 6455, section 4.1) or a path"
)
URL = "the request target has a malformed authority"
PATH = "the request target must be a path that starts with /"
BODY = "a request with a body is not served"
TLS = "this port speaks ws:// and http://, not TLS; --tls-cert adds it"


@pytest.mark.parametrize(
    ("data", "status", "cause", "text"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "tls", TLS),
        (b"\x16", 400, "tls", TLS),
        (b"\x04\x01\x00\x50", 400, "malformed", line("\\x04")),
        (b"\r\nGET", 400, "malformed", line("")),
        (b"\n", 400, "malformed", line("\\n")),
        (b" ", 400, "malformed", line(" ")),
        (b"GET / HTTP/1.1\n", 400, "malformed", line("GET / HTTP/1.1\\n")),
        (b"GET / HTTP/1.1\rx", 400, "malformed", line("GET / HTTP/1.1\\r")),
        (b"G(T", 400, "malformed", line("G(")),
        (b"hello to you all", 400, "malformed", line("hello to you ")),
        (b"GET /\xfc", 400, "malformed", line("GET /\\xfc")),
        (b"GET /\tx", 400, "malformed", line("GET /\\t")),
        (b"GET\r\n", 400, "malformed", line("GET")),
        (b"GET /\r\n", 400, "malformed", line("GET /")),
        (b"GET  HTTP/1.1\r\n", 400, "malformed", line("GET  HTTP/1.1")),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "http-version", HTTP2),
        *[
            (
                f"GET / {version}\r\n".encode(),
                status,
                "http-version",
                VERSION.format(version),
            )
            for status, versions in (
                (505, ("HTTP/2.0", "HTTP/3.0", "HTTP/0.9", "HTTP/9.9")),
                (400, ("http/1.1", "HTTP/1.10", "HTTP/11", "HTTP/1,1", "HTTP/1.")),
                (400, ("HTTP/", "HTTP/2", "HTTP/x.1", "RTSP/1.0", "HTTP/1.1x")),
            )
            for version in versions
        ],
        (
            b'GET / "\\"\r\n',
            400,
            "http-version",
            'this port speaks HTTP/1.1, not "\\x22\\\\\\x22"',
        ),
        (
            b"GET / " + b"x" * 300 + b"\r\n",
            400,
            "http-version",
            f'this port speaks HTTP/1.1, not "{"x" * 253}..."',
        ),
        *[
            (f"{start} HTTP/1.1\r\n".encode(), 400, "malformed", text)
            for start, text in (
                ("GET *", PATH),
                ("GET h:80", PATH),
                ("CONNECT h:x", PATH),
                ("GET http:/h", PATH),
                ("GET ://h/", PATH),
                (
                    "GET ftp://h/",
                    'a request target has the scheme http or https, not "ftp"',
                ),
                (
                    "GET ws://h/",
                    NOT_USED.format("ws", "http"),
                ),
                (
                    "GET wss://h/",
                    NOT_USED.format("wss", "https"),
                ),
                ("GET http:///x", f'{URL} ""'),
                ("GET http://h:x/", f'{URL} "h:x"'),
                ("GET http://[::1/", f'{URL} "[::1"'),
                ("GET http://h%00/", f'{URL} "h%00"'),
                (
                    "GET http://me:secret@h/",
                    "the request target names a user; write HOST:PORT alone",
                ),
                ("GET http://h/#f", "the request target holds a fragment"),
                ("GET http://h#f", "the request target holds a fragment"),
                ("GET http://h/%00", "the path holds a NUL"),
            )
        ],
        (b"GET ?x HTTP/1.1\r\n", 400, "malformed", PATH),
        (
            b"GET /a#b HTTP/1.1\r\n",
            400,
            "malformed",
            "the request target holds a fragment",
        ),
        (b"GET /%00?x HTTP/1.1\r\n", 400, "malformed", "the path holds a NUL"),
        *[
            (
                b"GET /a%s HTTP/1.1\r\n" % tail,
                400,
                "malformed",
                "the path holds a broken percent-escape",
            )
            for tail in (b"%", b"%4", b"%4?", b"%zz", b"%+1", b"%%41")
        ],
        (head(b" folded: x"), 400, "malformed", FOLDED),
        (head(b"\tfolded"), 400, "malformed", FOLDED),
        (head(b"no colon"), 400, "malformed", FIELD + '"no " is not a name'),
        (head(b"nocolon"), 400, "malformed", FIELD + 'no colon in "nocolon"'),
        (head(b": x"), 400, "malformed", FIELD + 'no name in ":"'),
        (head(b"A : x"), 400, "malformed", FIELD + '"A " is not a name'),
        (head(b"A\xfc: x"), 400, "malformed", FIELD + '"A\\xfc" is not a name'),
        (head(b"A: x\0"), 400, "malformed", CONTROL.format("00")),
        (head(b"A: x\nB: y"), 400, "malformed", CONTROL.format("0a")),
        (head(b"A: x\ry"), 400, "malformed", CONTROL.format("0d")),
        (head(b"A: x\x7f"), 400, "malformed", CONTROL.format("7f")),
        (head(b"A: \x01"), 400, "malformed", CONTROL.format("01")),
        (head()[:-2] + b"A (", 400, "malformed", FIELD + '"A " is not a name'),
        (head()[:-2] + b"A: \x0b", 400, "malformed", CONTROL.format("0b")),
        (head()[:-2] + b"\rX", 400, "malformed", FIELD + '"\\r" is not a name'),
        (head(host=False), 400, "malformed", "no Host field"),
        (head(b"HOST: h"), 400, "malformed", "more than one Host field"),
        (
            head(b"Origin: a", b"Origin: a"),
            400,
            "malformed",
            "more than one Origin field",
        ),
        (head(b"Transfer-Encoding: chunked"), 400, "body", BODY),
        (head(b"Transfer-Encoding:"), 400, "body", BODY),
        *[
            (head(b"Content-Length: " + length), 400, "body", BODY)
            for length in (
                b"1",
                b"00",
                b"-0",
                b"+0",
                b"0, 0",
                b"0x0",
                b"",
                b"0\r\nContent-Length: 0",
            )
        ],
    ],
)
def test_refusals(data: bytes, status: int, cause: str, text: str) -> None:
    refusal = refused(data)
    assert (refusal.status, refusal.cause, refusal.text) == (status, cause, text)
    assert refusal.headers == ()


def test_no_query_of_a_malformed_line_is_logged() -> None:
    refusal = refused(b"GET /a?key=secret b HTTP/1.1\r\n")
    assert refusal.text == line("GET /a?key=secret b ")
    assert refusal.detail == 'malformed request line "GET /a?..."'


@pytest.mark.parametrize(
    "data",
    [b"", b"G", b"GET /", head()[:-1], head()[:-2], head()[:-3], head(b"A")[:-5]],
)
def test_an_incomplete_head_is_no_error(data: bytes) -> None:
    assert http.parse(data) is None


# Limits


def test_a_head_of_the_largest_size() -> None:
    padding = b"A: " + b"x" * (MAX_HEAD - len(head(b"A: ")))
    data = head(padding)
    assert len(data) == MAX_HEAD
    assert http.parse(data[:-1]) is None
    assert parsed(data).get(b"host") == b"h"
    found = http.parse(data + b"frame" * 9999)
    assert found is not None
    assert found[1] == MAX_HEAD


@pytest.mark.parametrize(
    "data",
    [
        head(b"A: " + b"x" * (MAX_HEAD + 1 - len(head(b"A: "))))[:MAX_HEAD],
        head(b"A: " + b"x" * (MAX_HEAD + 1 - len(head(b"A: ")))),
        head(b"A: " + b"x" * MAX_HEAD)[:MAX_HEAD],
        head(b"A: " + b"x" * 99999),
        head(b"A: " + b"x" * 99999 + b"\0"),
        b"GET /" + b"x" * MAX_HEAD,
        b"G" * MAX_HEAD,
    ],
)
def test_a_head_that_is_too_large(data: bytes) -> None:
    refusal = refused(data)
    assert refusal.status == 431
    assert refusal.cause == "head-too-large"
    assert refusal.text == "a request head of more than 16384 bytes"


def test_as_many_fields_as_are_read() -> None:
    lines = [b"A: x"] * (MAX_FIELDS - 1)
    data = head(*lines)
    assert len(parsed(data).fields) == MAX_FIELDS
    for more in (b"", b"\r"):
        assert http.parse(data[:-2] + more) is None
    for more in (b"A", b"A: x\r\n", b"A: x\r\n\r\n", b"\rX", b"\0"):
        refusal = refused(data[:-2] + more)
        assert refusal.status == 431
        assert refusal.cause == "head-too-large"
        assert refusal.text == "more than 100 header fields"


def test_the_first_error_is_reported() -> None:
    lines = [b"A: x"] * MAX_FIELDS
    text = FIELD + '"\\x00" is not a name'
    assert refused(head(b"\0", *lines)).text == text


# Quoting and decoding


@given(st.binary(max_size=400))
def test_a_quoted_value_is_short_and_printable(value: bytes) -> None:
    text = http.quote(value)
    assert len(text) <= http.MAX_QUOTE
    assert text.isascii()
    assert text.isprintable() or not text
    assert '"' not in text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"", ""),
        (b"a'b", "a'b"),
        (b'"', "\\x22"),
        (b"\\\r\n\x1b[1m\xfc", "\\\\\\r\\n\\x1b[1m\\xfc"),
        (b"x" * 256, "x" * 256),
        (b"x" * 257, "x" * 253 + "..."),
        (b"\0" * 100, ("\\x00" * 64)[:253] + "..."),
    ],
)
def test_quote(value: bytes, text: str) -> None:
    assert http.quote(value) == text


@given(st.binary())
def test_unquote_undoes_escapes(value: bytes) -> None:
    assert http.unquote(b"/" + "".join(f"%{byte:02X}" for byte in value).encode()) == (
        b"/" + value
    )


# Responses


def test_response_of_an_error() -> None:
    refusal = HTTPError(503, "no room", (("Retry-After", "5"),), cause="max-sessions")
    whole = (
        b"HTTP/1.1 503 Service Unavailable\r\n"
        b"Content-Type: text/plain; charset=utf-8\r\n"
        b"Content-Length: 8\r\n"
        b"Cache-Control: no-store\r\n"
        b"X-Content-Type-Options: nosniff\r\n"
        b"Retry-After: 5\r\n"
        b"Connection: close\r\n"
        b"\r\n"
        b"no room\n"
    )
    assert refusal.response() == whole
    assert refusal.response(head=True) == whole.removesuffix(b"no room\n")
    assert str(refusal) == "(503, 'no room')"


@pytest.mark.parametrize(
    "status", [200, 400, 403, 405, 408, 421, 426, 431, 500, 503, 505]
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_client_understands_the_answer(status: int, method: str) -> None:
    is_head = method == "HEAD"
    answer = http.response(
        status, "ä\n", headers=[("X-More", "1")], head=is_head, content_type="text/html"
    )
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method=method, target="/", headers=[("Host", "h")]))
    client.send(h11.EndOfMessage())
    client.receive_data(answer)
    event = client.next_event()
    assert isinstance(event, h11.Response)
    assert event.status_code == status
    assert event.reason
    fields = dict(event.headers)
    assert fields[b"content-type"] == b"text/html"
    assert fields[b"content-length"] == b"3"
    assert fields[b"x-more"] == b"1"
    assert fields[b"connection"] == (b"close, Upgrade" if status == 426 else b"close")
    if not is_head:
        body = client.next_event()
        assert isinstance(body, h11.Data)
        assert body.data == b"\xc3\xa4\n"
    assert isinstance(client.next_event(), h11.EndOfMessage)
    client.receive_data(b"")
    assert isinstance(client.next_event(), h11.ConnectionClosed)
