"""Checks the authorizer of a service: a host, a command, or a socket to connect to.

`unit_probe` runs this with the user and the sandbox of the unit. No question is asked.
"""

from __future__ import annotations

import os

from chimirror import program
from chimirror.config.parser import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from chimirror.config import Config

# Of chimirror-authorize.socket.
SOCKET = "/run/chimirror/authorize"
START_CURE = "start the authorizer, or write another socket"
UNIT_CURE = "systemctl enable --now chimirror-authorize.socket"
MODE_CURE = "let its group connect: SocketGroup= and SocketMode= of systemd.socket(5)"


def review(name: str, config: Config) -> Iterator[dict[str, object]]:
    """Review --authorize of a command line.

    Args:
        name: The name of the program.
        config: The command line.

    Yields:
        One object as `unit_probe.probe` does, with `about`, if there is an authorizer.
    """
    target = config.authorize
    if target is None:
        return
    try:
        endpoint = program.find_authorizer(name, config, os.environ)
    except UsageError as error:
        yield _found(error.text, f"{name}(1), --authorize, lists the forms")
        return
    path = target.path
    if path and not os.path.exists(path):
        cure = UNIT_CURE if path == SOCKET else START_CURE
        yield _found(f"--authorize: there is no {path}", cure)
    elif path and not os.access(path, os.W_OK, effective_ids=True):
        yield _found(f"--authorize: its user may not connect to {path}", MODE_CURE)
    elif endpoint is not None:
        yield _found(f"it asks {endpoint.name}")


def _found(text: str, cure: str = "") -> dict[str, object]:
    found: dict[str, object] = {"name": "", "about": "authorizer", "absent": []}
    found |= {"script": "", "text": text}
    return found | {"cure": cure} if cure else found
