"""Writes the units of an application with units of its own: socket, template, slice.

Each is a copy of a unit that chimirror ships. The differences are in drop-ins beside
it: systemd.unit(5). remove() deletes exactly these files, and the limits that
`chimirror-ctl limit` set for them. Files that an operator wrote stay.
"""

from __future__ import annotations

import os
import re
from itertools import zip_longest

from chimirror.ctl import systemd, transient_unit, unit_names
from chimirror.ctl.commands import set_limits
from chimirror.ctl.dropins import DropIn
from chimirror.ctl.messages import BAD, GOOD, WARNING, CommandError, Finding
from chimirror.ctl.paths import SLICE
from chimirror.host.safe_directory import SafeDirectory
from chimirror.protocol import addresses

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from chimirror.ctl.paths import HostPaths

DROP_IN = "10-own"
# A dash in the name of a slice separates parent and child. So a name may not end with a
# dash, nor hold two in a row.
SLICE_NAME = re.compile(r"[A-Za-z0-9_.]+(-[A-Za-z0-9_.]+)*")
# The units that are copied, in the order of unit_names.UnitNames.
MODELS = (systemd.SOCKET, systemd.SAMPLE, SLICE)


def write(
    host: HostPaths,
    name: str,
    address: str,
    command: Sequence[str],
    settings: Mapping[tuple[str, ...], object],
) -> list[str]:
    """Write the units of an application. Returns lines to print.

    Raises:
        CommandError: They cannot be written, or exist.
    """
    listen = _listen_address(address)
    words, variables = _variables(command, settings)
    if not SLICE_NAME.fullmatch(name):
        text = (
            f'"{name}" cannot name a slice; write no - at its end, and no two in a row'
        )
        raise CommandError(os.EX_USAGE, text)
    systemd.require(host)
    set_limits.require_installed(systemd.SOCKET, systemd.SAMPLE)
    socket, template, slice_ = unit_names.units(name)
    (properties,) = systemd.properties([socket], ["LoadState"])
    if properties["LoadState"] != "not-found":
        text = f"{socket} exists; chimirror-ctl remove {name} removes it"
        raise CommandError(os.EX_CANTCREAT, text)
    findings = transient_unit.probe(systemd.SAMPLE, [*words, "--", *command])
    transient_unit.refuse_bad(name, findings)
    directory = unit_names.directory(host)
    env = f"{directory}/{template}.d/{DROP_IN}.env"
    texts = {
        **_copies(name),
        f"{socket}.d/{DROP_IN}.conf": "[Unit]\n"
        f"Description=chimirror: a unit for each WebSocket connection to {name}\n"
        f"[Socket]\nListenStream=\nListenStream={listen}\n",
        f"{template}.d/{DROP_IN}.env": variables,
        f"{template}.d/{DROP_IN}.conf": "[Unit]\n"
        f"Description=chimirror: a session of {name}\n"
        f"[Service]\nSlice={slice_}\nEnvironmentFile=\nEnvironmentFile={env}\n",
        f"{slice_}.d/{DROP_IN}.conf": "[Unit]\n"
        f"Description=chimirror: all sessions of {name}\n",
    }
    for unit, text in texts.items():
        _write_file(f"{directory}/{unit}", text)
    systemd.systemctl("daemon-reload")
    messages = [f"{directory}/{unit}: written" for unit in (socket, template, slice_)]
    return [*messages, f"now: systemctl enable --now {socket}"]


def _write_file(path: str, text: str) -> None:
    directory, _, name = path.rpartition("/")
    with SafeDirectory(directory, create=True) as opened:
        opened.replace(name, text.encode())


def _listen_address(address: str) -> str:
    """Convert an address to the form of systemd.socket(5)."""
    if address.startswith("unix:/") and "\n" not in address:
        return address.removeprefix("unix:").replace("%", "%%")
    parsed = addresses.authority(address)
    if parsed is None or not parsed[1] or not addresses.is_literal(parsed[0]):
        hint = "write 127.0.0.1:4000, [::1]:4000 or unix:/run/game/socket"
        raise CommandError(
            os.EX_USAGE, f'--own-socket: "{address}" is not an address; {hint}'
        )
    return address


def _copies(name: str) -> dict[str, str]:
    pairs = zip(unit_names.units(name), MODELS, strict=True)
    return {unit: unit_names.MARK + _model(model) for unit, model in pairs}


def _model(unit: str) -> str:
    """Return the text of an installed unit without its drop-ins."""
    (properties,) = systemd.properties([unit], ["FragmentPath"])
    with open(properties["FragmentPath"], encoding="utf-8") as file:
        return file.read()


