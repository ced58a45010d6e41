"""Reads one HTTP/1 request head and writes one response (RFC 9110, RFC 9112).

Reads the head strictly: CRLF only, no folding, no control characters, no body. Reads
from left to right: later bytes never change the verdict on earlier ones, however the
stream is cut into reads. Refuses everything that h11 refuses. The meaning of the fields
for WebSocket, hosts and origins is up to `handshake`. Rare request lines are read by
`request_target`.
"""

from __future__ import annotations

import binascii

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterable

MAX_HEAD = 16384
MAX_FIELDS = 100
MAX_QUOTE = 256
METHODS = "GET, HEAD, OPTIONS"  # that are served

_ALNUM = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
TOKEN = b"!#$%&'*+-.^_`|~" + _ALNUM
_LINE = bytes(range(0x20, 0x7F))
_VALUE = b"\t" + _LINE + bytes(range(0x80, 0x100))
# Common names of fields. They need no check of each byte and no conversion.
NAMES = (
    *(b"Host", b"Upgrade", b"Connection", b"Sec-WebSocket-Key", b"Origin"),
    *(b"Sec-WebSocket-Version", b"Sec-WebSocket-Protocol", b"Sec-WebSocket-Extensions"),
    *(b"User-Agent", b"Accept", b"Accept-Encoding", b"Accept-Language", b"Cookie"),
    *(b"Cache-Control", b"Pragma", b"Sec-Fetch-Dest", b"Sec-Fetch-Mode"),
    *(b"Sec-Fetch-Site", b"X-Forwarded-For", b"X-Forwarded-Proto", b"X-Forwarded-Host"),
)
_KNOWN = {name: name.lower() for name in NAMES}
_REASONS = {
    200: "OK",
    204: "No Content",
    304: "Not Modified",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    421: "Misdirected Request",
    426: "Upgrade Required",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
    505: "HTTP Version Not Supported",
}


class HTTPError(Exception):
    """A refused request, with its response.

    Attributes:
        status: The HTTP status.
        text: One line that tells the peer how to correct the request.
        headers: Further fields of the response.
        cause: A short fixed word for logs and counters.
        detail: Further text for the log alone.
    """

    __slots__ = ("cause", "detail", "headers", "status", "text")

    def __init__(
        self,
        status: int,
        text: str,
        headers: tuple[tuple[str, str], ...] = (),
        *,
        cause: str,
        detail: str = "",
    ) -> None:
        super().__init__(status, text)
        self.status = status
        self.text = text
        self.headers = headers
        self.cause = cause
        self.detail = detail

    def response(self, *, head: bool = False) -> bytes:
        return response(self.status, self.text + "\n", headers=self.headers, head=head)


class HTTPRequest:
    """A request head: field names in lower case, values without white space around.

    Attributes:
        target: Path and query, also if the request has them in absolute-form. Then
            `fields` holds its authority as Host, and `scheme` its scheme.
        path: The path of the target. The decision removes the base of a proxy.
        scheme: "http" or "https", "" if the request names none.
        is_http10: The client speaks HTTP/1.0, and takes nothing newer.
    """

    __slots__ = (
        "_values",
        "fields",
        "is_http10",
        "method",
        "path",
        "query",
        "scheme",
        "target",
    )

    def __init__(
        self,
        method: str,
        target: str,
        fields: list[tuple[bytes, bytes]],
        *,
        is_http10: bool = False,
    ) -> None:
        self.method = method
        self.target = target
        self.path, _, self.query = target.partition("?")
        self.fields = fields
        self.scheme = ""
        self.is_http10 = is_http10
        self._values: dict[bytes, list[bytes]] = {}
        for name, value in fields:
            if name in self._values:
                self._values[name].append(value)
            else:
                self._values[name] = [value]

    def get(self, name: bytes) -> bytes | None:
        """Return the first value of a field."""
        values = self._values.get(name)
        return values[0] if values else None

    def get_all(self, name: bytes) -> list[bytes]:
        return self._values.get(name, [])

    def elements(self, name: bytes) -> list[bytes]:
        """Return the elements of a comma-separated field, over all its lines."""
        values = self._values.get(name)
        if not values:
            return []
        parts = b",".join(values).split(b",")
        return [part for part in [part.strip(b" \t") for part in parts] if part]

    def tokens(self, name: bytes) -> list[bytes]:
        """Return `elements` in lower case."""
        return [element.lower() for element in self.elements(name)]

    def remove_fields(self, names: Container[bytes]) -> None:
        """Remove all fields of these names, in lower case."""
        if any(name in names for name in self._values):
            self.fields = [field for field in self.fields if field[0] not in names]
            self._values = {
                name: values
                for name, values in self._values.items()
                if name not in names
            }

    def set_field(self, name: bytes, value: bytes) -> None:
        """Set one field in place of all of its name, or remove them if it is empty."""
        self.remove_fields((name,))
        if value:
            self.fields.append((name, value))
            self._values[name] = [value]

    def set_url(self, scheme: str, authority: str, target: str) -> None:
        """Take over the parts of a target in absolute-form, in place of Host."""
        host = authority.encode()
        self.scheme = scheme
        self.target = target
        self.path, _, self.query = target.partition("?")
        self.fields = [
            (name, host if name == b"host" else value) for name, value in self.fields
        ]
        self._values[b"host"] = [host]


