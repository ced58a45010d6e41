"""The scanner equals docopt, errors tell how to correct them, and the Config is right.

docopt-ng reads the usage text, and the scanner reads the table. For every command line
without abbreviations, both read the same or both refuse.
"""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import chain
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chimirror.config import Config, options, parser, usage
from chimirror.config.authorize_target import AuthorizeTarget

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Read = tuple[tuple[str, ...], dict[str, list[str]]] | None

PROGRAMS = [
    ("chimirror-bridge", parser.parse_bridge, options.options_of(options.BRIDGE)),
    ("chimirror-server", parser.parse_server, options.options_of(options.SERVER)),
    ("chimirror-zygote", parser.parse_zygote, options.options_of(options.ZYGOTE)),
]
TEXT = {name: usage.render(name, "Serve.", table) for name, _, table in PROGRAMS}


def refusal(argv: list[str], program: int = 1) -> str:
    """Return the line of the error, without the name of the program."""
    name, read, _ = PROGRAMS[program]
    with pytest.raises(parser.UsageError) as caught:
        read(argv)
    assert caught.value.status == 64
    first, second = str(caught.value).split("\n")
    assert second == f"Usage: {usage.synopsis(name)}"
    assert first.startswith(f"{name}: ")
    return first.removeprefix(f"{name}: ")


def by_scanner(table: Sequence[options.Option], argv: list[str]) -> Read:
    try:
        return parser.scan_program(table, argv)
    except parser.ScanError:
        return None


def by_docopt(name: str, table: Sequence[options.Option], argv: list[str]) -> Read:
    try:
        read = usage.parse(TEXT[name], argv, "1")
    except SystemExit:  # help or version
        return None
    if read is None or read["COMMAND"] == "":  # an empty text is no command
        return None
    if sum(map(bool, map(read.get, ("COMMAND", "--preload", "--apps")))) != 1:
        return None
    given: dict[str, list[str]] = {}
    for option in table:
        value = read[option.name]
        texts = value if isinstance(value, list) else [""] * int(str(value))
        if option.metavar and texts == (option.default or "").split():
            continue
        if len(texts) > 1 and not option.repeats:
            return None
        if texts:
            given[option.name] = texts
    if not read["COMMAND"]:
        return (), given
    command = (read["COMMAND"], *read["ARG"])  # type: ignore[misc]
    return command, given


def without_defaults(table: Sequence[options.Option], read: Read) -> Read:
    """Drop texts that equal the default: docopt cannot tell them from no text."""
    if read is None:
        return None
    defaults = {option.name: [option.default] for option in table}
    return read[0], {k: v for k, v in read[1].items() if v != defaults[k]}


NAMES = [option.name for option in PROGRAMS[1][2]]
VALUES = st.sampled_from(["a", "1", "", "a=b", "--", "-", "--host", "x y", "[default:"])
TOKENS = st.one_of(
    st.sampled_from(NAMES),
    st.builds("{}={}".format, st.sampled_from(NAMES), VALUES),
    VALUES,
    st.sampled_from(["-x", "--unknown", "--unknown=1", "---", "--=1", "COMMAND"]),
)
PAIRS = st.tuples(st.sampled_from(NAMES), VALUES).map(list)
ARGV = st.one_of(
    st.lists(TOKENS, max_size=6),
    st.lists(PAIRS, max_size=5).map(lambda pairs: [*chain(*pairs), "cat", "-n"]),
)


@settings(max_examples=300)
@given(program=st.sampled_from([0, 1]), argv=ARGV)
def test_scanner_equals_docopt(program: int, argv: list[str]) -> None:
    name, _, table = PROGRAMS[program]
    scanned = without_defaults(table, by_scanner(table, argv))
    assert scanned == by_docopt(name, table, argv)


@pytest.mark.parametrize(("name", "read", "table"), PROGRAMS)
def test_usage_text_and_table_agree(
    name: str, read: object, table: Sequence[options.Option]
) -> None:
    parsed = usage.parse(TEXT[name], ["--", "cat"], "1")
    assert parsed is not None
    options_of_text = {key for key in parsed if key.startswith("--") and key != "--"}
    assert options_of_text == {option.name for option in table}
    for option in table:
        expected: object = (option.default or "").split() if option.metavar else 0
        assert parsed[option.name] == expected
    assert all(len(line) <= 80 for line in TEXT[name].splitlines())


