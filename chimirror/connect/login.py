"""Secrets of chimirror-connect in files: --token-file and --netrc-file.

A command line is visible to all users (ps), a file is not. Messages name the file and
no part of its contents.
"""

from __future__ import annotations

import os
import stat
from base64 import b64encode
from typing import NamedTuple

from chimirror.client import credentials
from chimirror.connect.errors import ConnectError, print_error
from chimirror.text import escape_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from chimirror.client.url import Target

MAX_TOKEN = 16 * 1024  # bytes of the file


class Login(NamedTuple):
    """What the request for one URL carries, for `ConnectionParams`."""

    headers: list[tuple[str, str]]
    token: TokenFile | None


def logins(
    given: Mapping[str, Any], fields: list[tuple[str, str]], targets: Sequence[Target]
) -> list[Login]:
    """Return the header fields and the token for each URL.

    Args:
        given: The options.
        fields: The fields of --header.
        targets: The URLs.

    Raises:
        ValueError: There are two ways to log in.
        ConnectError: A file cannot be used.
    """
    token_file, netrc_file = given["--token-file"], given["--netrc-file"]
    files = [name for name in ("--token-file", "--netrc-file") if given[name]]
    ways = list(files)
    if any(name.lower() == "authorization" for name, _ in fields):
        ways.append("--header Authorization")
    if len(ways) > 1 and files:
        raise ValueError(f"{ways[0]} and {ways[1]}: write one of them")
    for name in files:
        _warn_if_public(name, given[name])
    token = None if token_file is None else TokenFile(token_file)
    more = [[] for _ in targets] if netrc_file is None else _netrc(netrc_file, targets)
    return [Login([*fields, *each], token) for each in more]


class TokenFile:
    """A function that returns the token of a file.

    A regular file is read at each call, because tokens expire. Anything else, such as a
    pipe, can be read once.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._kept: str | None = None

    def __call__(self) -> str:
        """Return the token.

        Raises:
            ConnectError: The file has none.
        """
        if self._kept is not None:
            return self._kept
        data, mode = self._read()
        try:
            token = data.decode("ascii").strip()
            credentials.authorization(token)
        except ValueError:
            raise _unusable(
                "--token-file", self._path, "holds no token; write it alone, in a line"
            ) from None
        if not stat.S_ISREG(mode):
            self._kept = token
        return token

    def _read(self) -> tuple[bytes, int]:
        try:
            with open(self._path, "rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                return file.read(MAX_TOKEN), mode
        except OSError as error:
            raise _unreadable("--token-file", self._path, error) from None


def _netrc(path: str, targets: Sequence[Target]) -> list[list[tuple[str, str]]]:
    """Return the Authorization field for each URL, as a list of at most one.

    A URL with a user needs none. The file is read as curl(1) reads it.
    """
    import netrc

    try:
        read = netrc.netrc(path)
    except OSError as error:
        raise _unreadable("--netrc-file", path, error) from None
    except netrc.NetrcParseError as error:
        text = f"is malformed in line {error.lineno}; write machine HOST login USER"
        raise _unusable("--netrc-file", path, f"{text} password WORD") from None
    except ValueError:
        raise _unusable("--netrc-file", path, "is not UTF-8") from None
    found = [_basic(read, target) for target in targets]
    if not any(found) and all(target.uri.username is None for target in targets):
        host = escape_line(targets[0].server_name, 256)
        raise _unusable("--netrc-file", path, f"has no machine {host}, and no default")
    return found


def _basic(read: Any, target: Target) -> list[tuple[str, str]]:
    entry = read.authenticators(target.server_name)
    if entry is None or target.uri.username is not None:
        return []
    user, _, password = entry
    text = f"{user}:{password}".encode()
    return [("Authorization", f"Basic {b64encode(text).decode()}")]


def _warn_if_public(option: str, path: str) -> None:
    """Warn if the file has no secret for the users of this machine."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return  # reading it fails too
    if stat.S_ISREG(mode) and mode & stat.S_IROTH:
        shown = escape_line(path, 256)
        print_error(f"{option}: all users may read {shown}; forbid it with chmod o-r")


def _unreadable(option: str, path: str, error: OSError) -> ConnectError:
    cure = "check the name"
    if isinstance(error, PermissionError):
        cure = "this user needs permission to read it"
    reason = (error.strerror or "unknown error").lower()
    return _unusable(option, path, f"cannot be read: {reason}; {cure}")


def _unusable(option: str, path: str, problem: str) -> ConnectError:
    return ConnectError(f"{option}: {escape_line(path, 256)} {problem}")
