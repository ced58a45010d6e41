"""Finds the user of --user: the user that an application runs as.

Reads the databases of users and groups: passwd(5), group(5), and what nsswitch.conf(5)
adds. Loaded only for programs and application files that name a user.
"""

from __future__ import annotations

import pwd

from chimirror.builtin_modules import os

MAX_ID = (1 << 32) - 2  # setresuid(2) takes the next number for "do not change"


class UserAccount:
    """A user, and the environment that a login would give it.

    Attributes:
        ids: Numbers of the user and of its groups, the primary one first.
        variables: HOME, USER, LOGNAME and SHELL.
    """

    __slots__ = ("ids", "variables")

    def __init__(self, ids: tuple[int, ...], name: str, home: str, shell: str) -> None:
        self.ids = ids
        self.variables = {"HOME": home, "USER": name, "LOGNAME": name, "SHELL": shell}


def find(text: str) -> UserAccount:
    """Find a user by name or number.

    A number without an account stands for a user and a group of this number, and for no
    other group.

    Raises:
        ValueError: There is no such user, or this process may not become it.
    """
    account = _lookup(text)
    if os.geteuid() != 0:
        raise ValueError(
            f'"{text}": only root can start applications as another user; start '
            "chimirror as root, or leave it out"
        )
    return account


def _lookup(text: str) -> UserAccount:
    try:
        if text.isascii() and text.isdigit():
            found = pwd.getpwuid(_number(text))
        else:
            found = pwd.getpwnam(text)
    except KeyError:
        if text.isascii() and text.isdigit():
            number = int(text)
            return UserAccount((number, number), text, "/", "/bin/sh")
        raise ValueError(
            f'there is no user "{text}"; create it, or write another'
        ) from None
    groups = os.getgrouplist(found.pw_name, found.pw_gid)
    others = [group for group in groups if group != found.pw_gid]
    ids = (found.pw_uid, found.pw_gid, *others)
    return UserAccount(ids, found.pw_name, found.pw_dir or "/", found.pw_shell)


def _number(text: str) -> int:
    number = int(text) if len(text) <= len(str(MAX_ID)) else MAX_ID + 1
    if number > MAX_ID:
        raise ValueError(f'"{text}" is not the number of a user; write up to {MAX_ID}')
    return number
