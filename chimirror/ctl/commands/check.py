"""The verb that checks the setup of this machine: check.

Each finding states a fact, and the correction where one is needed. The check changes
nothing.
"""

from __future__ import annotations

import grp
import os
import re
import stat
from textwrap import wrap

from chimirror.apps import application_file
from chimirror.ctl import (
    app_files,
    drained_units,
    journal,
    systemd,
    transient_unit,
    unit_files,
)
from chimirror.ctl.cgroups import CONTROLLERS, CgroupHierarchy
from chimirror.ctl.commands import capacity_check, set_limits
from chimirror.ctl.messages import BAD, GOOD, WARNING, CommandError, Finding, merged
from chimirror.ctl.output import Column
from chimirror.ctl.paths import SLICE
from chimirror.host.runtime_dir import SESSIONS, SYSTEM
from chimirror.process import fast_spawner
from chimirror.text import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from chimirror.ctl.output import OutputWriter
    from chimirror.ctl.paths import HostPaths
    from chimirror.ctl.usage import CommandLine

MIN_SYSTEMD = 252  # the units need at least this version
MIN_TEXT_WIDTH = 20  # columns of a line on a terminal
GROUP = "chimirror"  # the group of bridges
COLUMNS = (
    Column("verdict", "VERDICT"),
    Column("about", "ABOUT"),
    Column("text", "TEXT"),
)
ROOT = ("", "root", "0")  # values of User=
SOCKETS = (systemd.SOCKET, systemd.SERVER_SOCKET)
SERVICES = {systemd.SOCKET: systemd.SAMPLE, systemd.SERVER_SOCKET: systemd.SERVER}
UNITS = (*SOCKETS, systemd.SAMPLE, systemd.SERVER, SLICE)
NAMES = ("LoadState", "ActiveState", "UnitFileState", "FragmentPath", "User")
# A line of systemd-analyze(1), verify.
PLACE = re.compile(r"(?P<file>[^\s:]+):(?P<line>[0-9]+): (?P<text>.*)")
DEMONSTRATION = "/share/chimirror/examples/animals.py"


def check(given: CommandLine, host: HostPaths, output: OutputWriter) -> int:
    """Print the findings. The exit status is 78 if one of them is bad."""
    if "--apps" in given:
        found = merged(app_files.review(given.options["--apps"]))
    else:
        found = merged(findings(host))
    if "--json" in given:
        output.json([finding._asdict() for finding in found])
    elif output.width:
        print_findings(found, output)
    else:
        columns = (*COLUMNS, Column("advice", "ADVICE"))
        output.table(columns, [finding._asdict() for finding in found])
    bad = any(finding.verdict == BAD for finding in found)
    return os.EX_CONFIG if bad else os.EX_OK


def print_findings(found: list[Finding], output: OutputWriter) -> None:
    """Print findings for a terminal. No text is cut: users copy commands from it."""
    verdicts = max(len(finding.verdict) for finding in found)
    for finding in found:
        head = f"{finding.verdict.ljust(verdicts)}  "
        texts = [
            f"{finding.about}: {finding.text}",
            finding.advice and f"→ {finding.advice}",
        ]
        for text in filter(None, texts):
            width = max(output.width - len(head), MIN_TEXT_WIDTH)
            for line in wrap(printable(text), width, break_on_hyphens=False):
                output.write(f"{head}{line}\n")
                head = " " * len(head)


def findings(host: HostPaths) -> Iterator[Finding]:
    """Run every check that applies to this machine."""
    if not host.booted:
        text = "it is not process 1 here: there are no units, limits or history"
        yield Finding(
            BAD, "systemd", text, "run chimirror-server, which does not need systemd"
        )
        return
    yield _version()
    yield _starts()
    properties = unit_properties()
    yield from _units(properties)
    yield from _verified(properties)
    yield from _sockets(properties, drained_units.names(host))
    yield from _failed()
    yield from _configuration(host, properties[systemd.SERVER].get("User", ""))
    yield from _applications(host, properties)
    yield from unit_files.review(host)
    yield _controllers(host)
    if properties[systemd.SAMPLE]["LoadState"] == "loaded":
        yield from capacity_check.limits(host)
    yield from capacity_check.capacities(host, services_in_use(properties))
    yield _runtime(host)
    yield from _journal(host)


# Units


def unit_properties() -> dict[str, dict[str, str]]:
    """Query the state of the units once, by their names."""
    units = (*UNITS, systemd.ZYGOTE_SOCKET, systemd.ZYGOTE)
    return {unit["Id"]: unit for unit in systemd.properties(units, NAMES)}


def _version() -> Finding:
    words = systemd.systemctl("--version").split()
    number = words[1].partition(".")[0].partition("~")[0]
    if number.isdigit() and int(number) < MIN_SYSTEMD:
        advice = f"the units are written for {MIN_SYSTEMD} and later: upgrade"
        return Finding(WARNING, "systemd", f"version {number}", advice)
    return Finding(GOOD, "systemd", f"version {number}")