def quote(value: bytes) -> str:
    """Quote bytes from a peer as printable ASCII without `"`, of bounded length."""
    text = ascii(value[:MAX_QUOTE].decode("latin-1"))[1:-1].replace('"', "\\x22")
    if len(value) > MAX_QUOTE or len(text) > MAX_QUOTE:
        text = text[: MAX_QUOTE - 3] + "..."
    return text


def quote_place(value: bytes) -> str:
    """Quote a host or an origin for the log, without a user and a password."""
    _, at, place = value.rpartition(b"@")
    return quote(b"...@" + place if at else value)


def unquote(path: bytes) -> bytes:
    """Decode %XX.

    Raises:
        ValueError: An escape is broken (binascii.Error is a ValueError).
    """
    first, *parts = path.split(b"%")
    if b"" in parts:
        raise ValueError("an escape without digits")
    return first + b"".join([binascii.unhexlify(p[:2]) + p[2:] for p in parts])


def _malformed(text: str) -> HTTPError:
    return HTTPError(400, text, cause="malformed")


def malformed_host(value: bytes) -> HTTPError:
    """Return the error for a Host that is none."""
    error = _malformed(f'malformed Host "{quote(value)}"')
    error.detail = f'malformed Host "{quote_place(value)}"'
    return error


def _check_start(line: bytes) -> None:
    """Refuse an impossible start of a request line. `line` may be incomplete."""
    if line[:1] == b"\x16":  # the handshake record of every TLS version
        text = "this port speaks ws:// and http://, not TLS; --tls-cert adds it"
        raise HTTPError(400, text, cause="tls")
    method = line.partition(b" ")[0]
    if (
        line[:1] == b" "
        or method.translate(None, TOKEN)
        or line.translate(None, _LINE)
        or line.count(b" ") > 2
    ):
        raise _line_error(line[: _first_wrong(line) + 1])


def _line_error(evidence: bytes) -> HTTPError:
    path, mark, _ = evidence.partition(b"?")
    error = _malformed(
        f'malformed request line "{quote(evidence)}"; write GET /PATH HTTP/1.1'
    )
    if mark:  # no query is logged
        error.detail = f'malformed request line "{quote(path)}?..."'
    return error


def _first_wrong(line: bytes) -> int:
    """Return the position of the first byte that no request line can have."""
    spaces = 0
    for at, byte in enumerate(line):
        spaces += byte == 0x20
        if byte not in (_LINE if spaces else TOKEN) or spaces > 2 or line[:1] == b" ":
            return at
    return len(line)


def _split_target(method: bytes, target: bytes) -> tuple[str, str, str]:
    """Return scheme, authority, and path with query of a target."""
    from chimirror.protocol import request_target

    try:
        return request_target.split(method.decode("ascii"), target.decode("ascii"))
    except ValueError as error:
        text, *evidence = error.args
        raise _malformed(
            f'{text} "{quote(evidence[0].encode())}"' if evidence else text
        ) from None


def _check_target(method: bytes, target: bytes) -> None:
    if target[:1] != b"/":
        _split_target(method, target)
    if b"#" in target:
        raise _malformed("the request target holds a fragment")
    path = target.partition(b"?")[0]
    if b"%" not in path:
        return
    try:
        decoded = unquote(path)
    except ValueError:
        raise _malformed("the path holds a broken percent-escape") from None
    if b"\0" in decoded:
        raise _malformed("the path holds a NUL")


def _check_version(method: bytes, version: bytes) -> bool:
    """Return True for HTTP/1.0, False for later versions of HTTP/1."""
    from chimirror.protocol import request_target

    minor = request_target.minor_version(version)
    if minor >= 0:
        return not minor
    text = f'this port speaks HTTP/1.1, not "{quote(version)}"'
    if minor < -1:
        raise HTTPError(400, text, cause="http-version")
    if method == b"PRI":  # the preface of RFC 9113
        text = (
            "this port speaks HTTP/1.1, not HTTP/2; set the proxy or client in front "
            "to HTTP/1.1"
        )
    raise HTTPError(505, text, cause="http-version")


def _request_line(line: bytes) -> tuple[str, str, bool]:
    """Return method, target and is_http10 of a complete request line."""
    _check_start(line)
    parts = line.split(b" ")
    if len(parts) != 3 or not parts[1]:
        raise _line_error(line)
    method, target, version = parts
    is_http10 = version != b"HTTP/1.1" and _check_version(method, version)
    _check_target(method, target)
    return method.decode("ascii"), target.decode("ascii"), is_http10


def _field_name(name: bytes) -> bytes:
    """Return a name for comparison, b"" if it is malformed."""
    return b"" if name.translate(None, TOKEN) else name.lower()


