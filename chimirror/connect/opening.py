"""Opens the session of chimirror-connect, and adds the cure to each failure.

Offers what `offers` chooses. A server that has only applications with names is asked
for them. Knows no local stream.
"""

from __future__ import annotations

from typing import NamedTuple

from chimirror.client import (
    ConnectTimeout,
    NotConnected,
    Refused,
    SessionLost,
    Unauthorized,
)
from chimirror.client.blocking import start
from chimirror.connect import catalog, offers
from chimirror.connect.errors import ConnectError, NameMissing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from chimirror.client import Error
    from chimirror.client.blocking import Session
    from chimirror.client.framing import Framing, Offer
    from chimirror.client.handshake import ConnectionParams


class Opened(NamedTuple):
    """An open session, and the framing that the server has chosen for it."""

    session: Session[Any]
    framing: Framing


def open_session(
    servers: Sequence[ConnectionParams],
    framing_name: str | None,
    subprotocol: str | None,
    *,
    await_first_message: bool,
) -> Opened:
    """Open a session.

    Args:
        servers: Parameters for each URL.
        framing_name: The only framing to offer, None for all.
        subprotocol: The only subprotocol to offer, None for those of the framings.
        await_first_message: Wait for the first message, which tells of a terminal.

    Raises:
        ConnectError: There is no session.
        NameMissing: The URL names no application, and the server has several.
    """

    def start_with(wanted: list[Offer]) -> Opened:
        session = start(servers, wanted, await_first_message=await_first_message)
        kinds = {offer.framing.name: offer.framing for offer in wanted}
        return Opened(session, kinds[session.framing])

    try:
        if subprotocol is not None:
            return start_with(offers.named_offers(subprotocol, framing_name, servers))
        try:
            return start_with(offers.own_offers(framing_name))
        except Refused as error:
            if error.status != 400:
                raise
            if not (wanted := offers.foreign_offers(servers, framing_name)):
                raise
            return start_with(wanted)
    except (NotConnected, SessionLost) as error:
        if len(servers) == 1:
            _raise_if_name_missing(servers[0], error)
        raise ConnectError(f"{error}{_cure(error, servers)}") from None


def _raise_if_name_missing(params: ConnectionParams, error: Error) -> None:
    """Ask for the list of applications if a URL without a name was refused."""
    is_missing = isinstance(error, Refused) and error.status == 404
    if not is_missing or not (params.target.uri.path or "/").endswith("/"):
        return
    try:
        entries = catalog.read([params])
    except NotConnected:
        return
    raise NameMissing(
        f"{params.target} serves applications by name; add one to the URL:\n"
        f"{catalog.table(entries)}"
    ) from None


def list_applications(servers: Sequence[ConnectionParams]) -> str:
    """Return the table of applications for --list.

    Raises:
        ConnectError: There is no list.
    """
    try:
        return catalog.table(catalog.read(servers))
    except NotConnected as error:
        raise ConnectError(f"{error}{_cure(error, servers)}") from None


def _cure(error: Error, servers: Sequence[ConnectionParams]) -> str:
    if isinstance(error, ConnectTimeout):
        return " (set a longer --connect-timeout)"
    if isinstance(error, Unauthorized):
        return "" if servers[0].is_authorized else _login_cure(error)
    if "choosing a subprotocol" in str(error):
        return "; text goes with --framing lines"
    if not isinstance(error, Refused):
        return ""
    if error.status == 400 and "subprotocol" not in error.text:
        return ""
    return _REFUSAL_CURES.get(error.status, "")


def _login_cure(error: Unauthorized) -> str:
    """Name the options for the schemes that the server asks for."""
    known = {name.lower() for name in error.schemes} & _LOGIN_OPTIONS.keys()
    options = [f"{_LOGIN_OPTIONS[name]} FILE" for name in sorted(known)]
    return f"; log in with {' or '.join(options)}" if options else ""


_LOGIN_OPTIONS = {"basic": "--netrc-file", "bearer": "--token-file"}
_REFUSAL_CURES = {
    400: "; choose one with --framing or --subprotocol",
    404: "; --list shows the applications of a server",
}