def _starts() -> Finding:
    obstacle = fast_spawner.try_start()
    text = fast_spawner.describe(obstacle)
    if obstacle:
        advice = "install chimirror with a C compiler and the headers of Python"
        return Finding(WARNING, "chimirror-server", text, advice)
    return Finding(GOOD, "chimirror-server", text)


def _units(properties: dict[str, dict[str, str]]) -> Iterator[Finding]:
    for name in UNITS:
        state = properties[name].get("LoadState", "unknown")
        about = systemd.TEMPLATE if name == systemd.SAMPLE else name
        if state == "loaded":
            continue
        advice = f"systemctl status {about} shows the reason"
        if state == "not-found":
            advice = "install the units, as the README says"
        elif state == "masked":
            advice = f"systemctl unmask {about}"
        file = properties[name].get("FragmentPath") or None
        yield Finding(BAD, about, f"it is {state}", advice, file)


def _verified(properties: dict[str, dict[str, str]]) -> Iterator[Finding]:
    loaded = [name for name in UNITS if properties[name].get("LoadState") == "loaded"]
    if not loaded:
        return
    result = systemd.run("systemd-analyze", "verify", "--man=no", *loaded)
    lines = result.stderr.strip().splitlines()
    relevant = [line for line in lines if "chimirror" in line]
    if result.returncode == 0 and not relevant:
        yield Finding(GOOD, "units", f"systemd-analyze verifies {len(loaded)} of them")
    verdict = BAD if result.returncode else WARNING
    advice = "systemctl cat UNIT shows all of a unit; systemctl edit changes it"
    for line in relevant or lines[: result.returncode]:
        found = PLACE.fullmatch(line)
        if found:
            place = found["file"], int(found["line"])
            yield Finding(verdict, "units", found["text"], advice, *place)
        else:
            yield Finding(verdict, "units", line, advice)


def _sockets(
    properties: dict[str, dict[str, str]], stopped: Sequence[str]
) -> Iterator[Finding]:
    states = {name: properties[name].get("ActiveState", "") for name in SOCKETS}
    for name in (name for name in SOCKETS if states[name] == "failed"):
        advice = f"systemctl status {name} shows the reason; systemctl restart {name}"
        yield Finding(BAD, name, "it has failed and accepts nothing", advice)
    active = [name for name in SOCKETS if states[name] == "active"]
    for name in active:
        if properties[name].get("UnitFileState") != "enabled":
            advice = f"systemctl enable {name}"
            text = "it accepts connections, until the machine restarts"
            yield Finding(WARNING, name, text, advice)
        else:
            yield Finding(GOOD, name, "it accepts connections")
    for name in (name for name in stopped if name not in active):
        text = "chimirror-ctl drain has stopped it"
        yield Finding(WARNING, name, text, "chimirror-ctl undrain")
    for name in SOCKETS:
        if states[name] == "inactive" and name not in stopped:
            yield _unused_socket(name, properties[name].get("UnitFileState", ""))
    if not active and not stopped:
        advice = f"systemctl enable --now {systemd.SOCKET}"
        yield Finding(BAD, "sockets", "none accepts connections", advice)


def _unused_socket(name: str, state: str) -> Finding:
    if state != "enabled":
        return Finding(GOOD, name, "it is not in use")
    text = "it is enabled, but not started: it accepts nothing"
    return Finding(BAD, name, text, f"systemctl start {name}")


def _applications(
    host: HostPaths, properties: dict[str, dict[str, str]]
) -> Iterator[Finding]:
    """Try the command line in each service that is in use."""
    services = services_in_use(properties)
    if _is_used(properties, systemd.ZYGOTE_SOCKET, systemd.ZYGOTE):
        services.append(systemd.ZYGOTE)
    for service in services:
        for finding in transient_unit.probe(service):
            yield _as_demonstration(host, service, finding)


def _as_demonstration(host: HostPaths, service: str, finding: Finding) -> Finding:
    """Turn the good finding for the default command of the units into a warning."""
    if finding.verdict != GOOD or DEMONSTRATION not in finding.text:
        return finding
    name = "CHIMIRROR_ZYGOTE" if service == systemd.ZYGOTE else "CHIMIRROR_COMMAND"
    text = "the demonstration is served"
    advice = f"set {name}= in {app_files.configuration_path(host)}"
    return finding._replace(verdict=WARNING, text=text, advice=advice)


def services_in_use(properties: dict[str, dict[str, str]]) -> list[str]:
    """Return the services whose sockets are started or enabled. None: all.

    Args:
        properties: The result of `unit_properties`.
    """
    used = [
        service
        for socket, service in SERVICES.items()
        if _is_used(properties, socket, service)
    ]
    return used or [
        service for service in SERVICES.values() if _is_loaded(properties, service)
    ]


