"""Runs a test with both APIs of the services library, and starts targets.

A test is written for the blocking API. For the asyncio API, an adapter runs each call
in the event loop of another thread and waits for the result.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import sys
from collections.abc import AsyncIterable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from chimirror import services
from chimirror.services import aio
from client_apis import Portal
from processes import descendants, name_of, read, until

VARIABLE = "CHIMIRROR_SERVICES"
PREFIX = "chimirror-services-"
# A target that ends at the end of its standard input.
CAT = ["cat"]


class Api(NamedTuple):
    """One API, in blocking form.

    Attributes:
        server: As `Server`.
        connect: As `connect`.
    """

    server: Callable[..., Any]
    connect: Callable[..., Any]


class AsyncioAdapter:
    """Adapter that gives an object of the asyncio API the blocking form."""

    def __init__(self, portal: Portal, target: Any) -> None:
        self._portal = portal
        self._target = target

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._target, name)
        if not callable(value):
            return value

        def method(*args: Any, **named: Any) -> Any:
            if in_loop():
                found = value(*args, **named)
                assert not inspect.isawaitable(found)
            else:
                found = self._portal.call(value, *args, **named)
            known = isinstance(found, AsyncIterable)
            return AsyncioAdapter(self._portal, found) if known else found

        return method

    def __enter__(self) -> Any:
        self._portal.call(self._target.__aenter__)
        return self

    def __exit__(self, *error: object) -> None:
        self._portal.call(self._target.__aexit__, *error)

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> Any:
        try:
            return self._portal.call(self._target.__anext__)
        except StopAsyncIteration:
            raise StopIteration from None


def in_loop() -> bool:
    """Return whether an event loop runs in this thread, as in a handler."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


@contextmanager
def opened_api(name: str) -> Iterator[Api]:
    """Yield an API by name."""
    if name == "blocking":
        yield Api(services.Server, services.connect)
        return
    portal = Portal()

    def adapt(function: Callable[..., object]) -> Callable[..., Any]:
        return lambda *args, **named: AsyncioAdapter(
            portal, portal.call(function, *args, **named)
        )

    try:
        yield Api(adapt(aio.Server), adapt(aio.connect))
    finally:
        portal.close()


def python(script: str) -> list[str]:
    """Return the command of a target in Python."""
    return [sys.executable, "-c", script]


def shell(script: str) -> list[str]:
    """Return the command of a target in shell, with the directory in $D."""
    return ["sh", "-c", f"D=$CHIMIRROR_SERVICES\n{script}"]


def directory_of(server: Any) -> str:
    """Return the directory of a server with a running target."""
    found: list[bytes] = []

    def ask() -> bool:
        # An exec closes files a moment before its environment can be read.
        fields = read(f"/proc/{server.pid}/environ").split(b"\0")
        found[:] = [x for x in fields if x.startswith(VARIABLE.encode() + b"=")]
        return bool(found)

    until(ask, "the environment of the target")
    return found[0].decode().partition("=")[2]


def guard_of(pid: int) -> int:
    """Return the process id of the guard of a server process."""
    (found,) = [
        child.pid
        for child in descendants(pid)
        if "chimirror-guard" in name_of(child.pid)
    ]
    return found


class Stdin:
    """Standard input of a target. The test decides when it ends."""

    def __init__(self) -> None:
        self.read_end, self._write_end = os.pipe()

    def end(self) -> None:
        """End the input: a target that runs `cat` exits."""
        if self._write_end >= 0:
            os.close(self._write_end)
            self._write_end = -1

    def close(self) -> None:
        """Close both ends."""
        self.end()
        os.close(self.read_end)


def left_directories() -> list[str]:
    """Return the directories of servers, in the directory of this test."""
    return [each.name for each in Path(base_directory()).glob(f"{PREFIX}*")]


def base_directory() -> str:
    return os.environ["XDG_RUNTIME_DIR"]
