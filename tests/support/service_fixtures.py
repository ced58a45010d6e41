"""Fixtures of the tests of chimirror.services. Import the needed ones by name."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chimirror.services.open_watch import OpenWatch
from service_apis import (
    CAT,
    VARIABLE,
    Api,
    Stdin,
    directory_of,
    left_directories,
    opened_api,
)

__all__ = ["api", "runtime", "serve", "stdin", "watch"]


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A directory of this test, which is empty afterwards."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    yield
    assert not left_directories()


@pytest.fixture(params=["blocking", "asyncio"])
def api(request: pytest.FixtureRequest) -> Iterator[Api]:
    with opened_api(request.param) as found:
        yield found


@pytest.fixture(params=["inotify", "no inotify"])
def watch(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the test with inotify, and as if the user had no free instance of it."""

    def fail(self: OpenWatch, directory: str) -> None:
        raise OSError(errno.EMFILE, directory)

    if request.param == "no inotify":
        monkeypatch.setattr(OpenWatch, "_open", fail)


@pytest.fixture
def stdin() -> Iterator[Stdin]:
    found = Stdin()
    yield found
    found.close()


@pytest.fixture
def serve(
    api: Api, stdin: Stdin, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Any]]:
    """Starts a server. This test connects to its services, instead of its target."""
    started = []

    def start(**pipes: Any) -> Any:
        server = api.server(CAT, stdin=stdin.read_end)
        found = [server.pipe(name, **named) for name, named in pipes.items()]
        server.start()
        started.append(server)
        monkeypatch.setenv(VARIABLE, directory_of(server))
        return [server, *found]

    yield start
    for server in started:
        server.close()
