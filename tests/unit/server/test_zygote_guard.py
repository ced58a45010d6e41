"""When a zygote is killed that hangs in a start. Time is injected."""

from __future__ import annotations

from chimirror.io.loop import EventLoop
from chimirror.server.zygote_guard import CHECK_INTERVAL, START_TIMEOUT, ZygoteGuard
from chimirror.spawn.start_marks import StartMarks
from loops import FakeTime


def test_a_zygote_is_killed_once_for_a_start_that_hangs() -> None:
    time = FakeTime()
    loop = EventLoop(time, time)
    marks, reasons = StartMarks(2), list[str]()
    ZygoteGuard(loop, marks, reasons.append).enable()

    def wait(seconds: float) -> None:
        end = time.now + seconds
        while time.now < end:
            loop.run_once()

    for _ in range(10):  # a zygote that is busy with other starts
        marks.begin(1, 7, time.now)
        wait(CHECK_INTERVAL)
        marks.end(1)
    wait(2 * START_TIMEOUT)
    assert reasons == []
    marks.begin(0, 8, time.now)
    wait(3 * START_TIMEOUT)
    assert reasons == ["it has hung in a start for 10 s"]
    assert (marks.take(0), marks.take(0), marks.take(1)) == (8, 0, 0)
    marks.reset()
    wait(2 * START_TIMEOUT)
    marks.begin(0, 9, time.now)
    wait(3 * START_TIMEOUT)
    assert len(reasons) == 2
    loop.close_all()