def _is_used(properties: dict[str, dict[str, str]], socket: str, service: str) -> bool:
    found = properties.get(socket, {})
    is_accepting = found.get("ActiveState") == "active"
    is_enabled = found.get("UnitFileState") == "enabled"
    return _is_loaded(properties, service) and (is_accepting or is_enabled)


def _is_loaded(properties: dict[str, dict[str, str]], service: str) -> bool:
    return properties.get(service, {}).get("LoadState") == "loaded"


def _failed() -> Iterator[Finding]:
    listed = systemd.systemctl(
        "list-units", "--state=failed", "--no-legend", "--plain", systemd.INSTANCES
    )
    count = len(listed.splitlines())
    if count:
        advice = "systemctl reset-failed 'chimirror@*'; CollectMode= keeps none"
        yield Finding(
            WARNING, systemd.TEMPLATE, f"{count} failed units are kept", advice
        )


def _configuration(host: HostPaths, user: str) -> Iterator[Finding]:
    """Check the configuration of the units.

    Args:
        host: the paths of this machine.
        user: the user of the server's unit.
    """
    path = app_files.configuration_path(host)
    if not os.path.exists(path):
        return
    try:
        given = app_files.read_configuration(host)
    except ValueError as error:
        advice = "systemd may read it differently: write NAME=VALUE lines"
        found = PLACE.fullmatch(str(error))
        text = found["text"] if found else str(error).removeprefix(f"{path}: ")
        line = int(found["line"]) if found else None
        yield Finding(WARNING, "application", text, advice, path, line)
        return
    for name in given.unknown:
        line = app_files.variable_line(path, name)
        text, advice = (
            f"{name} is no variable of the units",
            app_files.nearest_variable(name),
        )
        yield Finding(BAD, "application", text, advice, path, line)
    directory = given.apps
    if directory is not None:
        yield from app_files.review(directory)
        if user not in ROOT:
            yield from _applications_of_users(directory)
    options = {word.partition("=")[0] for word in given.options}
    for option in sorted(options & set_limits.OPTIONS.keys()):
        text = f"the units set {option} too, so no session can start"
        advice = "remove it; chimirror-ctl limit sets it"
        line = app_files.variable_line(path, "CHIMIRROR_OPTIONS")
        yield Finding(BAD, "application", text, advice, path, line)


def _applications_of_users(directory: str) -> Iterator[Finding]:
    """Report applications with a user, which only a server of root starts."""
    try:
        found = list(app_files.open_directory(directory).all())
    except OSError:
        return  # reported by the review
    for app in found:
        if app.config.user is not None:
            name = app.config.user.variables["USER"]
            text = f"its user is {name}, and no unit runs as root: it is refused"
            advice = f"let {systemd.SERVER} run as root: chimirror-systemd(7), Users"
            file = f"{directory}/{app.name}{application_file.SUFFIX}"
            line = app_files.line_of(file, r"\s*user\s*=")
            yield Finding(BAD, f"application {app.name}", text, advice, file, line)


# The machine


def _controllers(host: HostPaths) -> Finding:
    missing = sorted(set(CONTROLLERS) - CgroupHierarchy(host).controllers())
    if not missing:
        return Finding(GOOD, "cgroups", f"{', '.join(CONTROLLERS)} can be limited")
    advice = "enable them on the kernel's command line (cgroup_enable=memory)"
    text = f"no controller for {', '.join(missing)}: such limits do not hold"
    return Finding(BAD, "cgroups", text, advice)


def _runtime(host: HostPaths) -> Finding:
    """Check the directory of status files."""
    path = f"{next(iter(host.runtime_dirs), SYSTEM)}/{SESSIONS}"
    advice = "systemd-tmpfiles --create chimirror.conf"
    try:
        found = os.stat(path)
    except OSError as error:
        text = f"{error.strerror}: sessions show no peer and no figures"
        return Finding(BAD, path, text, advice, path)
    mode = stat.S_IMODE(found.st_mode)
    actual = f"{mode:04o} {found.st_uid}:{_group(found.st_gid)}"
    if actual != f"1730 0:{GROUP}":
        text = f"mode and owner are {actual}, should be 1730 0:{GROUP}"
        return Finding(BAD, path, text, advice, path)
    return Finding(GOOD, path, "sessions can report their status")


def _group(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)


def _journal(host: HostPaths) -> Iterator[Finding]:
    try:
        with journal.JournalReader(host):
            yield Finding(GOOD, "journal", "it can be read")
    except CommandError as failure:
        yield Finding(BAD, "journal", str(failure), "history, log and stats need it")
        return
    if not os.path.isdir(f"{host.log}/journal"):
        advice = "mkdir /var/log/journal && journalctl --flush"
        text = "it is kept until the machine restarts"
        yield Finding(WARNING, "journal", text, advice)
