"""chimirror-client(3) and README.md describe the library as it is.

Names, options and defaults are compared with the sources. The examples are run against
a server.
"""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import serve
from chimirror import client
from chimirror.client import aio, blocking, handshake, servers
from tls_servers import server_url

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "man" / "chimirror-client.3").read_text()
CUSTOMARY = "ws://127.0.0.1:30747/"


def public(kind: type) -> dict[str, Callable[..., object]]:
    return {
        name: method for name, method in vars(kind).items() if not name.startswith("_")
    }


def test_every_name_is_on_the_page() -> None:
    named = set(re.findall(r"^\.(?:It )?Sy (\w+)", PAGE, re.M))
    hidden = {"Session", "connect"}  # the subject of the whole page
    assert named == set(client.__all__) - hidden
    for kind in (blocking.Session, blocking.Stream, blocking.Control):
        for name in public(kind):
            assert re.search(rf"^\.(F[na]|It F[na]|It Ic .*) .*\b{name}\b", PAGE, re.M)


def test_every_option_is_on_the_page() -> None:
    synopsis = PAGE.partition("connect(url, *, ")[2].partition(")\n.Ed")[0]
    entries = [option.partition("=") for option in re.split(r",\s+", synopsis)]
    shown = {name: eval(value) for name, _, value in entries}
    described = set(re.findall(r"^\.It Fa (.+)$", PAGE.partition(".Ss Options")[2]
                               .partition(".Sh SESSION")[0], re.M))  # fmt: skip
    names = {name for head in described for name in head.split(" , ")}
    assert names == shown.keys() | {"url"}
    own = {"framing": "stdio", "subprotocol": None}
    for face in (aio, blocking):
        parameters = inspect.signature(face.connect).parameters
        assert list(parameters) == ["url", *own, "options"]
        assert {name: parameters[name].default for name in own} == own
    keywords = inspect.signature(handshake.ConnectionParams).parameters
    of_tls = dict.fromkeys(servers.TLS_OPTIONS)
    assert shown == own | of_tls | {
        name: keyword.default
        for name, keyword in keywords.items()
        if name not in ("target", "tls")
    }


@pytest.mark.parametrize("name", ["Control", "Session", "Stream"])
def test_asyncio_and_blocking_api_agree(name: str) -> None:
    ours, theirs = public(getattr(aio, name)), public(getattr(blocking, name))
    assert ours.keys() == theirs.keys()
    for method in ours:
        if callable(ours[method]):
            assert str(inspect.signature(ours[method])).replace("Async", "") == str(
                inspect.signature(theirs[method])
            )


def examples() -> list[str]:
    text = (ROOT / "README.md").read_text()
    found = re.findall(r"```python\n(.*?)```", text, re.S)
    for block in PAGE.split("\n.Bd -literal -offset indent\n")[1:]:
        found.append(block.partition("\n.Ed\n")[0].replace("\\en", "\\n"))
    return found


@pytest.mark.parametrize("example", examples())
def test_examples(example: str, tmp_path: Path) -> None:
    if CUSTOMARY not in example:
        compile(example, "example", "exec")
        return
    with serve.server(tmp_path, ["cat"]) as service:
        program = example.replace(CUSTOMARY, server_url(service))
        done = subprocess.run(
            [sys.executable, "-c", program],
            env=launch_environment(),
            capture_output=True,
            text=True,
            timeout=30,
        )
    assert (done.returncode, done.stderr) == (0, "")
    assert "hello" in done.stdout


def launch_environment() -> dict[str, str]:
    from connect_process import ENV

    return ENV
