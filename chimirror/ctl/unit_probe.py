"""Reads a command line as a service does, within the sandbox of its unit.

`transient_unit` runs this program with the settings of the unit, as its user. It prints
one JSON object for each application. Nothing is started, and no socket is opened.
"""

from __future__ import annotations

import json
import os
import sys
import time

from chimirror import apps
from chimirror import program as programs
from chimirror.apps import application_file, program_check
from chimirror.config import parser
from chimirror.ctl import app_files, authorizer_check, certificate_check
from chimirror.process.effective_user import EffectiveUser

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from chimirror.apps import Application
    from chimirror.config import Config

PARSERS = {
    "chimirror-bridge": parser.parse_bridge,
    "chimirror-server": parser.parse_server,
    "chimirror-zygote": parser.parse_zygote,
}


def main() -> None:
    """Print what a service finds.

    Arguments: the name of its program, and its command line.
    """
    program, *words = sys.argv[1:]
    for found in probe(program, words):
        print(json.dumps(found))  # noqa: T201


def probe(program: str, words: Sequence[str]) -> Iterator[dict[str, object]]:
    """Probe each certificate, the authorizer and each application.

    Yields:
        Of certificates and the authorizer: as the `review` of their modules.
        Of applications: `name`, empty for the application of a COMMAND. `text` is its
        command, or with `cure` the reason why it cannot be served. `absent`: its
        absolute paths that do not exist here, or that its user cannot read. `script`:
        its first argument if it is one of them. `file` and `line`: the place of a
        fault in an application file.
    """
    try:
        config = PARSERS[program](words)
        if config.apps is None and config.directory is not None:
            os.chdir(config.directory)
        if program != "chimirror-zygote":
            config = programs.with_credentials(program, config, os.environ)
        yield from certificate_check.review(config, time.time())
        yield from authorizer_check.review(program, config)
        for app in _catalog(program, config).all():
            yield _describe(app, config)
    except parser.UsageError as error:
        cure = f"{program}(1) lists the options"
        yield {"name": "", "text": error.text, "cure": cure, "absent": []}
    except OSError as error:
        path = error.filename or ""
        text = f"{path}: {error.strerror}"
        cure = "create it, or write another"
        yield {"name": "", "text": text, "cure": cure, "absent": [path]}


def _catalog(program: str, config: Config) -> apps.Catalog:
    if program == "chimirror-bridge":
        return programs.open_catalog(config, os.environ, apps.refuse_limits)
    return programs.open_catalog(config, os.environ)


def _describe(app: Application, config: Config) -> dict[str, object]:
    found: dict[str, object] = {"name": app.name, "text": app.command}
    found |= {"absent": [], "script": ""}
    path = f"{config.apps}/{app.name}{application_file.SUFFIX}"
    if config.apps is not None:
        found |= {"file": path, "line": None}
    if app.unavailable is not None:
        detail = app.unavailable.get("detail", "its file has been removed")
        text, line = app_files.split_place(detail)
        return found | {"text": text, "cure": "edit its file", "line": line}
    if config.user_range is not None:
        app.program.user_ids = (config.user_range[0],) * 2
    with EffectiveUser(app.program.user_ids):
        program, *words = app.program.argv
        absent = [word for word in words if word[:1] == "/" and not _can_read(word)]
        if program.startswith("/") and not os.path.exists(program):
            absent.insert(0, program)
    found["absent"] = absent
    found["script"] = words[0] if words and words[0] in absent else ""
    fault = program_check.find_fault(app, os.environ.get("PATH"))
    if fault is None:
        return found
    if config.apps is not None:
        found["line"] = app_files.fault_line(path, app, fault.reason)
    return found | {"text": fault.reason, "cure": fault.cure}


def _can_read(path: str) -> bool:
    return os.access(path, os.R_OK, effective_ids=True)


if __name__ == "__main__":
    main()