def _variables(
    command: Sequence[str], settings: Mapping[tuple[str, ...], object]
) -> tuple[list[str], str]:
    """Return the options, and the EnvironmentFile= of the template: systemd.exec(5)."""
    words: list[str] = []
    variables: dict[str, str] = {}
    for path, value in settings.items():
        key, *rest = path
        if key == "interface":
            text = "units cannot hold an interface; leave it or --own-socket out"
            raise CommandError(os.EX_USAGE, f"--set: {'.'.join(path)}: {text}")
        if key == "user":
            text = "sessions of units have users of their own (--user-range)"
            raise CommandError(os.EX_USAGE, f"--set: user: {text}; leave it out")
        for item in value if isinstance(value, list) else [value]:
            if f"--{key}" in set_limits.OPTIONS:
                variables[set_limits.OPTIONS[f"--{key}"]] = str(item)
            elif isinstance(item, bool):
                words += [f"--{key}"] * item
            else:
                words += [f"--{key}", "=".join([*rest, str(item)])]
    _refuse_lines([*words, *command])
    if command[0].startswith("-"):
        raise CommandError(
            os.EX_USAGE, f'"{command[0]}" is not a program; write its path'
        )
    from chimirror.config import parser

    parser.parse_bridge(
        [*words, "--", *command]
    )  # Cannot fail: the command and the settings have been checked before.
    variables["CHIMIRROR_OPTIONS"] = " ".join(map(_word, words))
    variables["CHIMIRROR_COMMAND"] = " ".join(map(_word, command))
    lines = [f"{name}={_quoted(value)}\n" for name, value in variables.items()]
    return words, "".join(lines)


def _refuse_lines(words: list[str]) -> None:
    for word in words:
        if not word.isprintable():
            text = f"{word!r}: units cannot hold that; put it into a script"
            raise CommandError(os.EX_USAGE, text)


def _word(text: str) -> str:
    """Quote one word where systemd splits a value at spaces: systemd.service(5)."""
    if re.fullmatch(r"[A-Za-z0-9_./:=,@%+-]+", text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _quoted(text: str) -> str:
    """Quote a value as EnvironmentFile= reads it."""
    return '"' + re.sub(r'(["\\`$])', r"\\\1", text) + '"'


def remove(host: HostPaths, name: str) -> list[str]:
    """Remove the units of an application, if it has any. Returns lines to print.

    Its sessions end with 1001 closed by operator. Limits that were set for its units
    are removed.
    """
    directory, units = unit_names.directory(host), unit_names.units(name)
    if name not in unit_names.names(host):
        return []
    if host.booted:
        systemd.run("systemctl", "disable", "--now", units.socket)
        systemd.run("systemctl", *systemd.CLOSE, "--", units.instances)
        systemd.run("systemctl", "stop", units.slice)
    else:
        _unlink(f"{directory}/sockets.target.wants/{units.socket}")
    messages = []
    for unit in units:
        for runtime in (True, False):
            DropIn(host, unit, "", runtime=runtime).remove()
        for path in (f"{unit}.d/{DROP_IN}.conf", f"{unit}.d/{DROP_IN}.env", unit):
            _unlink(f"{directory}/{path}")
        try:
            os.rmdir(f"{directory}/{unit}.d")
        except FileNotFoundError:
            pass
        except OSError:
            messages.append(f"{directory}/{unit}.d: kept, since it holds other files")
    if host.booted:
        systemd.systemctl("daemon-reload")
    return [f"{', '.join(units)}: removed", *messages]


def _unlink(path: str) -> None:
    directory, _, name = path.rpartition("/")
    try:
        with SafeDirectory(directory) as opened:
            opened.remove(name)
    except FileNotFoundError:
        pass


def review(host: HostPaths) -> Iterator[Finding]:
    """Check that the copies equal the units that are installed now."""
    directory = unit_names.directory(host)
    for name in unit_names.names(host):
        about = f"application {name}"
        for unit, content in _copies(name).items():
            path = f"{directory}/{unit}"
            line = _first_difference(path, content)
            if line is not None:
                text = f"{unit} differs from the unit that is installed now"
                advice = f"chimirror-ctl remove {name}, then add it again"
                yield Finding(WARNING, about, text, advice, path, line or None)
        names = unit_names.units(name)
        yield _socket_state(about, names.socket)
        for found in transient_unit.probe(names.sample):
            yield found._replace(about=about)


def _socket_state(about: str, socket: str) -> Finding:
    (found,) = systemd.properties([socket], ["ActiveState", "UnitFileState"])
    if found.get("ActiveState") != "active":
        text = f"{socket} is not started: it accepts nothing"
        return Finding(BAD, about, text, f"systemctl enable --now {socket}")
    if found.get("UnitFileState") != "enabled":
        text = f"{socket} accepts connections, until the machine restarts"
        return Finding(WARNING, about, text, f"systemctl enable {socket}")
    return Finding(GOOD, about, f"{socket} has its sessions")


def _first_difference(path: str, text: str) -> int | None:
    """Return the number of the first line of a file that differs from a text.

    0 if the file cannot be read, None if nothing differs.
    """
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = file.readlines()
    except OSError:
        return 0
    pairs = zip_longest(lines, text.splitlines(keepends=True))
    differing = (number for number, (a, b) in enumerate(pairs, 1) if a != b)
    return next(differing, None)
