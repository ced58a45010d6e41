"""chimirror-services(3) and README.md describe the services library as it is.

Names, options, defaults and thresholds are compared with the sources, the figures with
the benchmark results. The examples are run.
"""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import bench_services
import manual_table
from chimirror import services
from chimirror.services import aio, blocking, codec, names, options

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "man" / "chimirror-services.3").read_text()
RESULTS = (ROOT / "tests" / "bench" / "RESULTS.md").read_text()
UNITS = {"KiB": 10, "MiB": 20}
COMMAND = '["python3", "target.py"]'
# The target of an example with a type of its own.
ORDERS = """
from chimirror.services import connect
with connect("orders", send=dict, receive=str) as pipe:
    pipe.send({"item": "tea"})
    print(pipe.receive())
"""


def public(kind: type) -> dict[str, Callable[..., object]]:
    """Return the public members of a class, those of its bases too."""
    return {
        name: member
        for each in reversed(kind.__mro__)
        for name, member in vars(each).items()
        if not name.startswith("_") and each.__module__.startswith("chimirror")
    }


def test_every_name_is_on_the_page() -> None:
    named = set(re.findall(r"^\.It Sy (\w+)", PAGE, re.M))
    hidden = {"Pipe", "Server", "ServerPipe", "connect"}  # subjects of the page
    assert named == set(services.__all__) - hidden
    for kind in (blocking.Server, blocking.ServerPipe, blocking.Pipe):
        for name in public(kind):
            assert re.search(rf"^\.It F[na] .*\b{name}\b", PAGE, re.M), name


def synopsis(call: str) -> dict[str, object]:
    """Return the options of a call on the page, with their defaults."""
    inside = PAGE.partition(f"\n{call}(")[2].partition(")\n.Ed")[0]
    entries = [each.partition("=") for each in re.split(r",\s+", inside)]
    return {name: eval(value) if value else ... for name, _, value in entries}


@pytest.mark.parametrize("api", [aio, blocking])
def test_options_of_server(api: object) -> None:
    shown = synopsis("Server")
    del shown["*"]
    parameters = inspect.signature(api.Server).parameters  # type: ignore[attr-defined]
    assert shown.pop("command") is ...
    assert shown == {
        name: each.default for name, each in parameters.items() if name != "command"
    }
    described = described_options("SERVER")
    assert described == {*shown, "command"}


def test_options_of_pipes() -> None:
    shown = synopsis("connect")
    for name in ("*", "name", "receive", "send"):
        assert shown.pop(name) is ...
    assert shown.keys() == options.PipeOptions.__annotations__.keys()
    assert shown.pop("max_message") == options.MAX_MESSAGE
    assert set(shown.values()) == {None}
    assert described_options("TARGET") - {"name"} == {*shown, "max_message"}
    for api in (aio, blocking):
        for call in (api.connect, api.Server.pipe):
            parameters = [*inspect.signature(call).parameters]
            assert parameters[-4:] == ["name", "receive", "send", "options"]


def described_options(section: str) -> set[str]:
    rest = PAGE.partition(f"\n.Sh {section}\n")[2]
    text = rest.partition("\n.Ss ")[0].partition("\n.Sh ")[0]
    heads = re.findall(r"^\.It Fa (.+)$", text, re.M)
    return {name for head in heads for name in head.split(" , ")} - {"pid"}


@pytest.mark.parametrize("name", ["Pipe", "Server", "ServerPipe"])
def test_asyncio_and_blocking_api_agree(name: str) -> None:
    ours, theirs = public(getattr(aio, name)), public(getattr(blocking, name))
    assert ours.keys() == theirs.keys()
    for method in ours:
        if inspect.isfunction(theirs[method]):
            assert [*inspect.signature(ours[method]).parameters] == [
                *inspect.signature(theirs[method]).parameters
            ]


def threshold(pattern: str) -> int:
    found = re.search(rf"^{pattern} from (\d+) (\wiB)", PAGE, re.M)
    assert found
    return int(found[1]) << UNITS[found[2]]


def test_thresholds() -> None:
    assert threshold("Bytes") == codec.BYTES_THRESHOLD
    assert threshold("Other values") == codec.JSON_THRESHOLD


def test_figures_are_those_of_the_results() -> None:
    """The tables show the medians of the last benchmark."""
    rows = re.findall(r"^\| (.+?) \| (.+?) \| (\S+) ", RESULTS, re.M)
    found = {(figure, name): value for figure, name, value in rows}
    for title, columns in manual_table.TABLES.items():
        body = PAGE.partition(f"\n{title}\n")[2].partition("\n.El\n")[0]
        head, *lines = [line.split(" Ta ") for line in body.split("\n.It ")[1:]]
        assert head == [f"Ta {columns[0].head}", *(each.head for each in columns[1:])]
        assert len(lines) == len(bench_services.SIZES)
        for size, *values in lines:
            assert values == [
                found[each.figure.format(size), each.name] for each in columns
            ]


def test_files_and_environment() -> None:
    for end in (names.INPUT, names.OUTPUT, names.MEMORY):
        assert f"\n.It Pa NAME{end}\n" in PAGE
    assert f"\n.It Ev {names.VARIABLE}\n" in PAGE


def literals() -> list[str]:
    """Return the examples of README.md and of the page."""
    readme = (ROOT / "README.md").read_text().partition("\n## Services for one program")
    text = readme[2].partition("\n## ")[0]
    found = re.findall(r"```python\n(.*?)```", text, re.S)
    for block in PAGE.split("\n.Bd -literal -offset indent\n")[1:]:
        found.append(block.partition("\n.Ed\n")[0])
    return found


SERVERS = [text for text in literals() if COMMAND in text]
TARGETS = [text for text in literals() if COMMAND not in text]


def run(server: str, target: str, directory: Path) -> str:
    """Run both. Returns the output of the target."""
    (directory / "target.py").write_text(target)
    python = Path(sys.executable).parent
    done = subprocess.run(
        [sys.executable, "-c", server],
        env=os.environ | {"PATH": f"{python}:{os.environ['PATH']}"},
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("server", SERVERS)
def test_examples_of_servers(server: str, tmp_path: Path) -> None:
    if '"sums"' in server:
        assert run(server, TARGETS[0], tmp_path) == "3\n"
    else:
        assert run(server, ORDERS, tmp_path) == "1 tea\n"


@pytest.mark.parametrize("target", TARGETS)
def test_examples_of_targets(target: str, tmp_path: Path) -> None:
    language = "sh" if target.startswith("exec ") else "python3"
    server = SERVERS[0].replace("python3", language)
    assert run(server, target, tmp_path) == "3\n"


def test_examples_are_found() -> None:
    assert (len(SERVERS), len(TARGETS)) == (4, 3)
