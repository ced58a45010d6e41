"""Verbs that add and remove an application: add, remove.

An application is a file in a directory that is served by name (chimirror-apps(5)), or
has units of its own (`unit_files`). A file that could not be served is not written.
"""

from __future__ import annotations

import os
import re
from json import loads

from chimirror.apps import application_file, program_check
from chimirror.ctl import app_files, toml_writer, transient_unit, unit_files
from chimirror.ctl.commands import check
from chimirror.ctl.messages import CommandError, warn
from chimirror.host.safe_directory import SafeDirectory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from chimirror.apps import Application
    from chimirror.ctl.output import OutputWriter
    from chimirror.ctl.paths import HostPaths
    from chimirror.ctl.usage import CommandLine

    Path = tuple[str, ...]

NAME = "letters, digits, -, _ and ., beginning with a letter or digit"
MESSAGES = re.compile(r"interface\.(send|receive)\.(schema|examples)")


def add(given: CommandLine, host: HostPaths, output: OutputWriter) -> int:
    """Write the file or the units of an application."""
    name, *command = given.ids
    settings = _settings(given.settings)
    text, app = _text(_checked(name), command, settings)
    if "--own-socket" in given:
        address = given.options["--own-socket"]
        messages = unit_files.write(host, name, address, command, settings)
    else:
        directory = given.options.get("--apps", app_files.default_directory(host))
        _refuse_faults(host, directory, app)
        messages = [_write(directory, name, text)]
        _advise(host, directory)
    for line in messages:
        output.write(f"{line}\n")
    return os.EX_OK


def remove(given: CommandLine, host: HostPaths, output: OutputWriter) -> int:
    """Remove the files that `add` has written."""
    (name,) = given.ids
    directory = given.options.get("--apps", app_files.default_directory(host))
    messages = unit_files.remove(host, _checked(name))
    file = f"{name}{application_file.SUFFIX}"
    if _remove_file(directory, file):
        text = "removed; its sessions continue to their ends"
        messages.append(f"{directory}/{file}: {text}")
    elif not messages:
        text = f"no application {name} in {directory} or with units of its own"
        raise CommandError(os.EX_NOINPUT, text)
    for line in messages:
        output.write(f"{line}\n")
    return os.EX_OK


def _remove_file(directory: str, name: str) -> bool:
    try:
        with SafeDirectory(directory) as opened:
            return opened.remove(name)
    except FileNotFoundError:
        return False


def _checked(name: str) -> str:
    if not application_file.is_name(name):
        raise CommandError(
            os.EX_USAGE, f'"{name}" is not a name; write up to 64 {NAME}'
        )
    return name


def _settings(given: Sequence[str]) -> dict[Path, object]:
    """Return the keys of --set with their values for TOML.

    Raises:
        CommandError: A setting is malformed or repeated.
    """
    from chimirror.apps.file_fields import LISTS

    found: dict[Path, object] = {}
    for setting in given:
        key, equals, text = setting.partition("=")
        if not key or not equals:
            raise _wrong(setting, "is not KEY=VALUE; write framing=lines")
        if key in ("command", "arguments"):
            raise _wrong(setting, "belongs after --: -- COMMAND [ARG...]")
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
    from chimirror.apps.file_fields import TABLES

    table, dot, name = key.partition(".")
    if table in TABLES and dot:
        return table, name
    return tuple(key.split("."))


def _value(key: str, text: str) -> object:
    from chimirror.apps.file_fields import OPTIONS

    if key in OPTIONS and not OPTIONS[key].metavar and text in ("true", "false"):
        return text == "true"
    if not MESSAGES.fullmatch(key):
        return text
    try:
        return loads(text)
    except (ValueError, RecursionError) as error:  # or too long, or too deep
        raise _wrong(key, f"is not JSON: {error}") from None


def _wrong(setting: str, text: str) -> CommandError:
    return CommandError(os.EX_USAGE, f'--set: "{setting}" {text}')


def _text(
    name: str, command: Sequence[str], settings: dict[Path, object]
) -> tuple[str, Application]:
    """Return the text of the file, one line for each key, after checking it.

    Returns:
        The text, and the application that a server makes from it.

    Raises:
        CommandError: A server would refuse the file.
    """
    from chimirror.apps import Application, file_fields
    from chimirror.apps.directory import merge
    from chimirror.config import parser

    try:
        pairs = {("command",): list(command), **settings}
        text = toml_writer.document(pairs)
        fields = file_fields.parse(text.encode())
        fields.pop("interface", None)
        config = merge(parser.parse_server(["--apps", "."]), fields)
    except file_fields.ApplicationSyntaxError as error:
        key = ".".join(list(pairs)[max(error.line, 1) - 1])
        raise CommandError(os.EX_USAGE, f"{key}: {error}") from None
    except (ValueError, RecursionError) as error:
        raise CommandError(os.EX_USAGE, f"{name}: {error}") from None
    return text, Application(name, config, {})


def _refuse_faults(host: HostPaths, directory: str, app: Application) -> None:
    """Refuse a file that `check` would call bad.

    Raises:
        CommandError: The program cannot be started, here or in a unit that serves the
            directory.
    """
    where = os.path.join(directory, app.program.directory or "/")
    app.program.directory = where
    fault = program_check.find_fault(app, _search_path(host))
    if fault is not None:
        raise CommandError(os.EX_USAGE, f"{app.name}: {fault}")
    if _is_served(host, directory):
        words = ("--directory", where, "--", *app.program.argv)
        for service in check.services_in_use(check.unit_properties()):
            transient_unit.refuse_bad(app.name, transient_unit.probe(service, words))


def _write(directory: str, name: str, text: str) -> str:
    """Write the file, complete at once. Returns a line to print.

    Raises:
        CommandError: The file exists.
    """
    file = f"{name}{application_file.SUFFIX}"
    try:
        with SafeDirectory(directory, create=True) as opened:
            opened.add(file, text.encode())
    except FileExistsError:
        text = (
            f"{directory}/{file} exists; edit it, or write chimirror-ctl remove {name}"
        )
        raise CommandError(os.EX_CANTCREAT, text) from None
    return f"{directory}/{file}: written"


def _search_path(host: HostPaths) -> str | None:
    return app_files.PATH if host.booted else os.environ.get("PATH")


def _is_served(host: HostPaths, directory: str) -> bool:
    try:
        return host.booted and app_files.read_configuration(host).apps == directory
    except ValueError:
        return False


def _advise(host: HostPaths, directory: str) -> None:
    """Warn if no unit serves the directory yet."""
    if host.booted and not _is_served(host, directory):
        conf = app_files.configuration_path(host)
        line = f"CHIMIRROR_COMMAND=--apps {directory}"
        warn(f"no unit serves {directory} yet; write into {conf}: {line}")
