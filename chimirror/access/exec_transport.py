"""Asks a helper process, one for each process that serves (chimirror-protocol(7)).

The helper is started with the first question. It answers in any order. One that dies,
that writes something else than answers, or that answers TIMEOUTS questions in a row too
late, is started again: after 0.1 s, and twice as long each time until it answers.
"""

from __future__ import annotations

from chimirror.access import FAILED
from chimirror.access.answer_fields import WrongAnswerError
from chimirror.access.authorizer import MAX_ASKED
from chimirror.access.exec_messages import (
    MAX_LINE,
    encode_question,
    read_line,
    to_answer,
)
from chimirror.access.helper_process import HelperProcess
from chimirror.io.loop import NEVER
from chimirror.text import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from chimirror.access.authorizer import Authorizer, PendingQuestion, RecordLimit

MIN_DELAY, MAX_DELAY = 0.1, 30.0  # seconds until the next start
TIMEOUTS = 3  # questions in a row without an answer
STDERR_LINES, STDERR_PERIOD = 50, 10.0  # lines for the log in so many seconds
ERROR, WARNING, INFO = 3, 4, 6  # syslog(3)


class ExecTransport:
    """Transport to a helper process.

    Args:
        owner: the authorizer, which has the questions.
        argv: the command of the helper.
        environment: its variables.
    """

    __slots__ = (
        "_argv",
        "_cancelled",
        "_delay",
        "_environment",
        "_fault",
        "_helper",
        "_is_closed",
        "_limit",
        "_next_start",
        "_number",
        "_open",
        "_owner",
        "_timeouts",
        "armed",
        "deadline",
    )

    def __init__(
        self, owner: Authorizer, argv: tuple[str, ...], environment: Mapping[str, str]
    ) -> None:
        self._owner = owner
        self._argv = argv
        self._environment = environment
        self._helper: HelperProcess | None = None
        self._is_closed = False
        self._limit: RecordLimit | None = None  # of lines of its standard error
        self._number = 0  # id of the last question
        self._open: dict[int, PendingQuestion] = {}
        # Questions of clients that have gone, and their deadlines. The helper still
        # works on them, so they count.
        self._cancelled: dict[int, float] = {}
        self._timeouts = 0  # in a row
        self._fault = ""  # why it is being killed
        self._delay = MIN_DELAY
        self._next_start = 0.0
        self.armed = 0
        self.deadline = NEVER

    # Questions

    def is_ready(self) -> bool:
        """Return True if one more question can be asked now. Starts the helper."""
        if self._is_closed:
            return False
        if self._helper is None:
            self._start()
        helper = self._helper
        if helper is None or self._fault:
            return False
        if helper.has_closed_input:
            self._end_helper("it has closed its standard input")
            return False
        return helper.is_ready and len(self._open) + len(self._cancelled) < MAX_ASKED

    def ask(self, pending: PendingQuestion) -> None:
        """Write a question."""
        assert self._helper is not None
        self._number += 1
        self._open[self._number] = pending
        self._helper.write(encode_question(self._number, pending.question))

    def drop(self, pending: PendingQuestion, *, timed_out: bool) -> None:
        """Forget a question. Its answer will be ignored."""
        numbers = [number for number, one in self._open.items() if one is pending]
        if not numbers:
            return
        (number,) = numbers
        del self._open[number]
        if timed_out:
            self._on_timeout()
        else:
            loop = self._owner.host.loop
            self._cancelled[number] = max(pending.deadline, loop.now)
            self._set_timer()

    def _on_timeout(self) -> None:
        self._timeouts += 1
        if self._timeouts >= TIMEOUTS:
            self._end_helper(f"{TIMEOUTS} questions in a row had no answer in time")

    def on_helper_line(self, line: bytes) -> None:
        """Called with an answer."""
        if self._fault:
            return
        try:
            number, members = read_line(line)
            if not 0 < number <= self._number:
                raise WrongAnswerError("its answer has the id of no question")
            self._timeouts = 0
            pending = self._open.get(number)
            if pending is None:
                if self._cancelled.pop(number, None) is not None:
                    self._owner.on_room()
                return  # it is late
            answer = to_answer(members, pending.question)
        except WrongAnswerError as error:
            self._end_helper(str(error))
            return
        self._delay = MIN_DELAY
        del self._open[number]
        if answer.status == FAILED:
            pending.fail(answer.text)
        else:
            pending.finish(answer)

    def on_helper_fault(self, text: str) -> None:
        """Called when the output of the helper is not lines."""
        self._end_helper(text)

    # The helper

    def _start(self) -> None:
        """Start the helper, or wait until that is due."""
        host = self._owner.host
        if host.loop.now < self._next_start:
            self._set_timer()
            return
        self._number = self._timeouts = 0
        self._fault = ""
        self._helper = HelperProcess(self, host.loop, host.spawner, MAX_LINE)
        self._helper.start(self._argv, self._environment)

    def on_helper_ready(self) -> None:
        """Called when the helper takes questions."""
        self._owner.on_room()

    def _end_helper(self, text: str) -> None:
        """Kill the helper. Its questions fail.

        Args:
            text: the reason, for the log. It quotes nothing that the helper wrote.
        """
        if self._helper is None or self._fault:
            return
        self._fault = text
        self._helper.kill()
        self._fail_open(text)

    def _fail_open(self, text: str) -> None:
        failed = list(self._open.values())
        self._open.clear()
        self._cancelled.clear()
        for pending in failed:
            pending.fail(text)

    def on_helper_end(self, reason: str) -> None:
        """Called when the helper has ended, or could not be started."""
        loop, delay = self._owner.host.loop, self._delay
        self._helper = None
        if self._is_closed:
            return
        problem = f"{self._fault}, so it was killed" if self._fault else f"it {reason}"
        self._delay = min(2 * delay, MAX_DELAY)
        self._next_start = loop.now + delay
        text = f"{problem}; it is started again in {delay:g} s at the earliest"
        self._log(WARNING, text)
        self._fail_open(f"it {reason}")
        self._owner.fail_waiting(f"it {reason}", self._next_start)
        if self._owner.has_waiting:
            self._set_timer()

    def on_helper_stderr(self, line: bytes) -> None:
        """Called with a line of the standard error of the helper."""
        if self._limit is None:
            log = self._owner.host.event_log
            self._limit = log.limit(STDERR_LINES, STDERR_PERIOD, self._on_suppressed)
        if self._limit.allows("stderr"):
            self._log(INFO, printable(line.decode(errors="backslashreplace")))

    def _on_suppressed(self, label: str, count: int) -> None:
        self._log(INFO, f"{count} more lines on its {label} in {STDERR_PERIOD:g} s")

    def _log(self, priority: int, text: str) -> None:
        name = self._owner.name
        self._owner.host.event_log.message(priority, f"authorizer {name}: {text}")

    # Time

    def _set_timer(self) -> None:
        due = min(self._cancelled.values(), default=NEVER)
        if self._helper is None and self._owner.has_waiting:
            due = min(due, self._next_start)
        if due != NEVER:
            self._owner.host.loop.set_timer(self, due)

    def on_timer(self, now: float) -> None:
        """Called when the helper may be started, or a question is over."""
        for number, deadline in list(self._cancelled.items()):
            if deadline <= now and number in self._cancelled:
                del self._cancelled[number]
                self._on_timeout()
        self._set_timer()
        self._owner.on_room()

    def on_error(self, error: Exception) -> None:
        """Called on an internal error. The helper is started again."""
        self._owner.on_internal_error(error)
        self._end_helper("an internal error")

    def close(self) -> None:
        """End the helper. It exits at the end of its input, or is killed."""
        self._is_closed = True
        self._owner.host.loop.cancel_timer(self)
        if self._helper is not None:
            self._helper.stop()