def test_defaults() -> None:
    config = parser.parse_server(["cat"])
    assert {name: getattr(config, name) for name in config.__slots__} == {
        "command": ("cat",),
        "protocol": None,
        "preset": {},
        "framings": ("json", "stdio"),
        "stderr": None,
        "subprotocols": {},
        "session_id_header": None,
        "multiline": "refuse",
        "direction": "both",
        "read_only": False,
        "control": False,
        "hosts": (),
        "origins": (),
        "trusted_proxies": (),
        "proxy_protocol": False,
        "tls_certs": (),
        "tls_keys": (),
        "tls_client_ca": None,
        "tls_client": None,
        "user_header": None,
        "groups_header": None,
        "user_certificate": None,
        "authorize": None,
        "authorize_timeout": 5.0,
        "authorize_fields": ("remote-user", "remote-groups"),
        "required": (),
        "allow_anonymous": False,
        "users": (),
        "groups": (),
        "base_path": "",
        "max_message": 1048576,
        "max_line": 16777216,
        "max_output_message": 32768,
        "handshake_timeout": 10,
        "idle_timeout": None,
        "session_timeout": None,
        "ping_interval": 20,
        "ping_timeout": 20,
        "pty": False,
        "linger_timeout": 1,
        "stop_grace": 1,
        "kill_grace": 5,
        "pass_env": (),
        "env": {},
        "directory": None,
        "user": None,
        "apps": None,
        "console": False,
        "web_client": False,
        "log_format": "auto",
        "listen": (),
        "bind_ipv6_only": False,
        "socket_mode": 0o600,
        "metrics": None,
        "agent": None,
        "workers": None,
        "drain_timeout": 30,
        "session_cgroup": "auto",
        "session_memory_max": None,
        "session_tasks_max": None,
        "session_cpu_weight": None,
        "max_sessions": None,
        "user_range": None,
        "max_sessions_per_source": None,
        "max_sessions_per_user": None,
        "max_rate": None,
        "max_handshakes": 512,
        "max_handshakes_per_source": 256,
        "preload": None,
        "spares": 0,
        "spare_age": 600.0,
        "socket": None,
        "allowed_uids": (),
        "allowed_gids": (),
    }
    assert options.DEFAULT_LISTEN == "127.0.0.1:30747"


def test_bridge_has_the_defaults_of_the_server() -> None:
    bridge, server = parser.parse_bridge(["cat"]), parser.parse_server(["cat"])
    for name in bridge.__slots__:
        assert getattr(bridge, name) == getattr(server, name)


@pytest.mark.parametrize("option", ["memory-max=1M", "tasks-max=1", "cpu-weight=1"])
def test_limits_need_a_cgroup(option: str) -> None:
    given = f"--session-{option}"
    name = given.partition("=")[0]
    reason = f"{name}: a cgroup enforces it; leave --session-cgroup off out"
    assert refusal(["--session-cgroup=off", given, "cat"]) == reason
    parser.parse_server(["--session-cgroup=auto", given, "cat"])