def _field_error(number: int, name: bytes, colon: bytes, value: bytes) -> HTTPError:
    """Describe the first error in a field line.

    The log gets no part of the line: a login that was broken into lines stands in it.
    """
    begin = text = f"malformed header field {number}"
    wrong = name.translate(None, TOKEN)
    if name[:1] in (b" ", b"\t"):
        text += ": it continues the line before; write each field on one line"
    elif wrong:
        text += f': "{quote(name[: name.index(wrong[0]) + 1])}" is not a name'
    elif not name or not colon:
        text += f': no {"colon" if name else "name"} in "{quote(name + colon)}"'
    else:
        byte = value.translate(None, _VALUE)[0]
        begin = text = f"{text}: control character 0x{byte:02x} in {quote(name)}"
    error = _malformed(text)
    error.detail = begin
    return error


def _fields(lines: list[bytes]) -> list[tuple[bytes, bytes]]:
    """Split complete field lines."""
    fields: list[tuple[bytes, bytes]] = []
    for line in lines[:MAX_FIELDS]:
        name, colon, value = line.partition(b":")
        known = _KNOWN.get(name) or _field_name(name)
        if not known or not colon or value.translate(None, _VALUE):
            raise _field_error(len(fields) + 1, name, colon, value)
        fields.append((known, value.strip(b" \t")))
    if len(lines) > MAX_FIELDS:
        text = f"more than {MAX_FIELDS} header fields"
        raise HTTPError(431, text, cause="head-too-large")
    return fields


def _check_part(part: bytes) -> None:
    """Refuse an incomplete head as soon as no valid head can follow from it."""
    *lines, last = part.split(b"\r\n")
    if last[-1:] == b"\r":
        last = last[:-1]  # its LF may follow
    if not lines:
        _check_start(last)
        return
    _request_line(lines[0])
    if last:
        # With a colon, the incomplete line is checked like a complete one.
        lines.append(last if b":" in last else last + b":")
    _fields(lines[1:])


def _check_framing(request: HTTPRequest) -> None:
    """Refuse requests with an ambiguous end or Host."""
    for name, label in ((b"host", "Host"), (b"origin", "Origin")):
        if len(request.get_all(name)) > 1:
            raise _malformed(f"more than one {label} field")
    if request.get(b"host") is None and not request.is_http10:
        raise _malformed("no Host field")
    if request.get(b"transfer-encoding") is not None or request.get_all(
        b"content-length"
    ) not in ([], [b"0"]):
        raise HTTPError(400, "a request with a body is not served", cause="body")


def parse(buffer: bytes | bytearray) -> tuple[HTTPRequest, int] | None:
    """Read one request head from the start of the received bytes.

    Returns:
        The request, and the length of its head in bytes, blank line included. None
        while the head is incomplete and without error.

    Raises:
        HTTPError: 400 or 431, at the first byte that decides.
    """
    end = buffer.find(b"\r\n\r\n", 0, MAX_HEAD)
    if end < 0:
        _check_part(bytes(buffer[:MAX_HEAD]))
        if len(buffer) >= MAX_HEAD:
            text = f"a request head of more than {MAX_HEAD} bytes"
            raise HTTPError(431, text, cause="head-too-large")
        return None
    first, *lines = bytes(buffer[:end]).split(b"\r\n")
    method, target, is_http10 = _request_line(first)
    request = HTTPRequest(method, target, _fields(lines), is_http10=is_http10)
    _check_framing(request)
    if target[0] != "/":
        _use_url(request)
    return request, end + 4


def _use_url(request: HTTPRequest) -> None:
    """Read the target of a request that is more than a path (RFC 9112, 3.2.2)."""
    target = request.target.encode("ascii")
    scheme, authority, target_path = _split_target(request.method.encode(), target)
    if not scheme:
        return
    host = request.get(b"host")
    if host is not None:  # ignored, but an invalid one has to be refused
        from chimirror.protocol import addresses

        if addresses.authority(host.decode("latin-1")) is None:
            raise malformed_host(host)
    request.set_url(scheme, authority, target_path)


def response(
    status: int,
    body: str | bytes,
    *,
    headers: Iterable[tuple[str, str]] = (),
    head: bool = False,
    content_type: str = "text/plain; charset=utf-8",
    cache: str = "no-store",
) -> bytes:
    """Return a complete response, the last one of its connection.

    Args:
        status: A key of `_REASONS`.
        body: The content, with line ends if it is text.
        headers: Further fields. Their bytes are not checked.
        head: The request was HEAD, so the body is omitted.
        content_type: The media type of `body`.
        cache: The value of Cache-Control.
    """
    payload = body.encode() if isinstance(body, str) else body
    lines = [f"HTTP/1.1 {status} {_REASONS[status]}"]
    if status != 204:  # has no content, and no length (RFC 9110, section 8.6)
        lines.append(f"Content-Type: {content_type}")
        lines.append(f"Content-Length: {len(payload)}")
    lines += [f"Cache-Control: {cache}", "X-Content-Type-Options: nosniff"]
    lines += [f"{name}: {value}" for name, value in headers]
    # Upgrade is hop-by-hop, so Connection has to name it (RFC 9110, section 7.8).
    lines.append("Connection: close" + (", Upgrade" if status == 426 else ""))
    answer = "\r\n".join(lines).encode("ascii") + b"\r\n\r\n"
    return answer if head else answer + payload
