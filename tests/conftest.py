"""Checks and fixtures of all tests, and their distribution over pytest-xdist workers.

A test fails if it leaves a child (even a zombie), an open descriptor or a changed
signal handler, whatever its own result. With --no-skips a skipped test fails as well.
Reads the state of processes from proc(5). Knows nothing of chimirror's modules.

Workers (`--dist loadgroup`): the tests that need an expensive fixture form a group, and
a group runs in one worker. xdist distributes groups in the order of collection, so the
longest come first. Each worker that runs as root has its own /run/chimirror.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Generator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import library_wheels
import systemd_machine as machines
from process_state import children, descriptors, dispositions
from processes import kill_processes

if TYPE_CHECKING:
    from playwright.sync_api import Browser


PR_SET_CHILD_SUBREAPER = 36  # prctl(2)
CLONE_NEWNS = 0x20000  # unshare(2)
MS_REC, MS_PRIVATE = 0x4000, 0x40000  # mount(2)
RUNTIME = "/run/chimirror"
EXAMPLES = Path(__file__).parents[1] / "examples"
BOOT = 300.0  # seconds; the first test of a machine waits for its boot
FAILED = pytest.StashKey[bool]()


@pytest.fixture(autouse=True)
def no_leftovers(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a child, a descriptor or a signal handler behind."""
    held, handled, born = descriptors(), dispositions(), children()
    yield
    left = {pid: what for pid, what in children().items() if pid not in born}
    kill_processes(left)
    for pid in left:
        try:
            os.waitpid(pid, 0)
        except ChildProcessError:
            pass  # the child of another process, which has reaped it
    # Spawners in this process have made it a child subreaper.
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
    opened = dict(descriptors().items() - held.items())
    changed = {
        name: how for name, how in dispositions().items() if handled[name] != how
    }
    if request.node.stash.get(FAILED, False):
        return  # its traceback keeps objects alive
    assert not left, f"left children: {left}"
    assert not opened, f"left descriptors open: {opened}"
    assert not changed, f"left signals changed: {changed}"


@pytest.fixture
def sessions_directory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The directory of status files that the bridges of this test use.

    For root this is the real one, which chimirror-ctl reads. For another user it is a
    private one.
    """
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        monkeypatch.setenv("XDG_RUNTIME_DIR", short)
        base = "/run" if os.geteuid() == 0 else short
        sessions = Path(base) / "chimirror" / "sessions"
        made = not sessions.exists()
        sessions.mkdir(parents=True, exist_ok=True)
        yield sessions
        if made:
            with suppress(OSError):  # another test may have put files there by now
                sessions.rmdir()


@pytest.fixture(scope="session")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[machines.Machine]:
    """The machine for all tests that need one, installed as the README describes.

    If the tests run inside a machine (test_cgroup_v2.py), it is that one.
    """
    if init := os.environ.get("WITH_SYSTEMD_INIT"):
        yield machines.Machine(int(init), os.environ["WITH_SYSTEMD_CGROUPS"])
        return
    if lacking := machines.missing():
        pytest.skip(lacking)
    wheels = tmp_path_factory.mktemp("wheels")
    library_wheels.pack(wheels)
    with machines.boot(wheels) as found:
        found.install(wheels)
        found.do("systemctl", "enable", "--now", "chimirror.socket")
        yield found


@pytest.fixture
def machine(host: machines.Machine) -> Iterator[machines.Machine]:
    """The machine, reset after each test."""
    yield host
    host.reset()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium. While it is open, Playwright runs an event loop."""
    from js_runners import chromium  # imports Playwright, which few tests need

    with chromium() as found:
        yield found


@pytest.fixture(scope="session")
def full(pytestconfig: pytest.Config) -> bool:
    """True if tests run at full size (`--full`). For use with the marker `full`."""
    return bool(pytestconfig.option.full)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-skips", action="store_true", help="a skipped test fails")
    parser.addoption(
        "--full", action="store_true", help="floods and crowds at full size"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Restore the signals that a shell (in background jobs) or nohup(1) ignores."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    if not hasattr(config, "workerinput"):
        generate_chat_messages()
    prepare_worker(config)
    fix_examples()
    if hasattr(config, "workerinput") and os.geteuid() == 0:
        separate_runtime()


def generate_chat_messages() -> None:
    """Generate the module of the chat's messages: tests import it, mypy reads it."""
    make = ["make", "--silent", "-C", str(EXAMPLES), "chat", f"PYTHON={sys.executable}"]
    subprocess.run(make, check=True)


def prepare_worker(config: pytest.Config) -> None:
    """Give a worker the environment and the signals of a process without workers.

    SIGCHLD reaches only the thread that runs the tests.

    The kernel gives a signal to any thread that does not block it. All threads of a
    worker inherit the mask of the process that starts it.
    """
    if hasattr(config, "workerinput"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGCHLD,))
        # readline gives them to the children of the process that starts the worker.
        for name in ("COLUMNS", "LINES"):
            os.environ.pop(name, None)
    elif config.getoption("numprocesses", None):
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGCHLD,))


