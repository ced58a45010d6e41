"""Reviews application files for an operator: chimirror-apps(5).

The files are read as the bridge and the server read them. Nothing is written.
"""

from __future__ import annotations

import os
import re
import stat
from typing import NamedTuple

from chimirror.apps import application_file, program_check
from chimirror.config import env_file, parser
from chimirror.ctl.messages import BAD, GOOD, WARNING, Finding
from chimirror.text import nearest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from chimirror.apps import Application
    from chimirror.apps.directory import ApplicationDirectory
    from chimirror.config import Config
    from chimirror.ctl.paths import HostPaths

# Of chimirror.conf: the units use them.
VARIABLES = (
    *("CHIMIRROR_COMMAND", "CHIMIRROR_OPTIONS", "CHIMIRROR_ZYGOTE"),
    "CHIMIRROR_AUTHORIZE",
    *("CHIMIRROR_MAX_SESSIONS", "CHIMIRROR_MAX_SESSIONS_PER_SOURCE"),
    *("CHIMIRROR_MAX_SESSIONS_PER_USER", "CHIMIRROR_SESSION_TIMEOUT"),
)
# PATH of services that set none: systemd.exec(5).
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class ServedConfiguration(NamedTuple):
    """The application that chimirror.conf configures for the units.

    Attributes:
        command: The value of CHIMIRROR_COMMAND.
        options: The words of CHIMIRROR_OPTIONS.
        unknown: Variables with our prefix that no unit uses.
    """

    command: str
    options: list[str]
    unknown: list[str]

    @property
    def apps(self) -> str | None:
        """The directory that --apps names, or None."""
        words = [*self.options, *self.command.split()]
        for index, word in enumerate(words):
            if word == "--apps":
                return "".join(words[index + 1 : index + 2])
            if word.startswith("--apps="):
                return word.removeprefix("--apps=")
        return None


def line_of(path: str, pattern: str) -> int | None:
    """Return the number of the last line of a file that begins with a pattern.

    None if there is no such line, or if the file cannot be read.
    """
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = file.readlines()
    except OSError:
        return None
    found = [number for number, line in enumerate(lines, 1) if re.match(pattern, line)]
    return found[-1] if found else None


def variable_line(path: str, name: str) -> int | None:
    """Return the number of the line that sets a variable: systemd.exec(5)."""
    return line_of(path, rf"\s*{re.escape(name)}\s*=")


def split_place(text: str) -> tuple[str, int | None]:
    """Split `FILE:LINE: text` or `FILE: text` into the text and the line."""
    found = re.match(r"[^:/]+\.toml(?::(\d+))?: ", text)
    if found is None:
        return text, None
    return text[found.end() :], int(found[1]) if found[1] else None


def configuration_path(host: HostPaths) -> str:
    """Return the path of the file that the units read."""
    return f"{host.etc}/chimirror/chimirror.conf"


def read_configuration(host: HostPaths) -> ServedConfiguration:
    """Read chimirror.conf.

    Raises:
        ValueError: The file cannot be read.
    """
    given = env_file.read(configuration_path(host))
    words = given.get("CHIMIRROR_OPTIONS", "").split()
    ours = [name for name in given if name.upper().startswith("CHIMIRROR_")]
    unknown = [name for name in ours if name not in VARIABLES]
    return ServedConfiguration(given.get("CHIMIRROR_COMMAND", ""), words, unknown)


def nearest_variable(name: str) -> str:
    """Return the advice for a variable that no unit uses."""
    return f"write {nearest(name, VARIABLES) or ', '.join(VARIABLES)}"


def default_directory(host: HostPaths) -> str:
    """Return the directory that is used without --apps."""
    return f"{host.etc}/chimirror/apps"


def open_directory(path: str) -> ApplicationDirectory:
    """Open a directory of applications as a server without further options does."""
    # Imported here, since most verbs do not need these modules.
    from chimirror.apps.directory import ApplicationDirectory

    return ApplicationDirectory(path, parser.parse_server(["--apps", path]), {})


def review(path: str) -> Iterator[Finding]:
    """Review a directory and every file in it."""
    try:
        files = sorted(os.listdir(path))
        mode = os.stat(path).st_mode
    except OSError as error:
        advice = f"mkdir {path}, or write another with --apps"
        yield Finding(BAD, "applications", f"{error.strerror}", advice, path)
        return
    if mode & stat.S_IWOTH:
        text = "every user may write it, and so choose the programs that run here"
        yield Finding(BAD, "applications", text, f"chmod o-w {path}", path)
    names = application_file.names(path)
    if not names:
        advice = "chimirror-ctl add NAME -- COMMAND makes one"
        text = "there are no applications"
        yield Finding(WARNING, "applications", text, advice, path)
    for file in files:
        name = file.removesuffix(application_file.SUFFIX)
        if file.endswith(application_file.SUFFIX) and name not in names:
            advice = (
                "write up to 64 letters, digits, -, _ and ., first a letter or digit"
            )
            text = "this is not a name"
            yield Finding(BAD, "applications", text, advice, f"{path}/{file}")
    directory = open_directory(path)
    for name in names:
        yield from _application(path, name, directory.get(name))


def _application(path: str, name: str, app: Application) -> Iterator[Finding]:
    about = f"application {name}"
    file = f"{path}/{name}{application_file.SUFFIX}"
    if app.unavailable is not None:
        detail = app.unavailable.get("detail", "the file has been removed")
        text, line = split_place(detail)
        yield Finding(BAD, about, text, f"edit {file}", file, line)
        return
    found = os.stat(file)
    if found.st_mode & stat.S_IWOTH:
        text = "every user may write it, and so choose the program that runs here"
        yield Finding(BAD, about, text, f"chmod o-w {file}", file)
    if found.st_uid == 0 and not found.st_mode & stat.S_IROTH:
        text = "not every user can read it, so services of other users cannot"
        advice = f"chmod o+r {file}; move secrets into an env-file"
        yield Finding(WARNING, about, text, advice, file)
    fault = program_check.find_fault(app, PATH)
    if fault is not None:
        line = fault_line(file, app, fault.reason)
        yield Finding(BAD, about, fault.reason, fault.cure, file, line)
    text = (app.interface.title or app.command) + audience(app.config)
    yield Finding(GOOD, about, text, "", file)


def audience(config: Config) -> str:
    """Return who may use an application, as the end of a sentence. Empty: everyone."""
    kinds = [
        f"the {kind}{'s' * (len(names) > 1)} {', '.join(names)}"
        for kind, names in (("user", config.users), ("group", config.groups))
        if names
    ]
    return f"; only for {' and '.join(kinds)}" if kinds else ""


def fault_line(file: str, app: Application, reason: str) -> int | None:
    """Return the line of an application file that causes a fault of its program."""
    key = "command"
    if app.program.directory and reason.startswith(f"{app.program.directory}: "):
        key = "directory"
    return line_of(file, rf"\s*{key}\s*=")
