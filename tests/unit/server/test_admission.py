"""Limits of one worker: by server, source, application and user."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import pytest

from chimirror.apps import Application
from chimirror.server.admission import DrainingAdmission, WorkerAdmission
from chimirror.server.limit_table import LimitTable
from chimirror.session import Peer

ONE, OTHER = Peer("192.0.2.1", 1), Peer("192.0.2.2", 2)


class App:
    """The attributes of an application that limits read."""

    def __init__(self, name: str = "", max_sessions: int = 0) -> None:
        self.name = name
        self.max_sessions = max_sessions


APP = cast("Application", App())
CHESS = cast("Application", App("chess", 1))


class Server:
    """The tables of a server with two workers, and the admission of each."""

    def __init__(
        self, per_user: int | None, most: int = 9, rate: float | None = None
    ) -> None:
        table = LimitTable(most, None, rate, 2, lambda: 1 << 40)
        by_name = LimitTable(most, most, None, 2)
        self.tables = [table, by_name]
        by_user = None
        if per_user is not None:
            by_user = LimitTable(most, per_user, None, 2)
            self.tables.append(by_user)
        self.workers = [
            WorkerAdmission(table, by_name, by_user, number) for number in (0, 1)
        ]

    def close(self) -> None:
        for table in self.tables:
            table.close()


@pytest.fixture
def server() -> Iterator[Server]:
    """Return a server that allows each user two sessions."""
    made = Server(2)
    yield made
    made.close()


def test_sessions_of_a_user_are_counted_over_all_workers(server: Server) -> None:
    first, second = server.workers
    assert first.acquire(ONE, APP, "ann") is None
    assert second.find_exceeded(OTHER, APP, "ann") is None
    assert second.acquire(OTHER, APP, "ann") is None
    for worker in server.workers:
        assert worker.find_exceeded(ONE, APP, "ann") == "max-sessions-per-user"
        assert worker.acquire(ONE, APP, "ann") == "max-sessions-per-user"
        assert worker.acquire(ONE, APP, "bob") is None
    assert first.sessions == 4
    second.release(OTHER, APP, "ann")
    assert first.acquire(ONE, APP, "ann") is None


def test_anonymous_sessions_count_for_no_user(server: Server) -> None:
    worker = server.workers[0]
    for _ in range(5):
        assert worker.find_exceeded(ONE, APP, "") is None
        assert worker.acquire(ONE, APP, "") is None
    for _ in range(5):
        worker.release(ONE, APP, "")
    assert worker.sessions == 0


def test_without_a_limit_no_user_is_counted() -> None:
    server = Server(None)
    try:
        worker = server.workers[0]
        for _ in range(5):
            assert worker.acquire(ONE, APP, "ann") is None
            assert worker.find_exceeded(ONE, APP, "ann") is None
        worker.release(ONE, APP, "ann")
        assert worker.sessions == 4
    finally:
        server.close()


@pytest.mark.parametrize("user", ["Jürgen", "CORP\\ann", "n" * 256, "n" * 255 + "m"])
def test_every_name_has_its_own_count(server: Server, user: str) -> None:
    worker = server.workers[0]
    for name in (user, user, "n" * 254, "n" * 254):
        assert worker.acquire(ONE, APP, name) is None
    assert worker.acquire(ONE, APP, user) == "max-sessions-per-user"


def test_a_session_beyond_another_limit_is_not_counted() -> None:
    server = Server(1, most=1)
    try:
        worker = server.workers[0]
        assert worker.acquire(ONE, APP) is None
        for user in ("ann", "ann", "bob"):
            assert worker.find_exceeded(ONE, APP, user) == "max-sessions"
            assert worker.acquire(ONE, APP, user) == "max-sessions"
        worker.release(ONE, APP)
        assert worker.acquire(ONE, CHESS, "ann") is None
        for app in (APP, CHESS):  # the tables of users and applications are full, too
            assert worker.find_exceeded(ONE, app, "bob") == "max-sessions"
            assert worker.acquire(ONE, app, "bob") == "max-sessions"
    finally:
        server.close()


def test_a_refused_user_takes_no_place_of_an_application(server: Server) -> None:
    worker = server.workers[0]
    for _ in range(2):
        assert worker.acquire(ONE, APP, "ann") is None
    assert worker.acquire(ONE, CHESS, "ann") == "max-sessions-per-user"
    assert worker.acquire(ONE, CHESS, "bob") is None
    assert worker.acquire(ONE, CHESS, "bob") == "max-sessions-per-application"


def test_a_refused_user_takes_no_part_of_the_rate() -> None:
    server = Server(1, rate=2)
    try:
        worker = server.workers[0]
        assert worker.acquire(ONE, APP, "ann") is None
        for _ in range(9):
            assert worker.acquire(ONE, APP, "ann") == "max-sessions-per-user"
        assert worker.acquire(ONE, APP, "bob") is None
        assert worker.acquire(ONE, APP, "eve") == "max-rate"
    finally:
        server.close()


def test_a_dead_worker_frees_the_places_of_its_users(server: Server) -> None:
    first, second = server.workers
    for worker in (first, second):
        assert worker.acquire(ONE, APP, "ann") is None
    for table in server.tables:
        table.release_worker(0)
    assert second.acquire(ONE, APP, "ann") is None
    assert second.acquire(ONE, APP, "ann") == "max-sessions-per-user"


def test_retry_after_is_known(server: Server) -> None:
    assert server.workers[0].retry_after("max-sessions-per-user") > 0


def test_a_drain_frees_the_place_of_a_user(server: Server) -> None:
    worker = server.workers[0]
    for _ in range(2):
        assert worker.acquire(ONE, APP, "ann") is None
    draining = DrainingAdmission(worker)
    assert draining.find_exceeded(ONE, APP, "bob") == "drain"
    assert draining.acquire(ONE, APP, "bob") == "drain"
    draining.release(ONE, APP, "ann")
    assert worker.acquire(ONE, APP, "ann") is None
