"""The manual describes the programs as they are.

Options, defaults, SYNOPSIS, statuses and environment are compared with --help and with
the sources. Examples on the pages are run through the code. mandoc finds no fault.
"""

from __future__ import annotations

import ast
import os
import re
import ssl
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import cast

import pytest

import chimirror
from chimirror import apps
from chimirror import text as chimirror_text
from chimirror.access import Identity
from chimirror.apps import application_file, toml_parser
from chimirror.client import buffers
from chimirror.client.handshake import MAX_MESSAGE_SIZE
from chimirror.config import env_file, options, parser, presets
from chimirror.control import application_channel, controller, gateway
from chimirror.control import connection as control_connection
from chimirror.framing import MAX_HELD, json_framing, registry
from chimirror.io import line_stream, listener, loop, packet_socket, write_buffer
from chimirror.log import record_writer
from chimirror.manifest import schema
from chimirror.metrics.families import FAMILIES
from chimirror.process import pipes, spawner
from chimirror.process.spawner import CONTROL_VARIABLE
from chimirror.protocol import (
    CLOSE_REASONS,
    MAX_TERMINAL_SIZE,
    cgi,
    frame_format,
    frame_reader,
    handshake,
    http,
    json_members,
    json_text,
    jsonrpc,
    policy,
    proxy_protocol,
)
from chimirror.protocol.request_cache import RequestCache, SessionRequest
from chimirror.server import worker
from chimirror.services.blocking import KILL_GRACE
from chimirror.services.options import MAX_MESSAGE as MAX_SERVICE_MESSAGE
from chimirror.session import connection, relay
from chimirror.spawn import start_queue
from chimirror.tls import peer_variables

ROOT = Path(__file__).parents[2]
MAN = ROOT / "man"
SOURCES = Path(chimirror.__file__).parent
PAGES = sorted(MAN.glob("*.[1357]"))
PROGRAMS = (
    "chimirror-bridge",
    "chimirror-server",
    "chimirror-connect",
    "chimirror-zygote",
    "chimirror-ctl",
    "chimirror-authorize",
)
MODULES = {
    "chimirror-bridge": "bridge",
    "chimirror-server": "server.main",
    "chimirror-connect": "connect.main",
    "chimirror-zygote": "zygote",
    "chimirror-ctl": "ctl.main",
    "chimirror-authorize": "authorize.main",
}
# The sources of the exit statuses and the environment of each program.
DECIDING = {
    "chimirror-bridge": (
        "apps/__init__.py",
        "bridge/__init__.py",
        "bridge/admission.py",
        "config/__init__.py",
        "config/options.py",
        "config/parser.py",
        "io/activation.py",
        "program.py",
    ),
    "chimirror-server": (
        "apps/__init__.py",
        "config/__init__.py",
        "config/options.py",
        "config/parser.py",
        "program.py",
        "server/main.py",
        "server/notifier.py",
        "server/supervisor.py",
        "server/worker.py",
    ),
    "chimirror-ctl": tuple(
        str(file.relative_to(SOURCES)) for file in SOURCES.glob("ctl/**/*.py")
    ),
    "chimirror-authorize": tuple(
        str(file.relative_to(SOURCES)) for file in SOURCES.glob("authorize/*.py")
    ),
}
READING = {
    "chimirror-bridge": ("host/runtime_dir.py", "host/sd_notify.py", "log/sinks.py"),
    "chimirror-server": (
        "host/runtime_dir.py",
        "host/sd_notify.py",
        "io/listener.py",
        "log/records.py",
        "log/sinks.py",
        "server/endpoint_sockets.py",
    ),
    "chimirror-zygote": ("host/sd_notify.py", "io/listener.py", "log/sinks.py"),
    "chimirror-authorize": ("host/sd_notify.py", "io/listener.py"),
}
STARTED_BY_SHELL = "chimirror-bridge"


def page(name: str) -> str:
    return next(MAN.glob(f"{name}.[1357]")).read_text()


