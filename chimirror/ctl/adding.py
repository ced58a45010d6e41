"""The verbs that bring an application, and take it away: add, remove.

An application is a file in a directory that is served by name, chimirror-apps(5), or
has units of its own (`ownunits`). Nothing is written that could not be served.
"""

from __future__ import annotations

import os
import re
from json import JSONDecodeError, loads

from chimirror import appfile
from chimirror.ctl import applications, ownunits, tomltext
from chimirror.ctl.failure import Failure, say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from chimirror.ctl.host import Host
    from chimirror.ctl.table import Output
    from chimirror.ctl.usage import Given

    Path = tuple[str, ...]

NAME = "letters, digits, -, _ and ., beginning with a letter or digit"
MESSAGES = re.compile(r"interface\.(send|receive)\.(schema|examples)")


def add(given: Given, host: Host, output: Output) -> int:
    """Write a file, or units."""
    name, *command = given.ids
    settings = _settings(given.settings)
    text = _text(_checked(name), command, settings)
    if "--own-socket" in given:
        address = given.options["--own-socket"]
        told = ownunits.write(host, name, address, command, settings)
    else:
        directory = given.options.get("--apps", applications.default(host))
        told = [_write(directory, name, text)]
        _advise(host, directory)
    for line in told:
        output.write(f"{line}\n")
    return os.EX_OK


def remove(given: Given, host: Host, output: Output) -> int:
    """Take away what `add` has written."""
    (name,) = given.ids
    directory = given.options.get("--apps", applications.default(host))
    told = ownunits.remove(host, _checked(name))
    path = f"{directory}/{name}{appfile.SUFFIX}"
    try:
        os.unlink(path)
        told.append(f"{path}: removed; its sessions go on to their ends")
    except FileNotFoundError:
        if not told:
            text = f"there is no application {name} in {directory}, nor as a unit"
            raise Failure(os.EX_NOINPUT, text) from None
    try:
        os.unlink(f"{directory}/{appfile.COMPILED}/{name}")
    except FileNotFoundError:
        pass
    for line in told:
        output.write(f"{line}\n")
    return os.EX_OK


def _checked(name: str) -> str:
    if not appfile.is_name(name):
        raise Failure(os.EX_USAGE, f'"{name}" is no name; write up to 64 {NAME}')
    return name


def _settings(given: Sequence[str]) -> dict[Path, object]:
    """The keys of --set, and their values as TOML has them.

    Raises:
        Failure: one is none.
    """
    from chimirror.apptoml import LISTS

    found: dict[Path, object] = {}
    for setting in given:
        key, equals, text = setting.partition("=")
        if not key or not equals:
            raise _wrong(setting, "is not KEY=VALUE; write framing=lines")
        if key in ("command", "arguments"):
            raise _wrong(setting, "stands behind --: -- COMMAND [ARG...]")
        path, value = _path(key), _value(key, text)
        before = found.get(path)
        if before is not None and key not in LISTS:
            raise _wrong(setting, "is given twice; give each key once")
        if isinstance(before, list):
            before.append(value)
        else:
            found[path] = value if before is None else [before, value]
    return found


def _path(key: str) -> Path:
    from chimirror.apptoml import TABLES

    table, dot, name = key.partition(".")
    if table in TABLES and dot:
        return table, name
    return tuple(key.split("."))


def _value(key: str, text: str) -> object:
    from chimirror.apptoml import OPTIONS

    if key in OPTIONS and not OPTIONS[key].metavar and text in ("true", "false"):
        return text == "true"
    if not MESSAGES.fullmatch(key):
        return text
    try:
        return loads(text)
    except JSONDecodeError as error:
        raise _wrong(key, f"is not JSON: {error}") from None


def _wrong(setting: str, text: str) -> Failure:
    return Failure(os.EX_USAGE, f'--set: "{setting}" {text}')


def _text(name: str, command: Sequence[str], settings: dict[Path, object]) -> str:
    """The file; one line for the command, and one for each key."""
    from chimirror import apptoml, options
    from chimirror.directory import merge

    try:
        pairs = {("command",): list(command), **settings}
        text = tomltext.document(pairs)
        fields = apptoml.parse(text.encode())
        fields.pop("interface", None)
        merge(options.server(["--apps", "."]), fields)
    except apptoml.Unusable as error:
        key = ".".join(list(pairs)[max(error.line, 1) - 1])
        raise Failure(os.EX_USAGE, f"{key}: {error}") from None
    except ValueError as error:
        raise Failure(os.EX_USAGE, f"{name}: {error}") from None
    return text


def _write(directory: str, name: str, text: str) -> str:
    """Make the file, all of it at once, and its compiled form; what is to be told."""
    path = f"{directory}/{name}{appfile.SUFFIX}"
    new = f"{directory}/.{name}.new"
    os.makedirs(directory, 0o755, exist_ok=True)
    with open(new, "w", encoding="utf-8") as file:
        file.write(text)
        os.fchmod(file.fileno(), 0o644)
    try:
        os.link(new, path)
    except FileExistsError:
        text = f"{path} is there already; edit it, or chimirror-ctl remove {name}"
        raise Failure(os.EX_CANTCREAT, text) from None
    finally:
        os.unlink(new)
    source = appfile.read(directory, name)
    assert source is not None
    appfile.compile_(directory, source)
    return f"{path}: written"


def _advise(host: Host, directory: str) -> None:
    """Say what is to be done for it to be served."""
    try:
        used = applications.configured(host).apps
    except ValueError:
        used = None
    if host.booted and used != directory:
        conf = applications.configuration(host)
        line = f"CHIMIRROR_COMMAND=--apps {directory}"
        say(f"no unit serves {directory} yet; write into {conf}: {line}")
