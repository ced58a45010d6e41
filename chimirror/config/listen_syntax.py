"""The syntax of addresses to listen on, as an operator writes them.

Guarantees: text with two possible meanings is rejected with a hint at the right form.
Resolves and opens nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

UNIX = "unix:"  # before the path of a Unix socket
_PORT = 30747  # for hints only: an address always names its port


def check(text: str) -> str:
    """Check an address in any form, and return it.

    Raises:
        ValueError: The text is not an address. The hint gives the right form.
    """
    if not text.startswith(UNIX):
        split(text)
    elif text[len(UNIX) :][:1] in ("", "@"):
        raise ValueError(
            f'"{text}" has no path; write unix:/run/NAME.sock; abstract names have no '
            "permissions"
        )
    return text


def check_apart(given: Iterable[tuple[str, str | None]]) -> None:
    """Check that each of these options has an address of its own.

    Args:
        given: Options with their addresses, None for an option that is not given.

    Raises:
        ValueError: Two of them have the same one.
    """
    known: dict[str, str] = {}
    for option, text in given:
        if text is None or text.endswith(":0"):  # the kernel chooses each port 0
            continue
        if text in known:
            raise ValueError(
                f'{option}: "{text}" is the address of {known[text]}; write another one'
            )
        known[text] = option


def split(text: str) -> tuple[str, int]:
    """Split `host:port` or `[host]:port`.

    Returns:
        The host, without brackets, and the port.

    Raises:
        ValueError: The text has another form. The hint gives the right one.
    """
    host, colon, port = text.rpartition(":")
    if text.startswith(("/", "@")):
        raise ValueError(
            f'"{text}" is not an address; for a path write unix:/run/NAME.sock'
        )
    if not colon or text.endswith("]"):
        whole = f"127.0.0.1:{text}" if text.isdecimal() else f"{text}:{_PORT}"
        raise ValueError(f'"{text}" is not an address and port; write {whole}')
    if host.startswith("["):
        return _brackets(host, text), _port(port)
    if ":" in host:
        raise ValueError(f'"{text}" is ambiguous; {_bracketed(text)}')
    if host in ("", "*"):
        raise ValueError(
            f'"{text}" names no address; write 127.0.0.1:{port} for this machine '
            f"alone, 0.0.0.0:{port} or [::]:{port} for every network"
        )
    return host, _port(port)


def _port(text: str) -> int:
    number = int(text) if text.isascii() and text.isdecimal() else -1
    if not 0 <= number <= 65535 or len(text) > 5:
        raise ValueError(f'"{text}" is no port; write a number from 0 to 65535')
    return number


def _brackets(host: str, text: str) -> str:
    inner = host[1:-1]
    if not host.endswith("]") or ":" not in inner:
        raise ValueError(f'"{text}": brackets hold an IPv6 address; write [::1]:PORT')
    return inner


def _bracketed(text: str) -> str:
    """Return the hint for an IPv6 address without brackets: all its readings."""
    host, _, port = text.rpartition(":")
    ways = [(host, port), (text, str(_PORT))]
    written = [f"[{host}]:{port}" for host, port in ways if _is_ipv6(host)]
    return "write " + (" or ".join(written) or "[ADDRESS]:PORT")


def _is_ipv6(text: str) -> bool:
    from _socket import AF_INET6, inet_pton

    try:
        inet_pton(AF_INET6, text)
    except (OSError, ValueError):
        return False
    return True