@cache
def rendered(name: str) -> str:
    """Return the rendered page, each paragraph as one long line."""
    file = next(MAN.glob(f"{name}.[1357]"))
    text = subprocess.run(
        ["mandoc", "-Tutf8", "-O", "width=1000", str(file)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return re.sub(".\b", "", text)


def section(name: str, title: str) -> str:
    """Return the source of one section."""
    _, _, rest = page(name).partition(f"\n.Sh {title}\n")
    assert rest, f"{name}: no section {title}"
    return rest.partition("\n.Sh ")[0]


def help_of(program: str, flag: str = "--help") -> str:
    code = f"from chimirror.{MODULES[program]} import main; raise SystemExit(main())"
    return subprocess.run(
        [sys.executable, "-c", code, flag],
        capture_output=True,
        text=True,
        check=True,
    ).stdout


Described = dict[str, tuple[str, str | None]]


def described_by_help(program: str) -> Described:
    """Return the options in --help in order, with metavar and default."""
    _, _, listing = help_of(program).partition("\nOptions:\n")
    found: Described = {}
    for entry in re.split(r"\n(?=  --)", "\n" + listing.partition("\n\n")[0])[1:]:
        shape = re.match(r"  (--[a-z0-9-]+)(?: ([A-Z][A-Z=:]*))?", entry)
        assert shape, entry
        default = re.search(r"\[default:\s+(\S+)\]", entry)
        found[shape[1]] = (shape[2] or "", default[1] if default else None)
    return found


def described_by_page(program: str) -> Described:
    """Return the options on the page in order, with metavar and default."""
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


@pytest.mark.parametrize("program", PROGRAMS)
def test_short_help(program: str) -> None:
    assert help_of(program, "-h") == help_of(program)
    assert ".It Fl \\-help , h\n" in page(program)


def test_default_outside_of_option_text() -> None:
    assert f".Cm {options.DEFAULT_LISTEN} ,\nunless" in page("chimirror-server")


def test_bridge_and_server_describe_their_options_alike() -> None:
    bridge = section("chimirror-bridge", "OPTIONS")
    server = section("chimirror-server", "OPTIONS")
    first = ".It Fl \\-protocol "
    assert server.endswith(bridge[bridge.index(first) :])


@pytest.mark.parametrize("program", ["chimirror-bridge", "chimirror-server"])
def test_presets_are_described(program: str) -> None:
    shown = [line.split() for line in rendered(program).splitlines()]
    for name, texts in presets.PRESETS.items():
        words = [word for each in texts.items() for word in (f"--{each[0]}", each[1])]
        assert [name, *words] in shown
        help_words = " ".join(help_of(program).split())
        assert f" {name} {' '.join(words)} " in help_words


def normalized(synopsis: str) -> str:
    """Normalize a synopsis: `[options ...]` and `[options]...` are equal."""
    return " ".join(synopsis.replace("...", "").replace(" ]", "]").split())


@pytest.mark.parametrize("program", PROGRAMS)
def test_synopsis(program: str) -> None:
    usage = help_of(program).partition("\nUsage:\n")[2].partition("\n\n")[0]
    lines = [normalized(line) for line in usage.splitlines()]
    _, _, rest = rendered(program).partition("\nSYNOPSIS\n")
    shown = [normalized(line) for line in rest.partition("\n\n")[0].splitlines()]
    plain = [line for line in lines if not line.endswith(("--help", "--version"))]
    assert shown in (lines, plain)


def statuses_of_sources(program: str) -> set[str]:
    """Return the sysexits that the sources name."""
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
def test_statuses_have_their_sysexits_names(name: str) -> None:
    text = section(name, "EXIT STATUS")
    for number, constant in re.findall(r"^\.It (\d+) Pq Dv (EX_\w+)", text, re.M):
        assert getattr(os, constant) == int(number)


def test_exit_statuses_of_connect() -> None:
    text = section("chimirror-connect", "EXIT STATUS")
    for status in ("64", "128", "255"):
        assert status in text


def variables(name: str) -> set[str]:
    """Return the variables in the ENVIRONMENT section of a page."""
    heads = re.findall(r"^\.It Ev (.+)$", section(name, "ENVIRONMENT"), re.M)
    return {word for head in heads for word in head.replace(" ,", "").split()}


def read_by_sources(*files: str) -> set[str]:
    """Return the variables that the sources read from an environment."""
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
    # Read by libraries: the search for the command, and sd_notify.
    indirect = {"PATH", "NOTIFY_SOCKET"}
    read = read_by_sources(*DECIDING[program], *READING[program])
    listed = variables(program)
    assert read <= listed
    assert listed - indirect <= read


def sample_request(*fields: bytes, host: bytes = b"localhost") -> http.HTTPRequest:
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


class FakeTls:
    """A connection whose client has a certificate."""

    def cipher(self) -> None:
        """Return no cipher."""

    def version(self) -> None:
        """Return no version."""

    def getpeercert(self) -> dict[str, object]:
        return {"subject": ((("commonName", "anna"),),)}


def test_environment_of_the_application() -> None:
    own_policy = policy.HandshakePolicy(["json"])
    accept = handshake.negotiate(sample_request(), own_policy, "192.0.2.1", 4711)
    assert isinstance(accept, handshake.AcceptedHandshake)
    values = cgi.variables(accept, server_software="x")
    given = {"HTTP_*" if name.startswith("HTTP_") else name for name in values}
    inherited = apps.application_environment(
        dict.fromkeys([*apps.ALLOWED_VARIABLES, "LC_ALL", "SECRET"], "x"),
        parser.parse_bridge(["cat"]),
    )
    given |= {"LC_*" if name == "LC_ALL" else name for name in inherited}
    given |= peer_variables.of_connection(cast(ssl.SSLObject, FakeTls())).keys()
    given |= Identity("ann", "Basic", ("staff",)).variables().keys()
    given |= {"TRACEPARENT", "TRACESTATE", "BAGGAGE"}
    assert variables("chimirror") == given | {"CHIMIRROR_SESSION", CONTROL_VARIABLE}


def literal(name: str, beginning: str) -> list[str]:
    """Return the lines of the example that begins with this text."""
    blocks = page(name).split("\n.Bd -literal -offset indent\n")[1:]
    block = next(block for block in blocks if block.startswith(beginning))
    return block.partition("\n.Ed\n")[0].split("\n")


def test_example_of_a_handshake() -> None:
    lines = literal("chimirror-protocol", "GET /ws")
    split = lines.index("")
    asked = "\r\n".join(lines[:split]).encode() + b"\r\n\r\n"
    answered = "\r\n".join(lines[split + 1 :]).encode() + b"\r\n\r\n"
    found = RequestCache(policy.HandshakePolicy(["json"]), "x").read(asked, "::1", 1)
    assert isinstance(found, SessionRequest)
    assert found.response() == answered


def test_example_of_a_rejection() -> None:
    *head, empty, text = literal("chimirror-protocol", "HTTP/1.1 403")
    request = sample_request(host=b"evil.example")
    with pytest.raises(http.HTTPError) as caught:
        handshake.negotiate(request, policy.HandshakePolicy(["json"]), "::1", 1)
    expected = "\r\n".join([*head, empty, text]) + "\n"
    assert caught.value.response() == expected.encode()


def test_statuses_of_rejections() -> None:
    listed = re.findall(r"^\.It (\d+)", section("chimirror-protocol", "REFUSALS"), re.M)
    known = http._REASONS
    assert [int(status) for status in listed] == sorted(set(known) - {200, 204, 304})


def test_example_in_bytes() -> None:
    lines = literal("chimirror-protocol", "-> 81")
    message, answer, close, echo = [line[3:] for line in lines]
    json = registry.create("json", 1 << 20)
    received = frame_reader.FrameReader(1 << 20).receive_data(bytes.fromhex(message))
    assert received == [b'{"a":1}']
    line = json.decode(b'{"a":1}')
    assert isinstance(line, bytes)
    first, second, text = answer.split(" ", 2)
    header = bytes.fromhex(first + second)
    assert b"".join(json.encode("stdout", line)[0]) == header + text.encode()
    (closed,) = frame_reader.FrameReader(1 << 20).receive_data(bytes.fromhex(close))
    assert isinstance(closed, frame_reader.Close)
    assert frame_format.close(closed.code) == bytes.fromhex(echo)


def test_signals_are_listed() -> None:
    text = section("chimirror-protocol", "MESSAGES")
    for name in json_framing.SIGNALS:
        assert re.search(rf"^\.Li {name}\b", text, re.M)


def test_close_reasons_are_listed() -> None:
    shown = rendered("chimirror-protocol")
    for reason in CLOSE_REASONS:
        assert f"“{reason.pattern}”" in shown


@pytest.mark.parametrize("file", PAGES, ids=lambda file: file.name)
def test_mandoc_finds_no_fault(file: Path) -> None:
    lint = subprocess.run(
        ["mandoc", "-Tlint", str(file)], capture_output=True, text=True, check=False
    )
    # mandoc warns about referenced pages that are not installed here.
    foreign = ("referenced manual not found", "outdated mandoc.db")
    faults = lint.stdout.splitlines()
    assert [line for line in faults if not any(f in line for f in foreign)] == []


def test_pages_refer_to_pages_that_exist() -> None:
    for file in PAGES:
        for name, number in re.findall(
            r"^\.Xr (chimirror\S*) (\d)", file.read_text(), re.M
        ):
            assert (MAN / f"{name}.{number}").exists(), f"{file.name}: {name}"


def test_every_page_is_installed_and_names_this_version() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    for file in PAGES:
        assert (
            f'"man/{file.name}" = "share/man/man{file.suffix[1:]}/{file.name}"'
            in project
        )
    assert f"\n.Ss Version {chimirror.__version__}\n" in page("chimirror-news")
    assert f'version = "{chimirror.__version__}"' in project


BOUND = re.compile(r"--max-|.*-(timeout|grace|rate|interval)$")


@pytest.mark.parametrize(
    "option",
    [each for each in options.OPTIONS if BOUND.match(each.name)],
    ids=lambda option: option.name,
)
def test_limits_give_each_bound_with_its_default(option: options.Option) -> None:
    """An option that bounds something is in LIMITS, its default in parentheses."""
    name, default = re.escape(option.name[2:]), re.escape(option.default or "")
    form = rf"^\.Fl \\-{name}\n\.Pq {default}( seconds?)?( [.,])?$"
    assert default
    assert re.search(form, section("chimirror", "LIMITS"), re.MULTILINE)


UNCUT = json_framing.JsonFraming(1 << 30).encode("stdout", bytes(pipes.READ_SIZE))[0]
LARGEST_MESSAGE = sum(map(len, UNCUT)) - len(frame_format.text_header(1 << 16))
OUTPUT_PIECE = json_framing.JsonFraming(1 << 15)._piece_size


def limits_item(title: str) -> str:
    """Return the rendered text of an item of LIMITS, without commas in numbers."""
    _, _, rest = rendered("chimirror").partition("\nLIMITS\n")
    lines = [line.strip() for line in rest.partition("\nSECURITY\n")[0].splitlines()]
    text = lines[lines.index(title) + 1]
    return re.sub(r"(?<=\d),(?=\d{3})", "", text)


@pytest.mark.parametrize(
    ("title", "numbers"),
    [
        ("PROXY protocol header", [proxy_protocol.MAX_LINE, proxy_protocol.MAX_BLOCK]),
        ("Request head", [http.MAX_HEAD >> 10, http.MAX_FIELDS]),
        ("Connections that no worker has accepted yet", [listener.BACKLOG]),
        ("Nesting of a JSON message", [json_text.MAX_DEPTH]),
        ("Message to a client", [OUTPUT_PIECE, pipes.READ_SIZE >> 10, LARGEST_MESSAGE]),
        (
            "Line or body that is held until it is complete",
            [MAX_HELD >> 10],
        ),
        ("Size of a terminal", [MAX_TERMINAL_SIZE]),
        ("Queued input and output", [write_buffer.HIGH >> 10, write_buffer.LOW >> 10]),
        ("Frames of a client in one turn", [connection.MAX_FRAMES, relay.MAX_EVENTS]),
        (
            "Turn of a worker",
            [
                round(loop.PHASE_TIME * 1000),
                connection.MAX_LATE_FRAMES,
                connection.MAX_LATE_SIZE >> 10,
            ],
        ),
        ("Message before authorization", [gateway.MAX_FIRST_MESSAGE]),
        ("Control connections of a session", [controller.MAX_PEERS]),
        ("Message of a control peer", [jsonrpc.MAX_LINE]),
        ("Lines in one turn", [line_stream.MAX_LINES]),
        ("Requests of a batch", [json_members.MAX_ITEMS, json_members.MAX_MEMBERS]),
        ("Sessions in one response of sessions", [control_connection.PAGE_SIZE]),
        (
            "Calls that an application has not answered",
            [application_channel.MAX_PENDING],
        ),
        ("Message of a server in chimirror-client(3)", [MAX_MESSAGE_SIZE >> 20]),
        ("Unread output in chimirror-client(3)", [buffers.HIGH_WATER >> 10]),
        ("Message in chimirror-services(3)", [MAX_SERVICE_MESSAGE >> 20]),
        ("Time to stop a target", [int(KILL_GRACE)]),
        ("Starts in progress", [start_queue.MAX_IN_FLIGHT, worker.MAX_STARTING]),
        ("Command and environment of an application", [spawner.MAX_PROGRAM]),
        (
            "Packets between processes of a server",
            [packet_socket.MAX_PACKET, packet_socket.MAX_QUEUED_PACKETS],
        ),
        ("Name of an application", [application_file.MAX_NAME]),
        (
            "Application file",
            [application_file.MAX_SIZE >> 10, toml_parser.MAX_DEPTH],
        ),
        ("Files of --env-file", [env_file.MAX_FILES, env_file.MAX_SIZE >> 10]),
        ("Schemas and examples of an application file", [schema.MAX_DEPTH]),
        ("Text of a peer", [chimirror_text.MAX_FIELD]),
        ("Other records that wait for the log", [record_writer.MAX_RECORDS]),
    ],
)
def test_limits_have_the_numbers_of_the_code(title: str, numbers: list[int]) -> None:
    text = limits_item(title)
    for number in numbers:
        assert re.search(rf"(?<![\d.]){number}(?![\d.]*\d)", text), number


def test_limits_repeat_no_item() -> None:
    items = re.findall(r"^\.It (.+)$", section("chimirror", "LIMITS"), re.MULTILINE)
    assert len(items) > 50
    assert len(items) == len({*items})


def test_series_of_the_metrics() -> None:
    """The manual lists each series with its labels and its type, in order."""
    listed = re.findall(
        r"^\.It Li (chimirror_\w+)(?: Ns Brq Li ([\w ,]+))?\n(\w+):",
        section("chimirror-server", "METRICS"),
        re.MULTILINE,
    )
    expected = [
        (family.name, " , ".join(family.labels), family.kind.capitalize())
        for family in FAMILIES
    ]
    assert listed == expected
