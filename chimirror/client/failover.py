"""Opens a connection to the first server that accepts it: several URLs and addresses.

A flow (`flow`) over the flows of `dialer`. Each address of a name is a server of its
own. Only a connection that is not open yet moves on: a session is a process and moves
nowhere. The order is that of the caller. Balancing is the task of a proxy.
"""

from __future__ import annotations

from typing import Any

from chimirror.client.deadline import Deadline
from chimirror.client.dialer import connect_socket, resolve
from chimirror.client.errors import NotConnected, Refused, TLSFailure
from chimirror.client.flow import Flow, OpenConnection, Sleep

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from chimirror.client.handshake import ConnectionParams

RESPONSES = (Refused, TLSFailure)
MAX_RETRY_AFTER = 30  # seconds: a longer Retry-After is not waited for


def open_first(
    servers: Sequence[ConnectionParams], clock: Callable[[], float]
) -> Flow[Any]:
    """Open a connection to the first of these servers that accepts it.

    If all have failed, and one of several asked for a short wait, all are tried once
    more after that.

    Args:
        servers: One for each URL.
        clock: Seconds, for time limits.

    Returns:
        The result of the step OpenConnection.

    Raises:
        NotConnected: None has accepted the connection. Another server is not tried
            after a failure that it would repeat, such as 403.
    """
    if len(servers) == 1:
        return (yield from _open(servers[0], clock))
    seconds: int | None = None
    for is_last in (False, True):
        failures: list[NotConnected] = []
        for params in servers:
            try:
                return (yield from _open(params, clock))
            except NotConnected as error:
                failures.append(error)
                if params.trace is not None:
                    params.trace(_with_url(params, error))
                if not error.retry:
                    error.args = (_with_url(params, error),)
                    raise
        seconds = _shortest_wait(failures)
        if is_last or seconds is None:
            break
        yield Sleep(seconds)
    texts = map(_with_url, servers, failures)
    text = f"none of {len(servers)} servers is available: {'; '.join(texts)}"
    raise NotConnected(text, retry=True, failures=failures)


def _open(params: ConnectionParams, clock: Callable[[], float]) -> Flow[Any]:
    """Open a connection to an address of one URL, within the time limit for it.

    Each address has its share of the time that is left. The function for the token
    comes before that time.
    """
    if callable(params.token):
        params = params.with_token((yield params.token))
    deadline = Deadline(params.timeout, clock)
    if params.address is not None:
        addresses = [params.address]
    else:
        addresses = yield from resolve(params.target)
    failure: NotConnected | None = None
    for index, address in enumerate(addresses):
        chosen = params.at(address)
        share = Deadline(deadline.left(len(addresses) - index), clock)
        try:
            sock = yield from connect_socket(chosen, address, share)
            return (yield OpenConnection(sock, chosen, share.left()))
        except NotConnected as error:
            if not error.retry:
                raise
            # A response says more than a failure to get one.
            if not isinstance(failure, RESPONSES) or isinstance(error, RESPONSES):
                failure = error
    raise failure or NotConnected(f"{params.target} has no address", retry=True)


def _shortest_wait(failures: Sequence[NotConnected]) -> int | None:
    """Return the shortest Retry-After within the limit, in seconds."""
    waits = [
        error.retry_after
        for error in failures
        if isinstance(error, Refused) and error.status in (429, 503)
    ]
    return min(
        (wait for wait in waits if wait is not None and wait <= MAX_RETRY_AFTER),
        default=None,
    )


def _with_url(params: ConnectionParams, error: NotConnected) -> str:
    return f"{params.target.shown_url}: {error}"
