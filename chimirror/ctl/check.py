"""The verb that looks whether this machine is set up right: check.

Each finding says what is so, and what to do where that is not as it should be. Nothing
is changed, but that application files are compiled, as whoever serves them would.
"""

from __future__ import annotations

import grp
import os
import stat
from textwrap import wrap

from chimirror.ctl import (
    applications,
    journal,
    limit,
    limits,
    owned,
    ownunits,
    systemd,
)
from chimirror.ctl.cgroups import CONTROLLERS, Trees
from chimirror.ctl.failure import Failure
from chimirror.ctl.finding import BAD, DOUBTFUL, GOOD, Finding
from chimirror.ctl.host import SLICE
from chimirror.ctl.table import Column
from chimirror.system.escape import printable
from chimirror.system.runtime import SESSIONS, SYSTEM

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from chimirror.ctl.host import Host
    from chimirror.ctl.table import Output
    from chimirror.ctl.usage import Given

OLDEST = 252  # of systemd: what the units are written for
SHORTEST = 20  # columns of a line for people
GROUP = "chimirror"  # of bridges
RESERVE = 1000  # processes that the rest of the machine may want
COLUMNS = (
    Column("verdict", "VERDICT"),
    Column("about", "ABOUT"),
    Column("text", "TEXT"),
)
SOCKETS = (systemd.SOCKET, systemd.SERVER_SOCKET)
UNITS = (*SOCKETS, systemd.SAMPLE, systemd.SERVER, SLICE)
NAMES = ("LoadState", "ActiveState", "UnitFileState", "NAccepted", "NConnections")


def check(given: Given, host: Host, output: Output) -> int:
    """Print the findings; status 78 where one of them is bad."""
    if "--apps" in given:
        found = list(applications.review(given.options["--apps"]))
    else:
        found = list(findings(host))
    if "--json" in given:
        output.json([one._asdict() for one in found])
    elif output.width:
        _print(found, output)
    else:
        columns = (*COLUMNS, Column("advice", "ADVICE"))
        output.table(columns, [one._asdict() for one in found])
    bad = any(one.verdict == BAD for one in found)
    return os.EX_CONFIG if bad else os.EX_OK


def _print(found: list[Finding], output: Output) -> None:
    """For people: nothing is cut, since all of it may have to be typed."""
    verdicts = max(len(one.verdict) for one in found)
    for one in found:
        head = f"{one.verdict.ljust(verdicts)}  "
        texts = [f"{one.about}: {one.text}", one.advice and f"→ {one.advice}"]
        for text in filter(None, texts):
            room = max(output.width - len(head), SHORTEST)
            for line in wrap(printable(text), room, break_on_hyphens=False):
                output.write(f"{head}{line}\n")
                head = " " * len(head)


def findings(host: Host) -> Iterator[Finding]:
    """All that can be looked at here."""
    if not host.booted:
        text = "it is not process 1 here: there are no units, limits or history"
        yield Finding(BAD, "systemd", text, "run chimirror-server, which needs none")
        return
    yield _version()
    shown = {one["Id"]: one for one in systemd.properties(UNITS, NAMES)}
    yield from _units(shown)
    yield from _verified(shown)
    yield from _sockets(shown)
    yield from _failed()
    yield from _configuration(host)
    yield from ownunits.review(host)
    yield _controllers(host)
    if shown[systemd.SAMPLE]["LoadState"] == "loaded":
        yield from _room(host)
    yield _runtime(host)
    yield from _journal(host)


# Units


def _version() -> Finding:
    words = systemd.systemctl("--version").split()
    number = words[1].partition(".")[0].partition("~")[0]
    if number.isdigit() and int(number) < OLDEST:
        advice = f"the units are written for {OLDEST} and later: upgrade"
        return Finding(DOUBTFUL, "systemd", f"version {number}", advice)
    return Finding(GOOD, "systemd", f"version {number}")


def _units(shown: dict[str, dict[str, str]]) -> Iterator[Finding]:
    for name in UNITS:
        state = shown[name].get("LoadState", "unknown")
        about = systemd.TEMPLATE if name == systemd.SAMPLE else name
        if state == "loaded":
            continue
        advice = f"systemctl status {about} tells why"
        if state == "not-found":
            advice = "install the units, as the README says"
        elif state == "masked":
            advice = f"systemctl unmask {about}"
        yield Finding(BAD, about, f"it is {state}", advice)


def _verified(shown: dict[str, dict[str, str]]) -> Iterator[Finding]:
    loaded = [name for name in UNITS if shown[name].get("LoadState") == "loaded"]
    if not loaded:
        return
    done = systemd.attempt("systemd-analyze", "verify", "--man=no", *loaded)
    said = done.stderr.strip().splitlines()
    ours = [line for line in said if "chimirror" in line]
    if done.returncode == 0 and not ours:
        yield Finding(GOOD, "units", f"systemd-analyze verifies {len(loaded)} of them")
    for line in ours or said[: done.returncode]:
        advice = "systemctl cat UNIT shows all of a unit; systemctl edit changes it"
        yield Finding(BAD if done.returncode else DOUBTFUL, "units", line, advice)


