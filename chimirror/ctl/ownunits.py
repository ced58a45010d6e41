"""An application with units of its own: a socket, a template and a slice.

They are copies of the shipped ones, and what is different stands in drop-ins beside
them; systemd.unit(5). All of it is taken away again, with the limits that were set by
`chimirror-ctl limit`, and nothing else: what an operator has edited stays.
"""

from __future__ import annotations

import os
import re

from chimirror.ctl import limit, owned, systemd
from chimirror.ctl.dropins import DropIn
from chimirror.ctl.failure import Failure
from chimirror.ctl.finding import DOUBTFUL, GOOD, Finding
from chimirror.ctl.host import SLICE
from chimirror.wire import address

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from chimirror.ctl.host import Host

DROP_IN = "10-own"
# A dash parts the names of slices that lie in one another: none at the end, or twice.
SLICED = re.compile(r"[A-Za-z0-9_.]+(-[A-Za-z0-9_.]+)*")
# What they are copied from, in the order of owned.Units.
MODELS = (systemd.SOCKET, systemd.SAMPLE, SLICE)


def write(
    host: Host,
    name: str,
    where: str,
    command: Sequence[str],
    settings: Mapping[tuple[str, ...], object],
) -> list[str]:
    """Make the units of an application; what there is to tell.

    Raises:
        Failure: they cannot be.
    """
    listen = _listen(where)
    variables = _variables(command, settings)
    if not SLICED.fullmatch(name):
        text = f'"{name}" cannot name a slice; write no - at its end, nor two together'
        raise Failure(os.EX_USAGE, text)
    systemd.need(host)
    limit.installed(systemd.SOCKET, systemd.SAMPLE)
    socket, template, slice_ = owned.units(name)
    (found,) = systemd.properties([socket], ["LoadState"])
    if found["LoadState"] != "not-found":
        text = f"there is {socket} already; chimirror-ctl remove {name} takes it away"
        raise Failure(os.EX_CANTCREAT, text)
    place = owned.place(host)
    env = f"{place}/{template}.d/{DROP_IN}.env"
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
        _put(f"{place}/{unit}", text)
    systemd.systemctl("daemon-reload")
    told = [f"{place}/{unit}: written" for unit in (socket, template, slice_)]
    return [*told, f"now: systemctl enable --now {socket}"]


def _put(path: str, text: str) -> None:
    os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
        os.fchmod(file.fileno(), 0o644)


def _listen(where: str) -> str:
    """An address as systemd.socket(5) takes it."""
    if where.startswith("unix:/") and "\n" not in where:
        return where.removeprefix("unix:").replace("%", "%%")
    found = address.authority(where)
    if found is None or not found[1] or not address.is_literal(found[0]):
        hint = "write 127.0.0.1:4000, [::1]:4000 or unix:/run/game/socket"
        raise Failure(os.EX_USAGE, f'--own-socket: "{where}" is no address; {hint}')
    return where


def _copies(name: str) -> dict[str, str]:
    pairs = zip(owned.units(name), MODELS, strict=True)
    return {unit: owned.MARK + _model(of) for unit, of in pairs}


def _model(unit: str) -> str:
    """The text of a unit that is installed; without what was set beside it."""
    (found,) = systemd.properties([unit], ["FragmentPath"])
    with open(found["FragmentPath"], encoding="utf-8") as file:
        return file.read()


def _variables(
    command: Sequence[str], settings: Mapping[tuple[str, ...], object]
) -> str:
    """What the template is told: the lines of an EnvironmentFile=; systemd.exec(5)."""
    words: list[str] = []
    found: dict[str, str] = {}
    for path, value in settings.items():
        key, *rest = path
        if key == "interface":
            text = "units have no place for an interface; leave it or --own-socket out"
            raise Failure(os.EX_USAGE, f"--set: {'.'.join(path)}: {text}")
        for each in value if isinstance(value, list) else [value]:
            if f"--{key}" in limit.OPTIONS:
                found[limit.OPTIONS[f"--{key}"]] = str(each)
            elif isinstance(each, bool):
                words += [f"--{key}"] * each
            else:
                words += [f"--{key}", "=".join([*rest, str(each)])]
    _refuse_lines([*words, *command])
    if command[0].startswith("-"):
        raise Failure(os.EX_USAGE, f'"{command[0]}" is no program; write its path')
    from chimirror import options

    options.bridge([*words, "--", *command])  # which they were checked to be already
    found["CHIMIRROR_OPTIONS"] = " ".join(map(_word, words))
    found["CHIMIRROR_COMMAND"] = " ".join(map(_word, command))
    return "".join(f"{name}={_quoted(value)}\n" for name, value in found.items())


def _refuse_lines(words: list[str]) -> None:
    for word in words:
        if not word.isprintable():
            text = f"{word!r}: units have no place for that; write a script that has"
            raise Failure(os.EX_USAGE, text)


def _word(text: str) -> str:
    """One word where systemd splits a value at spaces; systemd.service(5)."""
    if re.fullmatch(r"[A-Za-z0-9_./:=,@%+-]+", text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _quoted(text: str) -> str:
    """A value in double quotes, as EnvironmentFile= reads it."""
    return '"' + re.sub(r'(["\\`$])', r"\\\1", text) + '"'


def remove(host: Host, name: str) -> list[str]:
    """Take the units of an application away; what there is to tell, if there are any.

    Their sessions end, as 1001 drain, and limits that were set for them go.
    """
    place, units = owned.place(host), owned.units(name)
    if name not in owned.names(host):
        return []
    if host.booted:
        systemd.attempt("systemctl", "disable", "--now", units.socket)
        systemd.attempt("systemctl", "stop", units.slice)
    told = []
    for unit in units:
        for runtime in (True, False):
            DropIn(host, unit, "", runtime=runtime).remove()
        for path in (f"{unit}.d/{DROP_IN}.conf", f"{unit}.d/{DROP_IN}.env", unit):
            _unlink(f"{place}/{path}")
        try:
            os.rmdir(f"{place}/{unit}.d")
        except FileNotFoundError:
            pass
        except OSError:
            told.append(f"{place}/{unit}.d: left, as there is more in it")
    if host.booted:
        systemd.systemctl("daemon-reload")
    return [f"{', '.join(units)}: removed", *told]


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def review(host: Host) -> Iterator[Finding]:
    """Whether the copies are of what is installed now."""
    place = owned.place(host)
    for name in owned.names(host):
        about = f"application {name}"
        stale = [
            unit
            for unit, text in _copies(name).items()
            if _differs(f"{place}/{unit}", text)
        ]
        for unit in stale:
            text = f"{unit} is not what comes with chimirror now"
            advice = f"chimirror-ctl remove {name}, and add it again"
            yield Finding(DOUBTFUL, about, text, advice)
        if not stale:
            yield Finding(GOOD, about, f"chimirror-{name}.socket has its sessions")


def _differs(path: str, text: str) -> bool:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read() != text
    except OSError:
        return True
