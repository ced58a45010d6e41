"""The stop of a bridge: drain, abort, and the last resort. Time is injected."""

from __future__ import annotations

import signal

import pytest

from chimirror.bridge import STOP_MARGIN, BridgeStop, StopError
from chimirror.io.loop import TICKS
from session_harness import SessionHarness
from websocket_peer import Closed

SLACK = 2 / TICKS
GRACES = 6.0  # the defaults of --stop-grace and --kill-grace


def test_a_session_that_does_not_end_is_given_up() -> None:
    with SessionHarness() as harness:
        harness.open()
        BridgeStop(harness.context).drain()
        with pytest.raises(StopError):
            harness.wait(GRACES + 2 * STOP_MARGIN + SLACK)
        assert harness.application.signals[-1] == signal.SIGKILL
        harness.exit(-9)


def test_an_operator_may_repeat_a_close() -> None:
    with SessionHarness("--stop-grace=1h") as harness:
        harness.open()
        stop = BridgeStop(harness.context)
        stop.close()
        stop.close()
        stop.drain()
        assert harness.application.signals == []
        stop.kill()
        assert harness.application.signals == [signal.SIGKILL]
        stop.close()
        harness.exit(-9)
        closed = harness.peer.transcript(wait=False).closed
        assert closed == Closed(1001, "closed by operator")


def test_two_further_signals_abort_what_an_operator_closes() -> None:
    with SessionHarness("--stop-grace=1h") as harness:
        harness.open()
        stop = BridgeStop(harness.context)
        stop.close()
        stop.drain()
        assert harness.application.signals == []
        stop.drain()
        assert harness.application.signals == [signal.SIGKILL]
        harness.exit(-9)
        closed = harness.peer.transcript(wait=False).closed
        assert closed == Closed(1001, "closed by operator")


def test_a_second_signal_aborts() -> None:
    with SessionHarness("--stop-grace=1h") as harness:
        harness.open()
        stop = BridgeStop(harness.context)
        stop.drain()
        assert harness.application.signals == []
        stop.drain()
        assert harness.application.signals == [signal.SIGKILL]
        harness.exit(-9)
