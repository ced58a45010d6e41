"""The trace of a request reaches the application and the records of its session."""

from __future__ import annotations

from session_harness import SessionHarness

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_application_and_records_get_the_trace() -> None:
    fields = (f"traceparent: {TRACE}", "tracestate: a=b", "baggage: user=ann")
    with SessionHarness() as session:
        session.open("json", *fields)
        environment = session.application.environment
        assert environment["TRACEPARENT"] == environment["HTTP_TRACEPARENT"] == TRACE
        assert environment["TRACESTATE"] == "a=b"
        assert environment["BAGGAGE"] == "user=ann"
        session.wait(1)
        session.exit()
        session.peer.close()
        session.until(lambda: session.event_log.of("end"))
        for kind in ("start", "end"):
            [record] = session.event_log.of(kind)
            assert record["trace"] == TRACE


def test_a_malformed_trace_reaches_no_record() -> None:
    with SessionHarness() as session:
        session.open("json", "traceparent: 00-x", "tracestate: a=b")
        environment = session.application.environment
        assert environment["HTTP_TRACEPARENT"] == "00-x"
        assert "TRACEPARENT" not in environment
        assert "TRACESTATE" not in environment
        session.wait(1)
        [start] = session.event_log.of("start")
        assert "trace" not in start