def test_all_options_given() -> None:
    config = parser.parse_server(
        "--listen [::1]:8000 --listen unix:/run/a --bind-ipv6-only"
        " --metrics 127.0.0.1:8001 --agent=unix:/run/b"
        " --socket-mode 0660 --workers 2 --drain-timeout 1min --session-cgroup on"
        " --session-memory-max 512M --session-tasks-max 64 --session-cpu-weight 50"
        " --max-sessions 100 --max-sessions-per-source=5 --max-sessions-per-user 3"
        " --max-rate 90/min --max-handshakes 8 --max-handshakes-per-source off"
        " --framing lines,json --stderr log --subprotocol mcp=lines"
        " --session-id-header X-Id"
        " --multiline split --direction receive --read-only --control"
        " --host Example.ORG --host b --origin https://A.example:443"
        " --trusted-proxy 10.0.0.0/8 --trusted-proxy unix --proxy-protocol"
        " --tls-cert /a.pem --tls-key=a.key --tls-cert b.pem --tls-key /b.key"
        " --tls-client-ca ca.pem --tls-client optional --base-path /a/b/"
        " --user-header Remote-User --groups-header=Remote-Groups"
        " --user-certificate cn --allow-uid 0,1000 --allow-uid 33 --allow-gid 100"
        " --authorize http+unix:/run/authorize --authorize-timeout 2"
        " --authorize-fields X-User --allow-anonymous --users ann,bob --groups staff"
        " --require proxy,certificate,local,authorizer"
        " --max-message 64K --max-line 2M --max-output-message 4K"
        " --handshake-timeout 500ms --idle-timeout 1h"
        " --session-timeout 1d --ping-interval off --ping-timeout 3 --linger-timeout 0"
        " --stop-grace 0 --kill-grace 1.5 --pass-env A,B --pass-env C --env X=1=2"
        " --directory /tmp --log-format json --console --web-client"
        " -- sh -c --help".split()
    )
    assert {name: getattr(config, name) for name in config.__slots__} == {
        "command": ("sh", "-c", "--help"),
        "protocol": None,
        "preset": {},
        "framings": ("lines", "json"),
        "stderr": "log",
        "subprotocols": {"mcp": "lines"},
        "session_id_header": "X-Id",
        "multiline": "split",
        "direction": "receive",
        "read_only": True,
        "control": True,
        "hosts": ("example.org", "b"),
        "origins": ("https://a.example",),
        "trusted_proxies": ("10.0.0.0/8", "unix"),
        "proxy_protocol": True,
        "tls_certs": ("/a.pem", f"{os.getcwd()}/b.pem"),
        "tls_keys": (f"{os.getcwd()}/a.key", "/b.key"),
        "tls_client_ca": f"{os.getcwd()}/ca.pem",
        "tls_client": "optional",
        "user_header": "Remote-User",
        "groups_header": "Remote-Groups",
        "user_certificate": "cn",
        "authorize": AuthorizeTarget("http+unix", path="/run/authorize"),
        "authorize_timeout": 2.0,
        "authorize_fields": ("x-user", ""),
        "required": ("proxy", "certificate", "local", "authorizer"),
        "allow_anonymous": True,
        "users": ("ann", "bob"),
        "groups": ("staff",),
        "base_path": "/a/b",
        "max_message": 65536,
        "max_line": 2097152,
        "max_output_message": 4096,
        "handshake_timeout": 0.5,
        "idle_timeout": 3600,
        "session_timeout": 86400,
        "ping_interval": None,
        "ping_timeout": 3,
        "pty": False,
        "linger_timeout": 0,
        "stop_grace": 0,
        "kill_grace": 1.5,
        "pass_env": ("A", "B", "C"),
        "env": {"X": "1=2"},
        "directory": "/tmp",
        "user": None,
        "apps": None,
        "console": True,
        "web_client": True,
        "log_format": "json",
        "listen": ("[::1]:8000", "unix:/run/a"),
        "bind_ipv6_only": True,
        "socket_mode": 0o660,
        "metrics": "127.0.0.1:8001",
        "agent": "unix:/run/b",
        "workers": 2,
        "drain_timeout": 60,
        "session_cgroup": "on",
        "session_memory_max": 512 << 20,
        "session_tasks_max": 64,
        "session_cpu_weight": 50,
        "max_sessions": 100,
        "max_sessions_per_source": 5,
        "max_sessions_per_user": 3,
        "max_rate": 1.5,
        "max_handshakes": 8,
        "max_handshakes_per_source": None,
        "user_range": None,
        "preload": None,
        "spares": 0,
        "spare_age": 600.0,
        "socket": None,
        "allowed_uids": (0, 1000, 33),
        "allowed_gids": (100,),
    }


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        ([], "no COMMAND; name the program to start for each connection"),
        (["--"], "no COMMAND; name the program to start for each connection"),
        ([""], "no COMMAND; name the program to start for each connection"),
        (["--proxy-protocol"], "no COMMAND; name the program to start for each conn"),
        (["--host"], "--host needs a value; write --host NAME"),
        (["--host", "--", "cat"], "--host needs a value; write --host NAME"),
        (["--proxy-protocol=1", "cat"], "--proxy-protocol takes no value"),
        (["--stderr=log", "--stderr=log", "cat"], "--stderr is given twice; give it"),
        (["--fram", "json", "cat"], "--fram is not an option; write --framing"),
        (["--fraimng", "json", "cat"], "--fraimng is not an option; write --framing"),
        (["--ping-", "c"], "write --ping-interval or --ping-timeout"),
        (["--bogus", "cat"], "--bogus is not an option; --help lists the options"),
        (["-5", "cat"], "-5 is not an option; --help lists the options"),
        (
            ["--ping-interval", "20x", "cat"],
            '--ping-interval: "20x" is not a time; write 20, 500ms, 2min or off',
        ),
        (
            ["--framing=lines", "--stderr=client", "cat"],
            "--stderr: lines has no place for standard error; write log or discard",
        ),
        (
            ["--subprotocol=mcp=lines", "--stderr=client", "cat"],
            "--stderr: lines has no place for standard error; write log or discard",
        ),
        (
            ["--framing=json,lsp", "--stderr=client", "cat"],
            "--stderr: lsp has no place for standard error; write log or discard",
        ),
    ],
)
def test_error_tells_the_correction(argv: list[str], text: str) -> None:
    assert text in refusal(argv)


