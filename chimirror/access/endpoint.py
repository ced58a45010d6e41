"""Finds an authorizer when a program starts: resolves its name, or finds its command.

getaddrinfo(3) may wait for seconds, so no handshake resolves a name. A server finds the
endpoint before it forks its workers. Asks nothing and starts nothing.
"""

from __future__ import annotations

from chimirror.apps.program_check import ProgramChecker, ProgramFault
from chimirror.builtin_modules import os, socket
from chimirror.config.authorize_target import EXEC, HTTP_PORT, UNIX
from chimirror.io import listen_address

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    from chimirror.config.authorize_target import AuthorizeTarget

    # family of a socket, and the address as the kernel takes it
    SocketAddress: TypeAlias = tuple[int, listen_address.Address | str]


class EndpointError(Exception):
    """An authorizer that cannot be found. The text gives the reason and the cure."""


class Endpoint:
    """An authorizer that has been found.

    Attributes:
        name: for the log, without arguments of a command, which may hold a secret.
        addresses: of an HTTP server, in the order in which they are tried.
        authority: the Host of requests to it.
        uri: path and query of these requests.
        argv: the command of a helper process. Empty: an HTTP server.
    """

    __slots__ = ("addresses", "argv", "authority", "name", "uri")

    def __init__(
        self,
        name: str,
        *,
        addresses: tuple[SocketAddress, ...] = (),
        authority: str = "",
        uri: str = "",
        argv: tuple[str, ...] = (),
    ) -> None:
        self.name = name
        self.addresses = addresses
        self.authority = authority
        self.uri = uri
        self.argv = argv


def find_endpoint(target: AuthorizeTarget, search_path: str | None) -> Endpoint:
    """Resolve the host of an authorizer, or find its command.

    Args:
        target: the value of --authorize.
        search_path: PATH, where a command without a slash is looked for.

    Raises:
        EndpointError: There is no such host or command.
    """
    if target.kind == EXEC:
        return _find_command(target, search_path)
    if target.kind == UNIX:
        addresses: tuple[SocketAddress, ...] = ((socket.AF_UNIX, target.path),)
        name = f"http+unix:{target.path}"
        return Endpoint(
            name, addresses=addresses, authority="localhost", uri=target.uri
        )
    try:
        addresses = tuple(listen_address.resolve(target.host, target.port))
    except listen_address.ListenError as error:
        raise EndpointError(f"--authorize: {error}") from None
    host = f"[{target.host}]" if ":" in target.host else target.host
    authority = host if target.port == HTTP_PORT else f"{host}:{target.port}"
    name = f"http://{authority}{target.uri.partition('?')[0]}"
    return Endpoint(name, addresses=addresses, authority=authority, uri=target.uri)


def _find_command(target: AuthorizeTarget, search_path: str | None) -> Endpoint:
    name, *arguments = target.argv
    try:
        ProgramChecker(None, (), {}).check(name, search_path)
    except ProgramFault as fault:
        raise EndpointError(f"--authorize: {fault}") from None
    # The working directory of a helper is that of the program that starts it.
    path = f"{os.getcwd()}/{name}" if "/" in name and name[0] != "/" else name
    return Endpoint(f"exec:{name}", argv=(path, *arguments))
