"""Application files, as an operator wants to know of them: chimirror-apps(5).

Read as the bridge and the server would read them, and compiled where that is possible,
so that a bridge finds them so.
"""

from __future__ import annotations

import os
import shutil
import stat
from typing import NamedTuple

from chimirror import appfile, envfile, options
from chimirror.ctl.finding import BAD, DOUBTFUL, GOOD, Finding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from chimirror.apps import App
    from chimirror.ctl.host import Host
    from chimirror.directory import Directory

# What systemd gives to services that say nothing else; systemd.exec(5).
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Configured(NamedTuple):
    """What chimirror.conf has the units serve.

    Attributes:
        options: the words of CHIMIRROR_OPTIONS.
    """

    command: str
    options: list[str]

    @property
    def apps(self) -> str | None:
        """The directory of --apps."""
        words = [*self.options, *self.command.split()]
        for word, following in zip(words, [*words[1:], ""], strict=True):
            if word == "--apps":
                return following
            if word.startswith("--apps="):
                return word.removeprefix("--apps=")
        return None


def configuration(host: Host) -> str:
    """The file that the units read."""
    return f"{host.etc}/chimirror/chimirror.conf"


def configured(host: Host) -> Configured:
    """What it says.

    Raises:
        ValueError: it cannot be read.
    """
    given = envfile.read(configuration(host))
    words = given.get("CHIMIRROR_OPTIONS", "").split()
    return Configured(given.get("CHIMIRROR_COMMAND", ""), words)


def default(host: Host) -> str:
    """Where the files are if nobody says another place."""
    return f"{host.etc}/chimirror/apps"


def opened(path: str) -> Directory:
    """The applications of a directory, as a server without other options has them."""
    # Most verbs need nothing of this.
    from chimirror.directory import Directory

    return Directory(path, options.server(["--apps", path]), {})


def review(path: str) -> Iterator[Finding]:
    """Every file of a directory, and the directory."""
    try:
        files = sorted(os.listdir(path))
        mode = os.stat(path).st_mode
    except OSError as error:
        advice = f"mkdir {path}, or name another with --apps"
        yield Finding(BAD, "applications", f"{path}: {error.strerror}", advice)
        return
    if mode & stat.S_IWOTH:
        text = f"{path}: everybody may write it, and so decide what runs here"
        yield Finding(BAD, "applications", text, f"chmod o-w {path}")
    names = appfile.names(path)
    if not names:
        advice = "chimirror-ctl add NAME -- COMMAND makes one"
        yield Finding(DOUBTFUL, "applications", f"{path}: there are none", advice)
    for file in files:
        name = file.removesuffix(appfile.SUFFIX)
        if file.endswith(appfile.SUFFIX) and name not in names:
            advice = "begin with a letter or digit; up to 64 of those, -, _ and ."
            yield Finding(
                BAD, "applications", f"{path}/{file}: this is no name", advice
            )
    directory = opened(path)
    for name in names:
        yield from _application(path, name, directory.get(name))
    directory.settle()


def _application(path: str, name: str, app: App) -> Iterator[Finding]:
    about = f"application {name}"
    if app.missing is not None:
        text = f"{path}/{app.missing.get('detail', 'it has gone')}"
        yield Finding(BAD, about, text, f"edit {path}/{name}{appfile.SUFFIX}")
        return
    found = os.stat(f"{path}/{name}{appfile.SUFFIX}")
    if found.st_mode & stat.S_IWOTH:
        text = "everybody may write its file, and so decide what runs here"
        yield Finding(BAD, about, text, f"chmod o-w {path}/{name}{appfile.SUFFIX}")
    if found.st_uid == 0 and not found.st_mode & stat.S_IROTH:
        text = "only some can read its file, and services of others may not"
        advice = f"chmod o+r {path}/{name}{appfile.SUFFIX}, secrets go into env-file"
        yield Finding(DOUBTFUL, about, text, advice)
    yield from _program(about, app)
    yield Finding(GOOD, about, app.interface.title or app.command)


def _program(about: str, app: App) -> Iterator[Finding]:
    """Whether there is what would be started."""
    directory, argv = app.program.directory, app.program.argv
    if directory is not None and not os.path.isdir(directory):
        text = f"there is no directory {directory}"
        yield Finding(BAD, about, text, "make it, or name another")
        return
    program = argv[0]
    if "/" in program:
        program = os.path.join(directory or "/", program)
    if shutil.which(program, path=app.environment.get("PATH", PATH)) is None:
        text = f"there is no program {argv[0]} that can be run"
        yield Finding(BAD, about, text, "install it, or write its whole path")