def test_a_client_that_only_sends_gets_no_standard_error() -> None:
    argv = ["--direction=send", "--stderr=client", "cat"]
    text = "--stderr: a client that only sends is told nothing; write log or discard"
    assert refusal(argv) == text


def test_a_client_that_only_watches_is_sent_something() -> None:
    text = (
        "--read-only: --direction send gives a client nothing to read; leave one of "
        "them out"
    )
    assert refusal(["--direction=send", "--read-only", "cat"]) == text
    for argv in (["--read-only"], ["--read-only", "--pty"]):
        config = parser.parse_bridge([*argv, "cat"])
        assert (config.direction, config.client_direction) == ("both", "receive")


def test_preload_comes_instead_of_a_command() -> None:
    config = parser.parse_server(["--preload", "a.b:c.d"])
    assert (config.preload, config.command) == ("a.b:c.d", ())
    text = "--preload comes instead of a COMMAND; leave one of them out"
    assert refusal(["--preload", "a:b", "cat"]) == text
    text = '--preload: "a" is not MODULE:FUNCTION; write game.main:play'
    assert refusal(["--preload", "a"]) == text


@pytest.mark.parametrize("program", [0, 1])
def test_applications_come_instead_of_a_command(program: int) -> None:
    read = PROGRAMS[program][1]
    config = read(["--apps", "/srv/apps"])
    assert isinstance(config, Config)
    assert (config.apps, config.command) == ("/srv/apps", ())
    text = "--apps comes instead of a COMMAND; leave one of them out"
    assert refusal(["--apps", "/srv/apps", "cat"], program) == text
    assert "write /etc/chimirror/apps" in refusal(["--apps", ""], program)


def test_applications_come_instead_of_a_preloaded_one() -> None:
    text = "--preload comes instead of --apps; leave one of them out"
    assert refusal(["--apps", "/srv/apps", "--preload", "a:b"]) == text


def zygote_refusal(*argv: str) -> str:
    with pytest.raises(parser.UsageError) as caught:
        parser.parse_zygote(argv)
    return caught.value.text


def test_zygote() -> None:
    argv = "--socket /run/z --allow-uid 1,2 --allow-uid 3 --kill-grace 1 a:b".split()
    config = parser.parse_zygote(argv)
    assert (config.socket, config.allowed_uids) == ("/run/z", (1, 2, 3))
    assert (config.preload, config.command, config.kill_grace) == ("a:b", (), 1)
    config = parser.parse_zygote(["--", "cat", "-n"])
    assert (config.preload, config.command) == (None, ("cat", "-n"))
    assert zygote_refusal("cat", "-n") == "write -- before a COMMAND: -- cat -n"
    assert '"cat" is not MODULE:FUNCTION' in zygote_refusal("cat")
    assert '"x" is not a user id' in zygote_refusal("--allow-uid", "x", "a:b")
    assert '"@x" is no path' in zygote_refusal("--socket", "@x", "a:b")


def test_bridge_refuses_options_of_other_programs() -> None:
    bridge = {option.name for option in PROGRAMS[0][2]}
    others = [option for option in options.OPTIONS if option.name not in bridge]
    assert len(others) > 5
    for option in others:
        assert f"{option.name} is not an option" in refusal([option.name, "1"], 0)


