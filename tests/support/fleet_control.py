"""Sessions through the balancer with control connections, in the network of a fleet."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chimirror.client.aio import Session, connect
from chimirror.client.errors import Error
from fleet_balancer import NAME, PORT
from fleet_network import BALANCER, Network

WAYS = 5  # in which `end` ends sessions


async def _control(session: Session[Any]) -> str:
    """Ask a session for its status over a control connection, and end it."""
    async with session:
        status = await session.control.status()
        await session.control.signal("TERM")
        wrong = "" if status["id"] == session.id else "another session, "
        return f"{wrong}{await session.wait()}"


async def _open(count: int, ca: Path) -> list[Session[Any]]:
    url, fields = f"wss://{BALANCER}:{PORT}/", {"Host": NAME}
    opening = (connect(url, ca=ca, headers=fields, timeout=200) for _ in range(count))
    return await asyncio.gather(*opening)


async def _control_all(
    count: int, ca: Path, between: Callable[[], object]
) -> Counter[str]:
    sessions = await _open(count, ca)
    between()
    return Counter(await asyncio.gather(*map(_control, sessions)))


async def _echo(session: Session[Any], size: int) -> None:
    """Send bytes, and read them back."""
    await session.send(b"a" * size)
    while size:
        output = await session.receive(timeout=200)
        assert output is not None
        size -= len(output.data)


async def _end(session: Session[Any], number: int) -> None:
    """End a session, in one of the ways of WAYS. It may be lost before."""
    try:
        match number % WAYS:
            case 0:
                await session.end_input()
                await session.wait()
            case 1:
                await session.signal("KILL")
                await session.wait()
            case 2:
                await session.close()
            case 3:
                await session.close(4001)
            case _:
                session.abort()
    except Error:
        session.abort()


async def _end_all(count: int, ca: Path, between: Callable[[], object]) -> None:
    sessions = await _open(count, ca)
    echoes = (_echo(session, 100 + number) for number, session in enumerate(sessions))
    await asyncio.gather(*echoes)
    between()
    ending = (_end(session, number) for number, session in enumerate(sessions))
    await asyncio.gather(*ending)


def control(
    network: Network, count: int, ca: Path, between: Callable[[], object]
) -> Counter[str]:
    """Open sessions at once, then ask and end each over a control connection.

    Args:
        network: from which the clients come.
        count: of the sessions.
        ca: the authority of the balancer.
        between: called when all sessions are open.

    Returns:
        How many sessions ended in which way.
    """
    return network.call(lambda: asyncio.run(_control_all(count, ca, between)))


def end(network: Network, count: int, ca: Path, between: Callable[[], object]) -> None:
    """Open sessions that echo different bytes, and end them in different ways.

    Arguments are those of `control`.
    """
    network.call(lambda: asyncio.run(_end_all(count, ca, between)))
