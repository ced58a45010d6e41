"""Reviews application files for an operator: chimirror-apps(5).

The files are read as the bridge and the server read them. Nothing is written.
"""

from __future__ import annotations

import os
import stat
from difflib import get_close_matches
from typing import NamedTuple

from chimirror.apps import application_file, program_check
from chimirror.config import env_file, parser
from chimirror.ctl.messages import BAD, GOOD, WARNING, Finding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from chimirror.apps import Application
    from chimirror.apps.directory import ApplicationDirectory
    from chimirror.ctl.paths import HostPaths

# Of chimirror.conf: the units use them.
VARIABLES = (
    *("CHIMIRROR_COMMAND", "CHIMIRROR_OPTIONS", "CHIMIRROR_ZYGOTE"),
    *("CHIMIRROR_MAX_SESSIONS", "CHIMIRROR_MAX_SESSIONS_PER_SOURCE"),
    "CHIMIRROR_SESSION_TIMEOUT",
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
    close = get_close_matches(name.upper(), VARIABLES, n=1)
    return f"write {close[0] if close else ', '.join(VARIABLES)}"


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
        yield Finding(BAD, "applications", f"{path}: {error.strerror}", advice)
        return
    if mode & stat.S_IWOTH:
        text = (
            f"{path}: every user may write it, and so choose the programs that run here"
        )
        yield Finding(BAD, "applications", text, f"chmod o-w {path}")
    names = application_file.names(path)
    if not names:
        advice = "chimirror-ctl add NAME -- COMMAND makes one"
        yield Finding(
            WARNING, "applications", f"{path}: there are no applications", advice
        )
    for file in files:
        name = file.removesuffix(application_file.SUFFIX)
        if file.endswith(application_file.SUFFIX) and name not in names:
            advice = (
                "write up to 64 letters, digits, -, _ and ., first a letter or digit"
            )
            yield Finding(
                BAD, "applications", f"{path}/{file}: this is not a name", advice
            )
    directory = open_directory(path)
    for name in names:
        yield from _application(path, name, directory.get(name))


def _application(path: str, name: str, app: Application) -> Iterator[Finding]:
    about = f"application {name}"
    if app.unavailable is not None:
        text = f"{path}/{app.unavailable.get('detail', 'the file has been removed')}"
        yield Finding(BAD, about, text, f"edit {path}/{name}{application_file.SUFFIX}")
        return
    found = os.stat(f"{path}/{name}{application_file.SUFFIX}")
    if found.st_mode & stat.S_IWOTH:
        text = "every user may write its file, and so choose the program that runs here"
        yield Finding(
            BAD, about, text, f"chmod o-w {path}/{name}{application_file.SUFFIX}"
        )
    if found.st_uid == 0 and not found.st_mode & stat.S_IROTH:
        text = "not every user can read its file, so services of other users cannot"
        file = f"{path}/{name}{application_file.SUFFIX}"
        advice = f"chmod o+r {file}; move secrets into an env-file"
        yield Finding(WARNING, about, text, advice)
    fault = program_check.find_fault(app, PATH)
    if fault is not None:
        yield Finding(BAD, about, fault.reason, fault.cure)
    yield Finding(GOOD, about, app.interface.title or app.command)