@pytest.mark.parametrize(("name", "read", "table"), PROGRAMS)
@pytest.mark.parametrize(
    "argv", [["-h"], ["--help"], ["--proxy-protocol", "--help", "cat"]]
)
def test_help_goes_to_standard_output(
    name: str,
    read: Callable[[Sequence[str]], object],
    table: object,
    argv: list[str],
    capfd: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as caught:
        read(argv)
    assert not caught.value.code
    output = capfd.readouterr()
    assert f"\nUsage:\n  {usage.synopsis(name)}\n" in output.out
    assert output.err == ""


def test_version(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parser.parse_bridge(["--version"])
    assert not caught.value.code
    assert capfd.readouterr() == ("chimirror-bridge 0.1.0\n", "")


def test_help_after_the_command_belongs_to_the_application() -> None:
    assert parser.parse_bridge(["cat", "--help"]).command == ("cat", "--help")
    assert parser.parse_bridge(["--", "--help"]).command == ("--help",)


def test_variables_of_the_command_line_win(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    file = tmp_path_factory.mktemp("env") / "secrets"
    file.write_text("A=file\nB=file\n")
    config = parser.parse_bridge(["--env", "A=line", "--env-file", str(file), "cat"])
    assert config.env == {"A": "line", "B": "file"}


def test_error_in_a_file_names_the_line(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    file = tmp_path_factory.mktemp("env") / "secrets"
    file.write_text("A=1\nnonsense\n")
    expected = f"--env-file: {file}:2: no NAME=VALUE here; comments begin with #"
    assert refusal(["--env-file", str(file), "cat"]) == expected


def test_config_cannot_be_changed() -> None:
    config = parser.parse_bridge(["cat"])
    with pytest.raises(AttributeError, match="cannot be changed"):
        config.max_message = 1
    with pytest.raises(AttributeError, match="cannot be changed"):
        del config.max_message


@pytest.mark.parametrize(
    ("argv", "parsers"),
    [
        (["cat"], []),
        (
            ["--framing", "json", "--env", "A=1", "--", "cat"],
            ["chimirror.config.values"],
        ),
        (["--ping-interval", "5", "cat"], ["chimirror.config.quantities"]),
    ],
)
def test_good_command_line_imports_few_modules(
    argv: list[str], parsers: list[str]
) -> None:
    program = (
        "from chimirror.config import parser;"
        f"parser.parse_bridge({argv!r});"
        "print(*sorted(m for m in sys.modules if m.startswith('chimirror')"
        " or m in ('re', 'enum', 'typing', 'docopt', 'os', 'collections', 'json')))"
    )
    # -S and -I, as the bridge is started. The package is found by its directory.
    root = parser.__file__.removesuffix("chimirror/config/parser.py")
    program = f"import sys; sys.path.append({root!r}); {program}"
    loaded = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert loaded == sorted(
        [
            "chimirror",
            "chimirror.config",
            "chimirror.config.options",
            "chimirror.config.parser",
            "chimirror.framing",
            "chimirror.framing.registry",
            *parsers,
        ]
    )


@pytest.mark.parametrize(
    "option",
    options.OPTIONS,
    ids=lambda option: option.name,
)
def test_a_default_equals_its_text(option: options.Option) -> None:
    if option.repeats:
        assert option.value == option.parse([])
    elif option.default is not None:
        assert option.value == option.parse(option.default)
    else:
        assert not option.value


@pytest.mark.parametrize("name", ["HTTP_COOKIE", "REMOTE_ADDR", "PATH_INFO"])
def test_spares_know_no_request(name: str) -> None:
    text = f'--pass-env: "{name}" belongs to a request, and spares start before it; '
    text += "leave it out, or write --spares 0"
    assert refusal(["--spares=1", f"--pass-env={name}", "cat"]) == text
    config = parser.parse_server(["--spares=0", f"--pass-env={name}", "cat"])
    assert config.pass_env == (name,)
    config = parser.parse_server(["--spares=1", "--pass-env=LEVEL,HTTP", "cat"])
    assert (config.spares, config.pass_env) == (1, ("LEVEL", "HTTP"))


@pytest.mark.parametrize("text", ["-1", "1025", "x", "1.5", ""])
def test_the_number_of_spares_is_bounded(text: str) -> None:
    reason = f'--spares: "{text}" is not from 0 to 1024; write 4'
    assert refusal([f"--spares={text}", "cat"]) == reason


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("--tls-key=k", "--tls-key: there is no certificate; add --tls-cert"),
        (
            "--tls-client-ca=c",
            "--tls-client-ca: there is no certificate; add --tls-cert",
        ),
        ("--tls-cert=", "--tls-cert: no file is named; write its path"),
        (
            "--tls-cert=a --tls-cert=b --tls-key=k",
            (
                "--tls-key: each --tls-cert needs one; 2 of those are given, and 1 of "
                "these"
            ),
        ),
        (
            "--tls-cert=a --tls-client=yes",
            '--tls-client: "yes" is not known; write required or optional',
        ),
    ],
)
def test_tls_options_that_do_not_fit(line: str, text: str) -> None:
    assert refusal([*line.split(), "cat"]) == text


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (
            ["--metrics=127.0.0.1:1", "--agent=127.0.0.1:1"],
            '--agent: "127.0.0.1:1" is the address of --metrics; write another one',
        ),
        (
            ["--listen=unix:/a", "--listen=unix:/b", "--metrics=unix:/b"],
            '--metrics: "unix:/b" is the address of --listen; write another one',
        ),
        (
            ["--metrics=9100"],
            '--metrics: "9100" is not an address and port; write 127.0.0.1:9100',
        ),
    ],
)
def test_addresses_of_endpoints(options: list[str], reason: str) -> None:
    assert refusal([*options, "cat"]) == reason


def test_the_kernel_chooses_a_port_for_each_endpoint() -> None:
    parser.parse_server(["--metrics=127.0.0.1:0", "--agent=127.0.0.1:0", "cat"])
