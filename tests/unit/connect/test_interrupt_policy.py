"""Signals that end the client, by their kind and their times."""

from __future__ import annotations

import signal

import pytest

from chimirror.connect.interrupt_policy import InterruptPolicy


@pytest.mark.parametrize(
    ("number", "after", "ends"),
    [
        (signal.SIGTERM, 0.1, True),
        (signal.SIGTERM, 86400.0, True),
        (signal.SIGHUP, 86400.0, True),
        (signal.SIGINT, 0.9, True),
        (signal.SIGINT, 1.1, False),
        (signal.SIGQUIT, 0.9, True),
        (signal.SIGQUIT, 1.1, False),
        (signal.SIGUSR1, 0.0, False),
    ],
)
def test_the_same_signal_again(number: int, after: float, ends: bool) -> None:
    policy = InterruptPolicy()
    assert not policy.ends_client(number, 5.0, responsive=True)
    assert policy.ends_client(number, 5.0 + after, responsive=True) is ends


def test_different_signals() -> None:
    policy = InterruptPolicy()
    assert not policy.ends_client(signal.SIGTERM, 0.0, responsive=True)
    assert not policy.ends_client(signal.SIGINT, 0.0, responsive=True)
    assert policy.ends_client(signal.SIGINT, 9.0, responsive=False)
