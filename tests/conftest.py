"""What holds for every test: it leaves the process as it found it, and it ran.

Law: a test that leaves a child (a zombie is one), an open descriptor or a changed
signal disposition fails, whatever else it proved; with --no-skips, so does a skipped
one. Ignorance: nothing of chimirror; proc(5) says what a process holds.
"""

from __future__ import annotations

import ctypes
import os
import signal
import tempfile
from collections.abc import Generator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import machine as machines
from settling import descendants, name_of, slay

if TYPE_CHECKING:
    from playwright.sync_api import Browser

Descriptors = dict[int, str]


PR_SET_CHILD_SUBREAPER = 36  # prctl(2)
FAILED = pytest.StashKey[bool]()


def children() -> dict[int, str]:
    """The processes below this one, by pid, with their state and command line."""
    found = descendants(os.getpid())
    return {child.pid: f"{child.state} {name_of(child.pid)}" for child in found}


def descriptors() -> Descriptors:
    """What each open descriptor of this process refers to."""
    found = {}
    for entry in os.listdir("/proc/self/fd"):
        try:
            found[int(entry)] = os.readlink(f"/proc/self/fd/{entry}")
        except FileNotFoundError:
            pass  # the one that listed the directory
    return found


def dispositions() -> dict[str, object]:
    """How this process takes each signal, which it blocks, what it wakes."""
    found: dict[str, object] = {
        signal.strsignal(number) or str(number): signal.getsignal(number)
        for number in signal.valid_signals() - {signal.SIGALRM}  # pytest-timeout's
    }
    found["blocked"] = sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ()))
    found["wake-up"] = wakeup = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(wakeup)
    return found


@pytest.fixture(autouse=True)
def settled(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails a test that leaves a child, a descriptor or a signal handler behind."""
    held, handled, born = descriptors(), dispositions(), children()
    yield
    left = {pid: what for pid, what in children().items() if pid not in born}
    slay(left)
    for pid in left:
        try:
            os.waitpid(pid, 0)
        except ChildProcessError:
            pass  # somebody else's, and already somebody else's to reap
    # Who starts applications in this process has made it adopt orphans.
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
    opened = dict(descriptors().items() - held.items())
    changed = {
        name: how for name, how in dispositions().items() if handled[name] != how
    }
    if request.node.stash.get(FAILED, False):
        return  # and its traceback holds on to things
    assert not left, f"left children: {left}"
    assert not opened, f"left descriptors open: {opened}"
    assert not changed, f"left signals changed: {changed}"


@pytest.fixture
def runtime_place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """RUNTIME/sessions: as root where everybody looks, else where nobody does."""
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        monkeypatch.setenv("XDG_RUNTIME_DIR", short)
        base = "/run" if os.geteuid() == 0 else short
        sessions = Path(base) / "chimirror" / "sessions"
        made = not sessions.exists()
        sessions.mkdir(parents=True, exist_ok=True)
        yield sessions
        if made:
            with suppress(OSError):  # others may be there by now
                sessions.rmdir()


@pytest.fixture(scope="session")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[machines.Machine]:
    """One machine for all tests that need one, installed as the README says.

    It is the one that the tests run in, if they do (test_unified_live.py).
    """
    if init := os.environ.get("WITH_SYSTEMD_INIT"):
        yield machines.Machine(int(init), os.environ["WITH_SYSTEMD_CGROUPS"])
        return
    if lacking := machines.missing():
        pytest.skip(lacking)
    wheels = tmp_path_factory.mktemp("wheels")
    machines.pack(wheels)
    with machines.boot(wheels) as found:
        found.install(wheels)
        found.do("systemctl", "enable", "--now", "chimirror.socket")
        yield found


@pytest.fixture
def machine(host: machines.Machine) -> Iterator[machines.Machine]:
    """The machine, on which no test finds what another has set up."""
    yield host
    host.reset()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium."""
    from players import chromium  # with Playwright, which few tests need

    with chromium() as found:
        yield found.browser


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-skips", action="store_true", help="a skipped test fails")


def pytest_configure() -> None:
    """A shell ignores these for what it runs in the background, and nohup(1) one."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    item.stash[FAILED] = report.failed
    # (An expected failure is reported as skipped too, and has `wasxfail`.)
    if (
        report.skipped
        and not hasattr(report, "wasxfail")
        and item.config.option.no_skips
    ):
        report.outcome = "failed"
        report.longrepr = f"skipped, which this run forbids: {report.longrepr}"
    return report
