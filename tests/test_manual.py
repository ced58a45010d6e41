"""The manual says what the programs do: drift fails here.

Options, defaults, SYNOPSIS, statuses and environment are compared with --help and with
the sources; examples on the pages are run through the code; mandoc finds no fault.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from itertools import chain
from pathlib import Path

import pytest

import chimirror
from chimirror import apps, options
from chimirror.system.child import CONTROL_VARIABLE
from chimirror.wire import cgi, frames, framing, handshake, headers, http
from chimirror.wire.opening import Opening, Openings

ROOT = Path(__file__).parent.parent
MAN = ROOT / "man"
SOURCES = Path(chimirror.__file__).parent
PAGES = sorted(MAN.glob("*.[1357]"))
PROGRAMS = (
    "chimirror-bridge",
    "chimirror-server",
    "chimirror-connect",
    "chimirror-zygote",
    "chimirror-ctl",
)
MODULES = {
    "chimirror-bridge": "bridge",
    "chimirror-server": "server",
    "chimirror-connect": "connect.main",
    "chimirror-zygote": "zygote",
    "chimirror-ctl": "ctl.main",
}
# What decides about the exit status and the environment of each program.
DECIDING = {
    "chimirror-bridge": (
        "bridge.py",
        "crowd.py",
        "options.py",
        "apps.py",
        "service.py",
        "system/activation.py",
    ),
    "chimirror-server": (
        "server.py",
        "worker.py",
        "herald.py",
        "options.py",
        "apps.py",
        "service.py",
    ),
    "chimirror-ctl": tuple(f"ctl/{file.name}" for file in SOURCES.glob("ctl/*.py")),
}
READING = {
    "chimirror-bridge": ("system/records.py", "system/notify.py", "system/runtime.py"),
    "chimirror-server": (
        "system/records.py",
        "system/listen.py",
        "system/notify.py",
        "system/runtime.py",
    ),
    "chimirror-zygote": ("system/listen.py", "system/notify.py"),
}
STARTED_BY_SHELL = "chimirror-bridge"


def page(name: str) -> str:
    return next(MAN.glob(f"{name}.[1357]")).read_text()


def rendered(name: str) -> str:
    """The page as a reader sees it, in one long line for each paragraph."""
    file = next(MAN.glob(f"{name}.[1357]"))
    text = subprocess.run(
        ["mandoc", "-Tutf8", "-O", "width=1000", str(file)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return re.sub(".\b", "", text)


def section(name: str, title: str) -> str:
    """The source of one section."""
    _, _, rest = page(name).partition(f"\n.Sh {title}\n")
    assert rest, f"{name}: no section {title}"
    return rest.partition("\n.Sh ")[0]


def help_of(program: str) -> str:
    code = f"from chimirror.{MODULES[program]} import main; raise SystemExit(main())"
    return subprocess.run(
        [sys.executable, "-c", code, "--help"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout


Described = dict[str, tuple[str, str | None]]


def described_by_help(program: str) -> Described:
    """The options in --help, in order: metavar and default."""
    _, _, listing = help_of(program).partition("\nOptions:\n")
    found: Described = {}
    for entry in re.split(r"\n(?=  --)", "\n" + listing.partition("\n\n")[0])[1:]:
        shape = re.match(r"  (--[a-z-]+)(?: ([A-Z][A-Z=:]*))?", entry)
        assert shape, entry
        default = re.search(r"\[default:\s+(\S+)\]", entry)
        found[shape[1]] = (shape[2] or "", default[1] if default else None)
    return found


def described_by_page(program: str) -> Described:
    """The options on the page, in order: metavar and default."""
    found: Described = {}
    for entry in section(program, "OPTIONS").split("\n.It Fl \\-")[1:]:
        head, _, text = entry.partition("\n")
        name, _, metavar = head.partition(" Ar ")
        name = name.partition(" ")[0]  # a short form may follow
        default = re.search(r"The default is\n\.Cm (\S+) \.", text)
        spelt = metavar.replace(" Ns = Ns Ar ", "=")
        found[f"--{name}"] = (spelt, default[1] if default else None)
    return found


@pytest.mark.parametrize("program", PROGRAMS)
def test_options_and_defaults(program: str) -> None:
    described = described_by_help(program)
    assert len(described) > 3
    assert list(described_by_page(program).items()) == list(described.items())


def test_default_that_is_no_text_of_an_option() -> None:
    assert f".Cm {options.DEFAULT_LISTEN} ,\nunless" in page("chimirror-server")


def test_bridge_and_server_describe_their_options_alike() -> None:
    bridge = section("chimirror-bridge", "OPTIONS")
    server = section("chimirror-server", "OPTIONS")
    first = f".It Fl \\-{options.SHARED[0].name.removeprefix('--')} "
    assert server.endswith(bridge[bridge.index(first) :])


def squeezed(synopsis: str) -> str:
    """`[options ...]` and `[options]...` say the same."""
    return " ".join(synopsis.replace("...", "").replace(" ]", "]").split())


@pytest.mark.parametrize("program", PROGRAMS)
def test_synopsis(program: str) -> None:
    usage = help_of(program).partition("\nUsage:\n")[2].partition("\n\n")[0]
    said = [squeezed(line) for line in usage.splitlines()]
    _, _, rest = rendered(program).partition("\nSYNOPSIS\n")
    shown = [squeezed(line) for line in rest.partition("\n\n")[0].splitlines()]
    plain = [line for line in said if not line.endswith(("--help", "--version"))]
    assert shown in (said, plain)


def statuses_of_sources(program: str) -> set[str]:
    """The sysexits that the sources name."""
    found = {"0"}
    for file in DECIDING[program]:
        for name in re.findall(r"\bEX_[A-Z]+\b", (SOURCES / file).read_text()):
            found.add(str(getattr(os, name)))
    if program == STARTED_BY_SHELL:
        launcher = (ROOT / "chimirror" / "launcher.sh").read_text()
        found |= set(re.findall(r"\bexit (\d+)", launcher))
    return found


@pytest.mark.parametrize("program", sorted(DECIDING))
def test_exit_statuses(program: str) -> None:
    listed = re.findall(r"^\.It (\d+)", section(program, "EXIT STATUS"), re.M)
    assert set(listed) == statuses_of_sources(program)
    overview = section("chimirror", "EXIT STATUS")
    assert set(listed) <= set(re.findall(r"^\.It (\d+)", overview, re.M))


@pytest.mark.parametrize("name", ["chimirror", *PROGRAMS])
def test_statuses_are_called_by_their_names(name: str) -> None:
    text = section(name, "EXIT STATUS")
    for number, constant in re.findall(r"^\.It (\d+) Pq Dv (EX_\w+)", text, re.M):
        assert getattr(os, constant) == int(number)


def test_exit_statuses_of_connect() -> None:
    text = section("chimirror-connect", "EXIT STATUS")
    for status in ("64", "128", "255"):
        assert status in text


def variables(name: str) -> set[str]:
    """The variables that a page lists in its ENVIRONMENT."""
    heads = re.findall(r"^\.It Ev (.+)$", section(name, "ENVIRONMENT"), re.M)
    return {word for head in heads for word in head.replace(" ,", "").split()}


def read_by_sources(*files: str) -> set[str]:
    """The variables that the sources get out of an environment."""
    found: set[str] = set()
    for file in files:
        for node in ast.walk(ast.parse((SOURCES / file).read_text())):
            match node:
                case ast.Call(
                    func=ast.Attribute(value=owner, attr="get" | "getenv" | "pop"),
                    args=[ast.Constant(value=str(name)), *_],
                ) if "environ" in ast.unparse(owner) or "getenv" in ast.unparse(node):
                    found.add(name)
                case ast.Subscript(
                    value=owner, slice=ast.Constant(value=str(name))
                ) if "environ" in ast.unparse(owner):
                    found.add(name)
    return found


@pytest.mark.parametrize("program", sorted(DECIDING.keys() & READING.keys()))
def test_environment_of_the_programs(program: str) -> None:
    # Read by the libraries: the search for the command, and sd_notify.
    indirect = {"PATH", "NOTIFY_SOCKET"}
    read = read_by_sources(*DECIDING[program], *READING[program])
    listed = variables(program)
    assert read <= listed
    assert listed - indirect <= read


def sample_request(*fields: bytes, host: bytes = b"localhost") -> http.Request:
    head = (
        b"GET /a?b HTTP/1.1",
        b"Host: " + host,
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        b"Sec-WebSocket-Version: 13",
        *fields,
    )
    parsed = http.parse(b"\r\n".join(head) + b"\r\n\r\n")
    assert parsed is not None
    return parsed[0]


def test_environment_of_the_application() -> None:
    policy = handshake.Policy(["json"])
    accept = handshake.judge(sample_request(), policy, "192.0.2.1", 4711)
    assert isinstance(accept, handshake.Accept)
    told = cgi.variables(accept, server_software="x")
    given = {"HTTP_*" if name.startswith("HTTP_") else name for name in told}
    inherited = apps.allowed(
        dict.fromkeys([*apps.PASSED, "LC_ALL", "SECRET"], "x"),
        options.bridge(["cat"]),
    )
    given |= {"LC_*" if name == "LC_ALL" else name for name in inherited}
    assert variables("chimirror") == given | {"CHIMIRROR_SESSION", CONTROL_VARIABLE}


def literal(name: str, beginning: str) -> list[str]:
    """The lines of the example that begins so."""
    blocks = page(name).split("\n.Bd -literal -offset indent\n")[1:]
    block = next(block for block in blocks if block.startswith(beginning))
    return block.partition("\n.Ed\n")[0].split("\n")


def test_example_of_a_handshake() -> None:
    lines = literal("chimirror-protocol", "GET /ws")
    split = lines.index("")
    asked = "\r\n".join(lines[:split]).encode() + b"\r\n\r\n"
    answered = "\r\n".join(lines[split + 1 :]).encode() + b"\r\n\r\n"
    found = Openings(handshake.Policy(["json"]), "x").read(asked, "::1", 1)
    assert isinstance(found, Opening)
    assert found.response() == answered


def test_example_of_a_refusal() -> None:
    *head, empty, text = literal("chimirror-protocol", "HTTP/1.1 403")
    request = sample_request(host=b"evil.example")
    with pytest.raises(http.Refusal) as caught:
        handshake.judge(request, handshake.Policy(["json"]), "::1", 1)
    expected = "\r\n".join([*head, empty, text]) + "\n"
    assert caught.value.response() == expected.encode()


def test_statuses_of_refusals() -> None:
    listed = re.findall(r"^\.It (\d+)", section("chimirror-protocol", "REFUSALS"), re.M)
    known = http._REASONS
    assert [int(status) for status in listed] == sorted(set(known) - {200, 304})


def test_example_in_bytes() -> None:
    lines = literal("chimirror-protocol", "-> 81")
    message, answer, close, echo = [line[3:] for line in lines]
    json = framing.create("json", 1 << 20)
    received = frames.FrameReader(1 << 20).receive(bytes.fromhex(message))
    assert received == [b'{"a":1}']
    line = json.decode(b'{"a":1}')
    assert isinstance(line, bytes)
    first, second, text = answer.split(" ", 2)
    header = bytes.fromhex(first + second)
    assert b"".join(json.encode("stdout", line)[0]) == header + text.encode()
    (closed,) = frames.FrameReader(1 << 20).receive(bytes.fromhex(close))
    assert isinstance(closed, frames.Close)
    assert headers.close(closed.code) == bytes.fromhex(echo)


def test_signals_are_listed() -> None:
    text = section("chimirror-protocol", "MESSAGES")
    for name in framing.SIGNALS:
        assert re.search(rf"^\.Li {name}\b", text, re.M)


def reasons() -> set[str]:
    """The reasons of close frames that the pure part gives."""
    found = set(frames._REASONS.values())
    sources = [file.read_text() for file in (SOURCES / "wire").glob("*.py")]
    for node in chain(*(ast.walk(ast.parse(source)) for source in sources)):
        match node:
            case ast.Call(
                func=ast.Name(id="Violation"),
                args=[_, ast.Constant(value=str(reason)), *_],
            ):
                found.add(reason)
    return found | {"exit 0", "exit 3", "signal KILL", "idle", "time", "drain"}


def test_close_reasons_are_listed() -> None:
    shown = rendered("chimirror-protocol")
    for reason in sorted(reasons()):
        assert f"“{reason}”" in shown


@pytest.mark.parametrize("file", PAGES, ids=lambda file: file.name)
def test_mandoc_finds_no_fault(file: Path) -> None:
    lint = subprocess.run(
        ["mandoc", "-Tlint", str(file)], capture_output=True, text=True, check=False
    )
    # Which manuals are installed is not the page's fault.
    foreign = ("referenced manual not found", "outdated mandoc.db")
    faults = lint.stdout.splitlines()
    assert [line for line in faults if not any(f in line for f in foreign)] == []


def test_pages_refer_to_pages_that_exist() -> None:
    for file in PAGES:
        for name, number in re.findall(
            r"^\.Xr (chimirror\S*) (\d)", file.read_text(), re.M
        ):
            assert (MAN / f"{name}.{number}").exists(), f"{file.name}: {name}"


def test_every_page_is_installed_and_tells_of_this_version() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    for file in PAGES:
        assert (
            f'"man/{file.name}" = "share/man/man{file.suffix[1:]}/{file.name}"'
            in project
        )
    assert f"\n.Ss Version {chimirror.__version__}\n" in page("chimirror-news")
    assert f'version = "{chimirror.__version__}"' in project
