"""Handlers that close, threads and tasks that share a pipe, several servers at once."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import threading

import pytest

from chimirror.services import Exit, Server, aio
from processes import ended
from service_apis import Api, python, shell
from service_fixtures import api, runtime

__all__ = ["api", "runtime"]

DOUBLE = """
from chimirror.services import connect
with connect("a", send=int, receive=int) as pipe:
    for number in range(100):
        pipe.send(number)
        assert pipe.receive() == 2 * number
"""
READ_ALL = """
from chimirror.services import connect
with connect("a", send=int, receive=str) as pipe:
    pipe.send(0)
    assert len({pipe.receive()[:6] for _ in range(201)}) == 201
"""
WAITING = 'echo 1 >"$D/a.in"; exec sleep 600'


def test_servers_in_threads(api: Api) -> None:
    results: list[Exit] = []

    def serve() -> None:
        server = api.server(python(DOUBLE))
        server.pipe("a", receive=int, send=int).handler(lambda value: 2 * value)
        results.append(server.run())

    threads = [threading.Thread(target=serve) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [Exit(0, None)] * 3


def test_threads_send_while_handlers_answer(api: Api) -> None:
    """Values of several times the capacity of a pipe, none of them mixed or lost."""
    server = api.server(python(READ_ALL))
    pipe = server.pipe("a", receive=int, send=str)
    started = threading.Event()

    def answer(value: int) -> str:
        started.set()
        return "answer"

    pipe.handler(answer)

    def send(sender: int) -> None:
        started.wait()
        for number in range(50):
            pipe.send(f"{sender:02}{number:04}" + "x" * 5000)

    threads = [threading.Thread(target=send, args=(each,)) for each in range(4)]
    for thread in threads:
        thread.start()
    assert server.run() == Exit(0, None)
    for thread in threads:
        thread.join()


def test_threads_receive_from_one_pipe(api: Api) -> None:
    server = api.server(shell('seq 1000 >"$D/a.in"'))
    pipe = server.pipe("a", receive=int)
    found: list[int] = []
    with server:
        server.start()
        threads = [
            threading.Thread(target=lambda: found.extend(pipe)) for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        assert server.wait() == Exit(0, None)
        for thread in threads:
            thread.join()
    assert sorted(found) == list(range(1, 1001))


def test_a_handler_closes_the_server() -> None:
    server = Server(shell(WAITING))
    pipe = server.pipe("a", receive=int, send=int)

    @pipe.handler
    def close(value: int) -> int:
        server.close()
        return value

    assert server.run() == Exit(None, "TERM")


def test_a_handler_closes_its_pipe(api: Api) -> None:
    """The target finds its pipe closed."""
    script = """
exec 3>"$D/a.in" 4<"$D/a.out"
echo 1 >&3
read -r answer <&4 # the end
trap '' PIPE
echo 2 >&3 || exit 3
"""
    server = api.server(shell(script), stderr=subprocess.DEVNULL)
    pipe = server.pipe("a", receive=int, send=int)
    seen: list[int] = []

    def close(value: int) -> int:
        seen.append(value)
        pipe.close()
        return value

    pipe.handler(close)
    assert server.run() == Exit(3, None)
    assert seen == [1]


def test_kill_by_a_handler_of_a_signal() -> None:
    server = Server(shell('kill -s USR1 "$PPID"; exec sleep 600'))
    previous = signal.signal(signal.SIGUSR1, lambda number, frame: server.kill())
    try:
        assert server.run() == Exit(None, "TERM")
    finally:
        signal.signal(signal.SIGUSR1, previous)


async def serve_until_cancelled() -> int:
    server = aio.Server(shell(WAITING))
    called = asyncio.Event()
    pipe = server.pipe("a", receive=int)

    @pipe.handler
    async def wait(value: int) -> None:
        called.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(server.run())
    await called.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert server.pid is not None
    return server.pid


def test_a_cancelled_run_stops_the_target() -> None:
    assert ended(asyncio.run(serve_until_cancelled()), 0)


async def count_while_served() -> tuple[Exit, bool]:
    """Serve a target that floods, beside another task."""
    server = aio.Server(shell('yes 1 >"$D/a.in"'))
    seen = 0

    def count(value: int) -> None:
        nonlocal seen
        seen += value

    server.pipe("a", receive=int).handler(count)

    async def stop() -> None:
        while seen < 3000:
            await asyncio.sleep(0)
        server.kill()

    stopper = asyncio.create_task(stop())
    found = await server.run()
    await stopper
    return found, seen < 10**7


def test_a_flood_does_not_starve_other_tasks() -> None:
    assert asyncio.run(count_while_served()) == (Exit(None, "TERM"), True)
