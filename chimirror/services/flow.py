"""Steps at which a flow waits, between the logic and the two APIs.

A *flow* is a generator that performs one operation for a caller: receive, send, serve.
It yields a step wherever it must wait or call a function of the caller. The driver of
an API performs the step and resumes the flow. So the logic exists once for both APIs. A
flow may be closed at any step.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")


class Wait(NamedTuple):
    """Wait for descriptors. The result is a mapping like `events` of the ready ones.

    The result is empty after the deadline, and after a change by another flow.

    Attributes:
        events: Events of poll(2) by descriptor. 0 waits for errors only.
        deadline: On the clock time.monotonic, or None.
    """

    events: Mapping[int, int]
    deadline: float | None = None


class Call(NamedTuple):
    """Call a function of the caller. The result is its result."""

    function: Callable[[Any], object]
    argument: object


Step = Wait | Call
Flow = Generator[Step, Any, T]