def fix_examples() -> None:
    """Let Hypothesis find the same examples in every run, in any time.

    A change fails for what is wrong with the change, not for an example that was never
    tried before. Such examples are looked for by `make fuzz`, and by this option:
    `--hypothesis-profile=random`.
    """
    if "WITH_SYSTEMD_INIT" in os.environ:
        return  # tests inside have no examples, and the import takes long there
    from hypothesis import HealthCheck, settings

    # Other tests run at the same time.
    patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.register_profile("random", patient, derandomize=False)
    settings.register_profile("fixed", patient, derandomize=True, database=None)
    settings.load_profile("fixed")  # before Hypothesis reads its option


def separate_runtime() -> None:
    """Give this process a /run/chimirror that other workers do not see.

    This takes a mount namespace. Without the privilege for one, workers share the
    directory.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    Path(RUNTIME).mkdir(exist_ok=True)
    if libc.unshare(CLONE_NEWNS) == 0:
        libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None)
        libc.mount(b"tmpfs", RUNTIME.encode(), b"tmpfs", 0, b"mode=755")


@pytest.hookimpl(tryfirst=True)  # before xdist reads the markers
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Form the groups and sort the longest tests to the front.

    The tests of a machine form two groups: each has a machine of its own.
    """
    items.sort(key=rank)
    live = [item for item in items if "host" in fixtures_of(item)]
    half = len(live) // 2
    for place, item in enumerate(live):
        group = "machine-1" if place < half else "machine-2"
        item.add_marker(pytest.mark.xdist_group(group))
        if place in (0, half) and timeout_of(item) < BOOT:
            item.add_marker(pytest.mark.timeout(BOOT), append=False)
    for item in items:
        if item not in live and (group := group_of(item)):
            item.add_marker(pytest.mark.xdist_group(group))


def fixtures_of(item: pytest.Item) -> list[str]:
    assert isinstance(item, pytest.Function)
    return item.fixturenames


def timeout_of(item: pytest.Item) -> float:
    """Return the timeout of a test in seconds, or 0 if it has no own timeout."""
    mark = item.get_closest_marker("timeout")
    return float(mark.args[0]) if mark else 0


def group_of(item: pytest.Item) -> str:
    """Return the group of a test. Empty if any worker can run the test at any time."""
    if "wheel" in fixtures_of(item):
        return "wheel"
    assert isinstance(item, pytest.Function)
    known = item._fixtureinfo.name2fixturedefs.values()
    scopes = {fixture.scope for fixtures in known for fixture in fixtures}
    return item.path.stem if "module" in scopes else ""


def rank(item: pytest.Item) -> tuple[bool, float]:
    """Return the sort key: machine tests first, then the longest timeout first."""
    return "host" not in fixtures_of(item), -timeout_of(item)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    item.stash[FAILED] = report.failed
    # An expected failure is reported as skipped too, and has the attribute `wasxfail`.
    if (
        report.skipped
        and not hasattr(report, "wasxfail")
        and item.config.option.no_skips
        and not lacks_root(report)
    ):
        report.outcome = "failed"
        report.longrepr = f"skipped, which this run forbids: {report.longrepr}"
    return report


def lacks_root(report: pytest.TestReport) -> bool:
    """Return True if a test was skipped because only root can run it."""
    return os.geteuid() != 0 and "root" in reason_of(report).split()


def reason_of(report: pytest.TestReport) -> str:
    """Return the reason why a test was skipped."""
    assert isinstance(report.longrepr, tuple)
    return str(report.longrepr[2]).removeprefix("Skipped: ")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter,
) -> Iterator[None]:
    """Print, before the last line, the number of tests that only root can run."""
    yield
    skipped = terminalreporter.stats.get("skipped", ())
    if reasons := [reason_of(report) for report in skipped if lacks_root(report)]:
        kinds = "; ".join(sorted(set(reasons)))
        terminalreporter.write_line(
            f"left out: {len(reasons)} tests that need root ({kinds});"
            " to run them: sudo make test"
        )