def _sockets(shown: dict[str, dict[str, str]]) -> Iterator[Finding]:
    states = {name: shown[name].get("ActiveState", "") for name in SOCKETS}
    for name in (name for name in SOCKETS if states[name] == "failed"):
        advice = f"systemctl status {name} tells why; systemctl restart {name}"
        yield Finding(BAD, name, "it has failed and accepts nothing", advice)
    active = [name for name in SOCKETS if states[name] == "active"]
    for name in active:
        if shown[name].get("UnitFileState") != "enabled":
            advice = f"systemctl enable {name}"
            text = "it accepts connections, until the machine restarts"
            yield Finding(DOUBTFUL, name, text, advice)
        else:
            yield Finding(GOOD, name, "it accepts connections")
    if not active:
        advice = f"systemctl enable --now {systemd.SOCKET}"
        yield Finding(DOUBTFUL, "sockets", "none accepts connections", advice)


def _failed() -> Iterator[Finding]:
    listed = systemd.systemctl(
        "list-units", "--state=failed", "--no-legend", "--plain", systemd.INSTANCES
    )
    count = len(listed.splitlines())
    if count:
        advice = "systemctl reset-failed 'chimirror@*'; CollectMode= keeps none"
        yield Finding(DOUBTFUL, systemd.TEMPLATE, f"{count} failed are kept", advice)


def _configuration(host: Host) -> Iterator[Finding]:
    path = applications.configuration(host)
    if not os.path.exists(path):
        advice = f"set CHIMIRROR_COMMAND= in {path}"
        yield Finding(DOUBTFUL, "application", "the demonstration is served", advice)
        return
    try:
        given = applications.configured(host)
    except ValueError as error:
        advice = "systemd may read it in another way: write NAME=VALUE lines"
        yield Finding(DOUBTFUL, "application", str(error), advice)
        return
    directory = given.apps
    if directory is None:
        command = given.command or "the demonstration is served"
        yield Finding(GOOD, "application", command)
    else:
        yield from applications.review(directory)
    options = {word.partition("=")[0] for word in given.options}
    for option in sorted(options & limit.OPTIONS.keys()):
        text = f"{path}: a unit itself gives {option}, so no session can start"
        advice = "take it out; chimirror-ctl limit sets it"
        yield Finding(BAD, "application", text, advice)


# The machine


def _controllers(host: Host) -> Finding:
    missing = sorted(set(CONTROLLERS) - Trees(host).controllers())
    if not missing:
        return Finding(GOOD, "cgroups", f"{', '.join(CONTROLLERS)} can be limited")
    advice = "enable them on the kernel's command line (cgroup_enable=memory)"
    text = f"no controller for {', '.join(missing)}: such limits do not hold"
    return Finding(BAD, "cgroups", text, advice)


def _room(host: Host) -> Iterator[Finding]:
    """Limits against what the machine has."""
    holding = limits.holding(owned.units(""))
    most, _ = holding["sessions"]
    connections, _ = holding["connections"]
    if most is None:
        text = f"{limit.MAX_SESSIONS} is not set"
        advice = "chimirror-ctl limit --sessions N sets it"
        yield Finding(BAD, "sessions", text, advice)
        return
    if connections is not None and connections <= most:
        text = f"{most:g} may be open, but systemd hangs up after {connections:g}"
        advice = f"chimirror-ctl limit --sessions {most:g} sets both"
        yield Finding(BAD, "sessions", text, advice)
    # A bridge, and an application of at least one process.
    tasks = 2 * most + RESERVE
    for name in ("pid_max", "threads-max"):
        have = _number(f"{host.proc}/sys/kernel/{name}")
        if have and have < tasks:
            text = f"{most:g} sessions want {tasks:g} processes, and there are {have}"
            advice = f"sysctl kernel.{name}={2 * tasks:g}, or fewer sessions"
            yield Finding(BAD, f"kernel.{name}", text, advice)
    allowed, _ = holding["tasks-max"]
    if allowed is not None and allowed < 2 * most:
        text = f"{most:g} sessions want {2 * most:g} tasks, {allowed:g} are allowed"
        advice = f"chimirror-ctl limit --tasks-max {4 * most:g}, or fewer sessions"
        yield Finding(DOUBTFUL, SLICE, text, advice)
    files = _number(f"{host.proc}/sys/fs/file-max")
    if files and files < 50 * most:
        text = f"{most:g} sessions may want {50 * most:g} open files, of {files}"
        advice = f"sysctl fs.file-max={100 * most:g}"
        yield Finding(DOUBTFUL, "fs.file-max", text, advice)
    yield Finding(GOOD, "sessions", f"{most:g} may be open at once")


def _number(path: str) -> int | None:
    try:
        with open(path, encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return None


def _runtime(host: Host) -> Finding:
    """The directory of status files."""
    path = f"{next(iter(host.places), SYSTEM)}/{SESSIONS}"
    advice = "systemd-tmpfiles --create chimirror.conf"
    try:
        found = os.stat(path)
    except OSError as error:
        text = f"{error.strerror}: sessions show no peer and no figures"
        return Finding(BAD, path, text, advice)
    mode = stat.S_IMODE(found.st_mode)
    own = f"{mode:04o} {found.st_uid}:{_group(found.st_gid)}"
    if own != f"1730 0:{GROUP}":
        text = f"mode and owner are {own}, should be 1730 0:{GROUP}"
        return Finding(BAD, path, text, advice)
    return Finding(GOOD, path, "sessions can tell how they are")


def _group(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)


def _journal(host: Host) -> Iterator[Finding]:
    try:
        with journal.Journal(host):
            yield Finding(GOOD, "journal", "it can be read")
    except Failure as failure:
        yield Finding(BAD, "journal", str(failure), "then history, log and stats work")
        return
    if not os.path.isdir(f"{host.log}/journal"):
        advice = "mkdir /var/log/journal && journalctl --flush"
        text = "it is kept until the machine restarts"
        yield Finding(DOUBTFUL, "journal", text, advice)
