"""Servers that ask who their clients are, with two applications, `who` and `other`.

They ask chimirror-authorize, or tests/support/console_authorizer.py.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from authorize_program import ARGV, run, set_password
from serve import Service, server

PASSWORD = "s:écret"  # of the user ann
UNKNOWN = "this service has to know who you are"
WHO = """
command = ["sh", "-c", "echo $REMOTE_USER by $AUTH_TYPE; cat"]
framing = ["stdio"]
"""


def applications(directory: Path) -> str:
    path = directory / "apps"
    path.mkdir()
    for name in ("other", "who"):
        (path / f"{name}.toml").write_text(WHO)
    return str(path)


@contextmanager
def authorized(
    directory: Path, argv: Sequence[object], *options: str
) -> Iterator[Service]:
    """A server with a console that asks this program."""
    command = "exec:" + shlex.join(map(str, argv))
    options = ("--apps", applications(directory), "--authorize", command, *options)
    with server(directory, [], "--console", *options) as service:
        yield service


def asking(directory: Path, **told: object) -> AbstractContextManager[Service]:
    """A server that asks tests/support/console_authorizer.py."""
    program = Path(__file__).with_name("console_authorizer.py")
    path = directory / "answers.json"
    path.write_text(json.dumps(told))
    return authorized(directory, [sys.executable, program, path])


@contextmanager
def tokens(directory: Path, *options: str) -> Iterator[tuple[Service, Path]]:
    """A server with chimirror-authorize and an empty file of tokens."""
    file = directory / "tokens"
    file.touch(0o600)
    with authorized(directory, [*ARGV, "tokens", file], *options) as service:
        yield service, file


def new_token(file: Path, user: str, *options: str) -> str:
    return run(*options, "token", file, user).stdout.strip()


@contextmanager
def passwords(directory: Path, *options: str) -> Iterator[Service]:
    """A server with chimirror-authorize that knows the user ann."""
    file = directory / "users"
    set_password(file, "ann", PASSWORD)
    with authorized(directory, [*ARGV, "htpasswd", file], *options) as service:
        yield service
