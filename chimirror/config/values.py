"""Reads names as people write them: framings, hosts, origins, networks, variables.

Each function takes the text of one option, or the list of texts if the option may be
repeated, and returns its value. A ValueError is one line, which quotes the text and
says how to correct it. Knows neither the options nor the use of the values. The bridge
loads this module on the way to its first byte, so a function imports slow modules by
itself.
"""

from __future__ import annotations

from chimirror.framing.registry import FRAMINGS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipaddress import IPv4Network, IPv6Network

_STDERR = ("client", "log", "discard")
_DIRECTIONS = ("send", "receive", "both")
_WHEN = ("auto", "on", "off")
_TLS_CLIENT = ("required", "optional")
_MULTILINE = ("refuse", "split")
_LOG_FORMATS = ("auto", "text", "json")
_BUILT_IN = "chimirror."  # prefix of the project's own subprotocol names
# RFC 9110, section 5.6.2, besides letters and digits
_TOKEN = frozenset("!#$%&'*+-.^_`|~")
# Fields that HTTP defines for connections, bodies, caches, redirects and logins.
_RESERVED_FIELDS = frozenset(
    "accept-ranges age allow alt-svc authentication-info cache-control connection date "
    "etag expires host keep-alive last-modified link location pragma refresh "
    "retry-after server set-cookie strict-transport-security trailer "
    "transfer-encoding upgrade vary via warning www-authenticate".split()
)
_RESERVED_PREFIXES = ("access-control-", "content-", "proxy-", "sec-")
_MAX_HEADER = 64  # characters
# Each session sets this variable. It identifies stray processes of an application.
_SESSION = "CHIMIRROR_SESSION"


class InvalidVariableName(ValueError):
    """A text that is not the name of a variable."""


def framings(text: str) -> tuple[str, ...]:
    """Read the allowed framings in order of preference, from ``json,stdio``."""
    names = tuple(text.split(","))
    for name in names:
        _framing(name)
        if names.count(name) > 1:
            raise ValueError(f'"{name}" is named twice; name each framing once')
    return names


def _framing(name: str) -> str:
    if name not in FRAMINGS:
        raise ValueError(f'"{name}" is not a framing; write {choice((*FRAMINGS,))}')
    return name


def stderr(text: str) -> str:
    """Read the destination of the application's standard error."""
    return one_of(_STDERR, text)


def log_format(text: str) -> str:
    """Read the format of the log."""
    return one_of(_LOG_FORMATS, text)


def file(text: str) -> str:
    """Read the path of a file. It is kept when the directory is changed."""
    if not text:
        raise ValueError("no file is named; write its path")
    from chimirror.builtin_modules import os

    return text if text.startswith("/") else f"{os.getcwd()}/{text}"


def files(texts: list[str]) -> tuple[str, ...]:
    """Read the paths of files."""
    return tuple([file(text) for text in texts])


def tls_client(text: str) -> str:
    """Read whether a client needs a certificate."""
    return one_of(_TLS_CLIENT, text)


def session_cgroup(text: str) -> str:
    """Read whether sessions have cgroups."""
    return one_of(_WHEN, text)


def direction(text: str) -> str:
    """Read the direction of messages, as seen by the client."""
    return one_of(_DIRECTIONS, text)


def multiline(text: str) -> str:
    """Read what the framing lines does with a message of several lines."""
    return one_of(_MULTILINE, text)


def one_of(words: tuple[str, ...], text: str) -> str:
    """Read one of these words."""
    if text not in words:
        raise ValueError(f'"{text}" is not known; write {choice(words)}')
    return text


def choice(words: tuple[str, ...]) -> str:
    """Return words for a hint: ``a, b or c``."""
    return ", ".join(words[:-1]) + " or " + words[-1]


def subprotocols(texts: list[str]) -> dict[str, str]:
    """Read foreign subprotocol names and their framings, from ``mcp=lines``."""
    names: dict[str, str] = {}
    for text in texts:
        name, _, framing = text.partition("=")
        if not name or not framing or not is_token(name):
            raise ValueError(f'"{text}" is not NAME=FRAMING; write mcp=lines')
        if name.startswith(_BUILT_IN):
            raise ValueError(f'"{name}" is built in; allow it with --framing')
        if name in names:
            raise ValueError(f'"{name}" is given twice; give each name one framing')
        names[name] = _framing(framing)
    return names


def is_token(text: str) -> bool:
    """Return True for a token (RFC 9110, section 5.6.2), which can name a field."""
    return text.isascii() and all(c.isalnum() or c in _TOKEN for c in text)


def session_id_header(text: str) -> str:
    """Read the name of the response field that holds the id of the session."""
    if not 0 < len(text) <= _MAX_HEADER or not is_token(text):
        raise ValueError(f'"{text}" is not the name of a field; write X-Session-Id')
    name = text.lower()
    if name in _RESERVED_FIELDS or name.startswith(_RESERVED_PREFIXES):
        raise ValueError(
            f'"{text}" has a meaning of its own in HTTP; write another name, such as '
            "X-Session-Id"
        )
    return text


def hosts(texts: list[str]) -> tuple[str, ...]:
    """Read host names. Returns them in lower case."""
    return tuple([_host(text) for text in texts])


def _host(text: str) -> str:
    if not text.isascii():
        raise ValueError(f'"{text}" is not ASCII; write the name in its xn-- form')
    if not text.strip(".") or not all(c.isalnum() or c in "-._" for c in text):
        raise ValueError(
            f'"{text}" is not a host name; write it without scheme, port or path, '
            "such as app.example.org"
        )
    return text.lower()


