"""Sizes of a terminal: of many in a row only the last is set. The ioctl is recorded."""

from __future__ import annotations

import pytest

from chimirror.process import pty
from session_harness import SessionHarness
from websocket_peer import stdin, text


def size(columns: int) -> dict[str, object]:
    return {"type": "resize", "columns": columns, "rows": 24}


def test_the_last_of_many_sizes_is_set_in_order_with_input(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[tuple[int, bytes]] = []
    with SessionHarness("--pty") as harness:

        def resize(fd: int, columns: int, rows: int) -> None:
            calls.append((columns, harness.application.read_stdin()))

        monkeypatch.setattr(pty, "resize", resize)
        harness.open("stdio")
        harness.say(b"".join(text(size(1 + number)) for number in range(100)))
        assert [columns for columns, _ in calls] == [100]
        many = (size(7), size(8), stdin(b"a"), size(9), size(10))
        harness.say(b"".join(map(text, many)))
        assert calls[1:] == [(8, b""), (10, b"a")]
        harness.exit()


def test_a_terminal_that_cannot_be_resized_ends_its_session_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(fd: int, columns: int, rows: int) -> None:
        raise OSError(5, "Input/output error")

    with SessionHarness("--pty") as harness:
        monkeypatch.setattr(pty, "resize", fail)
        harness.open("stdio")
        harness.say(text(size(80)))
        assert [note["priority"] for note in harness.event_log.of("note")] == [3]
        harness.exit()
