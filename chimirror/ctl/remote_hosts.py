"""Runs chimirror-ctl on other hosts over ssh, on all of them at once.

The way of `systemctl -H`: ssh(1) is the transport, its configuration tells users, ports
and keys, and the program on the other host does the work. The other host is not
trusted: its answer is bounded in bytes and in time, and nothing of it is run or shown
here. Knows neither the verbs nor their output.
"""

from __future__ import annotations

import os
import re
import select
import shlex
import subprocess
import time
from collections import deque
from math import isinf
from typing import NamedTuple

from chimirror.ctl.messages import CommandError
from chimirror.text import escape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

OPTIONS = (
    "-xT",  # neither X11 nor a terminal, as systemctl(1)
    "-oBatchMode=yes",  # no prompt: those of several hosts would mix
    "-oConnectTimeout=10",
    "-oServerAliveInterval=15",
    "-oLogLevel=ERROR",
)
MAX_HOSTS = 1000
MAX_PARALLEL = 64  # ssh processes at once; further hosts wait for a free place
MAX_OUTPUT = 64 << 20  # bytes of the answer of a host
MAX_ERRORS = 16 << 10  # bytes of the end of its standard error
TIMEOUT = 120.0  # seconds until an answer is complete
# No shell and no option of ssh reads anything else into such a name.
_NAME = re.compile(
    r"(ssh://)?([A-Za-z0-9_][\w.+-]*@)?[\[A-Za-z0-9_:][\w.:%\[\]-]*", re.A
)
_READ_SIZE = 1 << 16


class Answer(NamedTuple):
    """The end of a command on a host.

    Attributes:
        host: The name from the command line.
        status: The exit status of ssh: that of the command, or 255.
        output: Standard output.
        errors: The end of standard error.
        fault: The reason why the command was ended from here. Empty if it was not.
    """

    host: str
    status: int
    output: bytes
    errors: bytes
    fault: str = ""


def parse_names(text: str) -> list[str]:
    """Read a list of hosts, separated by commas. Returns each once.

    Raises:
        CommandError: A name is none of a host.
    """
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if not _NAME.fullmatch(name):
            wrong = f'--host: "{escape(name)}" is not the name of a host; write'
            raise CommandError(os.EX_USAGE, f"{wrong} a.example or root@a.example,b")
    if len(names) > MAX_HOSTS:
        raise CommandError(os.EX_USAGE, f"--host: at most {MAX_HOSTS} hosts at once")
    return list(dict.fromkeys(names))


def run(hosts: Sequence[str], words: Sequence[str]) -> list[Answer]:
    """Run a command on each host.

    Args:
        hosts: Names that parse_names() has returned.
        words: The command line. It is quoted for the shell of the other host.

    Returns:
        An answer of each host, in the order of the names.

    Raises:
        CommandError: There is no ssh.
    """
    waiting, running = deque(hosts), dict[int, _Command]()
    answers: dict[str, Answer] = {}
    poll = select.poll()
    try:
        while waiting or running:
            while waiting and len(running) < MAX_PARALLEL:
                command = _Command(waiting.popleft(), words, poll)
                running |= dict.fromkeys(command.fds, command)
            _turn(running, poll)
            for command in set(running.values()):
                if command.ended:
                    answers[command.host] = command.finish(poll)
                    for fd in command.fds:
                        del running[fd]
    finally:
        for command in set(running.values()):
            command.end("interrupted")
            command.finish(poll)
    return [answers[host] for host in hosts]


def _turn(running: dict[int, _Command], poll: select.poll) -> None:
    """Wait until a process writes or ends, or its time is over. Reads its output."""
    first = min(command.deadline for command in running.values())
    left = first - time.monotonic()
    for fd, _ in poll.poll(None if isinf(left) else max(left, 0) * 1000):
        running[fd].on_ready(fd, poll)
    now = time.monotonic()
    for command in set(running.values()):
        if command.deadline <= now:
            command.end(f"no complete answer within {TIMEOUT:g} seconds")


class _Command:
    """One ssh process.

    Attributes:
        deadline: Monotonic time at which it is killed. Infinite once it has been.
        ended: Whether the process has ended.
        fds: Its standard output, its standard error and its pidfd.
    """

    def __init__(self, host: str, words: Sequence[str], poll: select.poll) -> None:
        self.host = host
        self.ended = False
        self.deadline = time.monotonic() + TIMEOUT
        self._process = _start(host, words)
        out, errors = self._process.stdout, self._process.stderr
        assert out is not None
        assert errors is not None
        # The pipes may stay open after ssh: a shared connection (ControlPersist in
        # ssh_config(5)) goes on in the background. So the process itself is polled.
        self._pidfd = os.pidfd_open(self._process.pid)
        self._out, self._errors = out.fileno(), errors.fileno()
        self.fds = (self._out, self._errors, self._pidfd)
        self._texts = {self._out: bytearray(), self._errors: bytearray()}
        self._fault = ""
        for fd in self.fds:
            os.set_blocking(fd, False)
            poll.register(fd, select.POLLIN)

    def on_ready(self, fd: int, poll: select.poll) -> None:
        """Read from a pipe, or note the end of the process."""
        if fd == self._pidfd:
            self.ended = True
        elif self._read(fd) == b"":
            poll.unregister(fd)

    def end(self, fault: str) -> None:
        """Kill the process, which then has this fault."""
        self._fault = self._fault or fault
        self.deadline = float("inf")
        self._process.kill()

    def finish(self, poll: select.poll) -> Answer:
        """Reap the process, read the rest and close the pipes."""
        status = self._process.wait()
        for fd, stream in (
            (self._out, self._process.stdout),
            (self._errors, self._process.stderr),
        ):
            assert stream is not None
            while not self._fault and self._read(fd):
                pass
            _unregister(poll, fd)
            stream.close()
        _unregister(poll, self._pidfd)
        os.close(self._pidfd)
        out, errors = self._texts[self._out], self._texts[self._errors]
        return Answer(self.host, status, bytes(out), bytes(errors), self._fault)

    def _read(self, fd: int) -> bytes | None:
        """Read a part of a pipe. Returns None if there is none now, b"" at its end."""
        try:
            data = os.read(fd, _READ_SIZE)
        except BlockingIOError:
            return None
        text = self._texts[fd]
        text += data
        if fd == self._errors:
            del text[:-MAX_ERRORS]
        elif len(text) > MAX_OUTPUT:
            text.clear()
            self.end(f"its answer is longer than {MAX_OUTPUT >> 20} MiB")
        return data


def _unregister(poll: select.poll, fd: int) -> None:
    try:
        poll.unregister(fd)
    except KeyError:
        pass  # it was at its end before


def _start(host: str, words: Sequence[str]) -> subprocess.Popen[bytes]:
    program = os.environ.get("CHIMIRROR_SSH") or "ssh"
    try:
        return subprocess.Popen(
            [program, *OPTIONS, "--", host, shlex.join(words)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
    except (FileNotFoundError, PermissionError):
        text = f"{escape(program)}: there is no such program; install openssh-client,"
        text += " or name another one in CHIMIRROR_SSH"
        raise CommandError(os.EX_UNAVAILABLE, text) from None
