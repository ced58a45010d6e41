"""Sources that answer at once: a proxy's field, a certificate, a local user.

A source answers None where it knows nothing of the client. Knows the request and the
connection, asks no other process.
"""

from __future__ import annotations

from chimirror.access import ALLOWED, FORBIDDEN, Answer, Identity, is_valid_name
from chimirror.access.authorization import decode_name
from chimirror.builtin_modules import socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from typing import Any, Protocol

    from chimirror.protocol.http import HTTPRequest

    class Source(Protocol):
        """One way to know a client."""

        def ask(self, client: Client) -> Answer | None: ...


SO_PEERGROUPS = 59  # socket(7), unix(7)
_ID_SIZE = 4  # bytes of a gid_t
_MAX_GROUPS = 65536  # NGROUPS_MAX
_ALTERNATIVES = {"email": "email", "dns": "DNS", "uri": "URI"}


class Client:
    """What the connection and the request tell of a client.

    Args:
        request: the request.
        is_proxied: it comes from a trusted proxy.
        uid: user of a process that has connected itself on a Unix socket, or -1. Never
            that of a proxy.
        fd: the connection.
        certificate: the verified certificate of the client, as
            `ssl.SSLSocket.getpeercert` returns it. None without one.
    """

    __slots__ = ("certificate", "fd", "is_proxied", "request", "uid")

    def __init__(
        self,
        request: HTTPRequest,
        *,
        is_proxied: bool,
        uid: int,
        fd: int,
        certificate: Mapping[str, Any] | None,
    ) -> None:
        self.request = request
        self.is_proxied = is_proxied
        self.uid = uid
        self.fd = fd
        self.certificate = certificate


class ProxySource:
    """A user whom a trusted proxy names in a field of the request.

    Args:
        user_header: the field.
        groups_header: the field of the groups, "" for none.
    """

    def __init__(self, user_header: str, groups_header: str = "") -> None:
        self._user = user_header.lower().encode()
        self._groups = groups_header.lower().encode()

    def ask(self, client: Client) -> Answer | None:
        """Answer from the fields, which only a trusted proxy can set."""
        request = client.request
        values = request.get_all(self._user)
        if not client.is_proxied or not any(values):
            return None
        if len(values) > 1 or len(request.get_all(self._groups)) > 1:
            return _refuse("the proxy adds its field to that of the client")
        user = decode_name(values[0])
        listed = decode_name(request.get(self._groups) or b"").split(",")
        groups = tuple([name for name in map(str.strip, listed) if name])
        if not all(map(is_valid_name, (user, *groups))):
            return _refuse("the proxy names no valid user")
        return Answer(ALLOWED, Identity(user, "Proxy", groups))


class CertificateSource:
    """A user whom the client's certificate names.

    Args:
        part: subject (RFC 2253), cn, email, dns or uri.
        of_proxies: that of a trusted proxy is enough. Another source names the user.
    """

    def __init__(self, part: str, *, of_proxies: bool = False) -> None:
        self._part = part
        self._of_proxies = of_proxies

    def ask(self, client: Client) -> Answer | None:
        """Answer from the certificate, which TLS has verified."""
        certificate = client.certificate
        if not certificate or (client.is_proxied and not self._of_proxies):
            return None
        names = _names(certificate, self._part)
        if len(names) != 1:
            count = "no" if not names else "more than one"
            return _refuse(f"the certificate has {count} {self._part}")
        # A subject has commas, which separate nothing in the name of a user.
        if not is_valid_name(names[0].replace(",", ";")):
            return _refuse(f"the {self._part} of the certificate is no valid name")
        return Answer(ALLOWED, Identity(names[0], "Certificate"))


def _names(certificate: Mapping[str, Any], part: str) -> list[str]:
    if part == "subject":
        from chimirror.tls.peer_variables import subject_text

        text = subject_text(certificate.get("subject", ()))
        return [text] if text else []
    if part == "cn":
        relative = certificate.get("subject", ())
        return [
            text for pairs in relative for key, text in pairs if key == "commonName"
        ]
    kind = _ALTERNATIVES[part]
    return [text for key, text in certificate.get("subjectAltName", ()) if key == kind]


class LocalSource:
    """A user of this machine, on a Unix socket (unix(7), SO_PEERCRED).

    Args:
        uids, gids: numbers of the users and groups that are allowed.
    """

    def __init__(self, uids: Collection[int], gids: Collection[int]) -> None:
        self._uids = frozenset(uids)
        self._gids = frozenset(gids)

    def ask(self, client: Client) -> Answer | None:
        """Answer from what the kernel tells of the client's process."""
        if client.uid < 0:
            return None
        gids = _peer_groups(client.fd)
        name = _user_name(client.uid)
        if client.uid not in self._uids and not self._gids.intersection(gids):
            return _refuse(f"the local user {name} is not allowed here")
        return Answer(ALLOWED, Identity(name, "Local", _group_names(gids)))


def _peer_groups(fd: int) -> list[int]:
    """Return the group of a peer process and its supplementary groups."""
    handle = socket.socket(-1, -1, -1, fd)
    try:
        credentials = handle.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        data = credentials[8:12]
        try:
            size = _ID_SIZE * _MAX_GROUPS
            data += handle.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, size)
        except OSError:
            pass  # before Linux 4.13
    finally:
        handle.detach()
    return [*dict.fromkeys(memoryview(data).cast("I"))]


def _user_name(uid: int) -> str:
    import pwd

    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
    return name if is_valid_name(name) else str(uid)


def _group_names(gids: list[int]) -> tuple[str, ...]:
    import grp

    names = []
    for gid in gids:
        try:
            name = grp.getgrgid(gid).gr_name
        except KeyError:
            name = ""
        names.append(name if is_valid_name(name) else str(gid))
    return tuple(names)


def _refuse(text: str) -> Answer:
    return Answer(FORBIDDEN, text=text)
