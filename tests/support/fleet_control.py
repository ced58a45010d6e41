"""Sessions through the balancer with control connections, in the network of a fleet."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chimirror.client.aio import Session, connect
from fleet_balancer import NAME, PORT
from fleet_network import BALANCER, Network


async def _control(session: Session[Any]) -> str:
    """Ask a session for its status over a control connection, and end it."""
    async with session:
        status = await session.control.status()
        await session.control.signal("TERM")
        wrong = "" if status["id"] == session.id else "another session, "
        return f"{wrong}{await session.wait()}"


async def _control_all(
    count: int, ca: Path, between: Callable[[], object]
) -> Counter[str]:
    url, fields = f"wss://{BALANCER}:{PORT}/", {"Host": NAME}
    opening = (connect(url, ca=ca, headers=fields, timeout=200) for _ in range(count))
    sessions = await asyncio.gather(*opening)
    between()
    return Counter(await asyncio.gather(*map(_control, sessions)))


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
