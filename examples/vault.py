"""A password store on stdin and stdout: set, get, keyset, exit.

An ordinary program, which knows nothing of networks. Each line of input is a command,
as plain words or as JSON (`["set","mail","my secret"]`, or `"get mail"`). Each answer
is one line of JSON: the result, null for a missing key, or {"error": …}.

The initial entries come from the file of $VAULT, in lines of KEY=VALUE. They are read
once, while this module is imported. Entries that a client sets are its own, and end
with its session.

    chimirror-server --env VAULT=FILE --preload vault:main
    chimirror-zygote --socket /run/vault --env VAULT=FILE vault:main
    chimirror-server --env VAULT=FILE -- python3 vault.py
"""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

WRONG = {"error": "write: set KEY VALUE, get KEY, keyset, or exit"}


def load(path: str | None) -> dict[str, str]:
    """Read the entries of a file."""
    if not path:
        return {}
    with open(path, encoding="utf-8") as lines:
        pairs = [line.rstrip("\n").partition("=") for line in lines if "=" in line]
    return {key: value for key, _, value in pairs}


ENTRIES = load(os.environ.get("VAULT"))


def words_of(line: str) -> list[str]:
    """Split a line into a command and its arguments. The last one may have spaces."""
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        said = line
    if isinstance(said, list):
        return said if all(isinstance(word, str) for word in said) else []
    return said.strip().split(maxsplit=2) if isinstance(said, str) else []


def store(entries: dict[str, str], key: str, value: str) -> bool:
    entries[key] = value
    return True


def answer(entries: dict[str, str], words: list[str]) -> object:
    """Execute a command. Returns its result, or an error object."""
    commands: dict[tuple[str, int], Callable[..., object]] = {
        ("set", 2): lambda key, value: store(entries, key, value),
        ("get", 1): entries.get,
        ("keyset", 0): lambda: sorted(entries),
    }
    command = commands.get((words[0], len(words) - 1)) if words else None
    return command(*words[1:]) if command else WRONG


def main() -> int:
    """Serve one client, from its first command to `exit` or the end of input."""
    for line in sys.stdin:
        words = words_of(line)
        if words == ["exit"]:
            break
        print(json.dumps(answer(ENTRIES, words)), flush=True)
    return os.EX_OK


if __name__ == "__main__":
    sys.exit(main())
