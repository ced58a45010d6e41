"""The order of attempts over several URLs and addresses, without a wait."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from chimirror.client import ConnectTimeout, NotConnected, Refused, Untrusted
from chimirror.client.failover import MAX_RETRY_AFTER, open_first
from chimirror.client.flow import OpenConnection, ResolveHost, Sleep
from chimirror.client.handshake import ConnectionParams
from chimirror.client.servers import servers_from

if TYPE_CHECKING:
    from typing import Unpack

    from chimirror.client.servers import ConnectOptions

A, B, C = "ws://a/", "ws://u:secret@b/", "ws://c/"


STATUSES = json.loads(
    (Path(__file__).parents[2] / "support/status_cases.json").read_text()
)


def refused(status: int, seconds: str = "") -> Refused:
    headers = {"retry-after": seconds} if seconds else {}
    return Refused(f"{status} x", status, "x", headers)


class Driver:
    """Performs the steps of a flow: servers answer what they are told to.

    Attributes:
        now: The clock. Silent servers and waits move it on.
        attempts: URL of each handshake, with its time limit.
        slept: Seconds of each wait.
    """

    def __init__(self, *addresses: Any) -> None:
        self.now = 0.0
        self.attempts: list[tuple[str, float]] = []
        self.slept: list[float] = []
        self._addresses = addresses

    def run(
        self,
        urls: str | Sequence[str],
        answers: Sequence[object],
        **options: Unpack[ConnectOptions],
    ) -> Any:
        """Return the result of the flow.

        Args:
            urls: The argument of `connect`.
            answers: For each handshake: an exception, or the result.
            options: Those of `connect`.
        """
        left: Iterator[object] = iter(answers)
        flow = open_first(servers_from(urls, options), lambda: self.now)
        try:
            step = next(flow)
            while True:
                answer: object = True
                if callable(step):
                    answer = step()
                elif isinstance(step, ResolveHost):
                    answer = self._addresses
                elif isinstance(step, Sleep):
                    self.slept.append(step.seconds)
                    self.now += step.seconds
                elif isinstance(step, OpenConnection):
                    step.sock.close()
                    self.attempts.append((step.params.target.url, step.seconds))
                    answer = next(left)
                    if isinstance(answer, ConnectTimeout):
                        self.now += step.seconds
                    answer = step.params if answer is True else answer
                if isinstance(answer, Exception):
                    step = flow.throw(answer)
                else:
                    step = flow.send(answer)
        except StopIteration as stop:
            return stop.value
        finally:
            assert next(left, None) is None


@pytest.fixture
def address() -> Iterator[Any]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        to = listener.getsockname()
        yield (socket.AF_INET, socket.SOCK_STREAM, 6, "", to)


def test_the_next_url_is_tried(address: Any) -> None:
    driver = Driver(address)
    answers = [refused(503), ConnectTimeout("late"), True]
    found = driver.run([A, B, C], answers)
    assert isinstance(found, ConnectionParams)
    assert found.target.url == C
    assert found.address == (*address[:3], address[4])
    assert driver.attempts == [(A, 10), (B, 10), (C, 10)]
    assert driver.slept == []


@pytest.mark.parametrize("failure", [refused(403), refused(301), Untrusted("cert")])
def test_a_failure_that_another_server_repeats_is_final(
    address: Any, failure: NotConnected
) -> None:
    driver = Driver(address)
    with pytest.raises(type(failure)) as caught:
        driver.run([A, B, C], [refused(429), failure])
    assert caught.value is failure
    assert str(failure).startswith("ws://...@b/: ")


def test_all_are_tried_once_more_after_the_shortest_wait(address: Any) -> None:
    driver = Driver(address)
    first = [refused(503, "7"), refused(429, "3"), refused(408, "1")]
    assert driver.run([A, B, C], [*first, refused(500), True]).target.url == B
    assert driver.slept == [3]
    again = [refused(503, "2"), ConnectTimeout("late")]
    with pytest.raises(NotConnected) as caught:
        driver.run([A, B], [*again, *again])
    assert driver.slept == [3, 2]
    text = "none of 2 servers is available: ws://a/: 503 x; ws://...@b/: late"
    assert str(caught.value) == text
    assert caught.value.failures == tuple(again)
    assert caught.value.retry


@pytest.mark.parametrize("case", STATUSES, ids=lambda case: case["status"])
def test_statuses(address: Any, case: dict[str, Any]) -> None:
    """The table of all clients: which refusal is final, and which wait is observed."""
    driver = Driver(address)
    error = refused(case["status"], "1")
    assert error.retry == case["retry"]
    if not case["retry"]:
        with pytest.raises(Refused):
            driver.run([A, C], [error])
    elif case["waits"]:
        driver.run([A, C], [error, error, True])
    else:
        with pytest.raises(NotConnected):
            driver.run([A, C], [error, error])
    assert driver.slept == ([1] if case["waits"] else [])


def test_a_token_is_asked_for_at_each_url(address: Any) -> None:
    """Not at each address. The time of the function is its own."""
    driver = Driver(address, address)
    given: list[str] = []

    def token() -> str:
        driver.now += 60
        given.append(f"t{len(given)}")
        return given[-1]

    answers = [refused(503), refused(503, "2"), refused(503), refused(503), True]
    driver.run([A, C], answers, token=token)
    assert given == ["t0", "t1", "t2"]
    assert driver.attempts[0] == (A, 5)


@pytest.mark.parametrize("seconds", ["", "31", "Wed, 21 Oct 2026 07:28:00 GMT"])
def test_no_wait_without_a_short_retry_after(address: Any, seconds: str) -> None:
    driver = Driver(address)
    assert MAX_RETRY_AFTER == 30
    with pytest.raises(NotConnected, match="none of 2 servers"):
        driver.run([A, B], [refused(503, seconds), refused(503, seconds)])
    assert driver.slept == []


def test_one_url_has_its_own_error_and_no_wait(address: Any) -> None:
    driver = Driver(address)
    with pytest.raises(Refused, match=r"^503 x$") as caught:
        driver.run(A, [refused(503, "1")])
    assert caught.value.failures == ()
    assert driver.slept == []


def test_each_address_is_a_server(address: Any) -> None:
    """A silent one has its share of the time, and the last one has what is left."""
    driver = Driver(address, address, address)
    driver.run(A, [ConnectTimeout("late"), refused(503), True])
    limits = [seconds for _, seconds in driver.attempts]
    assert limits == pytest.approx([10 / 3, 10 / 3, 20 / 3])
    with pytest.raises(Refused, match="503"):
        driver.run(
            A, [refused(503), ConnectTimeout("late"), NotConnected("x", retry=True)]
        )
    with pytest.raises(Refused, match="404"):
        driver.run(A, [refused(503), refused(404)])


def test_an_empty_list() -> None:
    with pytest.raises(ValueError, match="url: an empty list; give at least one URL"):
        servers_from([], {})