def origins(texts: list[str]) -> tuple[str, ...]:
    """Read origins. Returns them as browsers send them: lower case, no default port.

    `SCHEME://*` stands for all origins of a scheme, unless it is one of the web.
    """
    return tuple([_origin(text) for text in texts])


def _origin(text: str) -> str:
    from chimirror.protocol.policy import origin_text, parse_origin

    origin = parse_origin(text, any_host=True)
    if origin is not None:
        return origin_text(origin)
    example = "such as https://app.example.org:8443"
    if text == "null":
        fault = (
            "cannot be allowed, because all sandboxed pages and files have it; serve "
            f"the page and name its origin, {example}"
        )
    elif "*" in text:
        fault = (
            "has a * that is not allowed; only a scheme that is not http, https, ws or "
            "wss can have one, alone, as in vscode-webview://*; else name each origin, "
            f"{example}"
        )
    elif not text.isascii():
        fault = "is not ASCII; write the name in its xn-- form"
    else:
        fault = f"is not an origin; write scheme, name and port alone, {example}"
    raise ValueError(f'"{text}" {fault}')


def networks(texts: list[str]) -> tuple[str, ...]:
    """Read networks in CIDR notation, or ``unix`` for peers on a Unix socket."""
    return tuple([_network(text) for text in texts])


def _network(text: str) -> str:
    if text == "unix":
        return text
    address, percent, _ = text.partition("%")
    if percent:
        raise ValueError(
            f'"{text}" has a zone, and peers are compared without one; write {address}'
        )
    try:
        return str(ip_network(text))
    except ValueError:
        pass
    try:
        hint = f"write {ip_network(text, strict=False)}"
    except ValueError:
        hint = "write 192.0.2.7, 10.0.0.0/8, fd00::/8 or unix"
    raise ValueError(f'"{text}" is not a network; {hint}')


def ip_network(text: str, *, strict: bool = True) -> IPv4Network | IPv6Network:
    """Read a network or an address. One of mapped addresses is an IPv4 network.

    Args:
        text: CIDR notation, without zone.
        strict: Refuse an address with bits beyond the prefix.

    Raises:
        ValueError: The text is not a network.
    """
    import ipaddress  # 10 ms, only with the option

    network = ipaddress.ip_network(text, strict=strict)
    if isinstance(network, ipaddress.IPv6Network) and network.prefixlen >= 96:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            return ipaddress.IPv4Network((mapped, network.prefixlen - 96))
    return network


def listen(texts: list[str]) -> tuple[str, ...]:
    """Read addresses to listen on. The listener resolves them."""
    from chimirror.config import listen_syntax

    for text in texts:
        if texts.count(text) > 1:
            raise ValueError(f'"{text}" is given twice; give each address once')
    return tuple([listen_syntax.check(text) for text in texts])


def address(text: str) -> str:
    """Read one address to listen on. The listener resolves it."""
    from chimirror.config import listen_syntax

    return listen_syntax.check(text)


def directory(text: str) -> str:
    """Read a path. The start of an application fails if there is no such directory."""
    if not text:
        raise ValueError("the path is empty; write the directory to start in")
    return text


def user(text: str) -> str:
    """Read the name or number of a user. `parser.check_combination` finds the user."""
    if not text or text.startswith("-") or not text.isprintable():
        raise ValueError(f'"{text}" is not a user; write a name or a number')
    return text


def applications(text: str) -> str:
    """Read the path of a directory of application files."""
    if not text or "\0" in text:
        raise ValueError(f'"{text}" is no path; write /etc/chimirror/apps')
    return text


def pass_env(texts: list[str]) -> tuple[str, ...]:
    """Read names of variables to pass on, from ``A,B`` and repetition."""
    names = [name for text in texts for name in text.split(",")]
    for name in names:
        _variable(name, name)
        if name == "HTTP_PROXY":
            # httpoxy: the header field "Proxy" of any client would become a setting.
            raise ValueError(
                '"HTTP_PROXY" is never passed, a client could set it; '
                "write --env HTTP_PROXY=VALUE"
            )
    return tuple(dict.fromkeys(names))


def variables(texts: list[str]) -> dict[str, str]:
    """Read variables from ``NAME=VALUE``. The last one of a name wins."""
    values: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise ValueError(
                f'"{text}" has no value; write {text}=VALUE, '
                f"or --pass-env {text} to pass it on"
            )
        values[_variable(name, text)] = value
    return values


def _variable(name: str, text: str) -> str:
    plain = name.isascii() and name.replace("_", "a").isalnum()
    if not plain or name[0].isdigit():
        raise InvalidVariableName(
            f'"{text}" does not begin with a variable name; write NAME'
        )
    if name == _SESSION:
        raise ValueError(f'"{name}" is set by each session itself; choose another name')
    return name


def preload(text: str) -> str:
    """Read ``MODULE:FUNCTION``. Both may have dots."""
    module, _, function = text.partition(":")
    if not all(map(str.isidentifier, (*module.split("."), *function.split(".")))):
        raise ValueError(f'"{text}" is not MODULE:FUNCTION; write game.main:play')
    return text


def socket(text: str) -> str:
    """Read the path of a Unix socket."""
    if not text or text.startswith(("@", "unix:")) or "\0" in text:
        raise ValueError(f'"{text}" is no path; write /run/game/zygote')
    return text
