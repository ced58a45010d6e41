"""chimirror-ctl add and remove: application files, and units of an application."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest

from chimirror.apps import application_file
from chimirror.config import parser
from chimirror.ctl import systemd, toml_writer, unit_files, unit_names
from chimirror.ctl.main import run
from chimirror.ctl.messages import CommandError, merged
from fake_host import Machine, Screen

UNITS = Path(__file__).parents[3] / "systemd"
NAME_SOCKET = "chimirror-game.socket"
FAULT = '{"name":"","text":"no such thing","cure":"write another","absent":[]}'
SYSTEMCTL = f"""\
case $1 in
    show)
        case $* in
        *chimirror-server.socket*)
            for name in chimirror.socket chimirror@chimirror-ctl.service \
                chimirror-server.socket chimirror-server.service; do
                echo "Id=$name"
                echo LoadState=loaded
                echo
            done ;;
        *FragmentPath*)
            case $* in
                *chimirror.socket) name=chimirror.socket ;;
                *chimirror.slice) name=chimirror.slice ;;
                *) name=chimirror@.service ;;
            esac
            echo "Id=$name"
            echo "FragmentPath={UNITS}/$name" ;;
        *{NAME_SOCKET})
            echo "Id={NAME_SOCKET}"
            echo "LoadState=${{THERE:-not-found}}"
            echo "ActiveState=${{ACTIVE:-active}}"
            echo "UnitFileState=${{ENABLED:-enabled}}" ;;
        *)
            for name in chimirror.socket chimirror@chimirror-ctl.service; do
                echo "Id=$name"
                echo LoadState=loaded
                echo
            done ;;
        esac ;;
    cat)
        cat {UNITS}/chimirror@.service ;;
esac
"""


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    found = Machine(tmp_path)
    found.program("systemctl", SYSTEMCTL)
    found.program("systemd-run", 'printf "%s" "$PROBED"')
    monkeypatch.delenv("PROBED", raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    return found


only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may set a user")


def ctl(machine: Machine, line: str, *command: str) -> str:
    screen = Screen()
    words = [*shlex.split(line), *(("--", *command) if command else ())]
    assert run(words, machine.host, screen) == os.EX_OK
    return screen.text


def refused(machine: Machine, line: str, *command: str) -> tuple[int, str]:
    with pytest.raises(CommandError) as caught:
        ctl(machine, line, *command)
    return caught.value.status, str(caught.value)


def apps(machine: Machine) -> Path:
    return machine.directory / "etc/chimirror/apps"


def files(directory: Path) -> list[str]:
    found = (path.relative_to(directory) for path in directory.rglob("*"))
    return sorted(str(path) for path in found)


# Files


def test_a_file_is_written(machine: Machine, capfd: pytest.CaptureFixture[str]) -> None:
    message = ctl(
        machine, "add animals --set framing=lines,json", "python3", "a b", '"x"'
    )
    path = apps(machine) / "animals.toml"
    assert message == f"{path}: written\n"
    assert "CHIMIRROR_COMMAND=--apps" in capfd.readouterr().err
    assert path.stat().st_mode & 0o777 == 0o644
    source = application_file.load(str(apps(machine)), "animals")
    assert source
    assert source.fields == {
        "command": ("python3", "a b", '"x"'),
        "framings": ("lines", "json"),
    }
    assert files(apps(machine)) == ["animals.toml"]


def test_files_are_readable_despite_the_umask(machine: Machine) -> None:
    before = os.umask(0o077)
    try:
        ctl(machine, "add a", "cat")
    finally:
        os.umask(before)
    assert (apps(machine) / "a.toml").stat().st_mode & 0o777 == 0o644


def test_no_warning_if_the_directory_is_served(
    machine: Machine, capfd: pytest.CaptureFixture[str]
) -> None:
    line = f"CHIMIRROR_COMMAND=--apps {apps(machine)}\n"
    machine.write("etc/chimirror/chimirror.conf", line)
    ctl(machine, "add a", "cat")
    assert capfd.readouterr().err == ""


def test_every_key_of_a_file(machine: Machine) -> None:
    place = machine.directory / "elsewhere"
    ctl(
        machine,
        f"add a --apps {place} --set env.A=1 --set env.B_2='x \"y\"' --set pty=true"
        " --set subprotocol.a.b=json --set origin=https://a.example"
        " --set origin=https://b.example --set max-sessions=3 --set interface.title=A"
        " --set users=ann --set users=bob --set groups=staff"
        """ --set 'interface.send.schema={"type":"object","required":["a.b"]}'"""
        """ --set 'interface.send.examples=[{"a.b":1.5}, true]'""",
        "cat",
    )
    source = application_file.load(str(place), "a")
    assert source
    assert source.fields == {
        "command": ("cat",),
        "env": {"A": "1", "B_2": 'x "y"'},
        "pty": True,
        "subprotocols": {"a.b": "json"},
        "origins": ("https://a.example", "https://b.example"),
        "max_sessions": 3,
        "users": ("ann", "bob"),
        "groups": ("staff",),
        "interface": {
            "title": "A",
            "send_schema": {"type": "object", "required": ["a.b"]},
            "send_examples": ({"a.b": 1.5}, True),
        },
    }


@only_root
def test_a_user(machine: Machine) -> None:
    ctl(machine, "add a --set user=1879200001", "cat")
    source = application_file.load(str(apps(machine)), "a")
    assert source
    assert source.fields == {"command": ("cat",), "user": "1879200001"}


WRONG = [
    ("add .a", '".a" is not a name; write up to 64 letters, digits'),
    ("add a/b", '"a/b" is not a name'),
    (f"add a --set interface.send.schema={'[' * 9000}", 'schema" is not JSON'),
    (f"add a --set interface.send.schema={'9' * 9000}", 'schema" is not JSON'),
    (
        """add a --set 'interface.send.schema={"const":"\\ud800"}'""",
        "surrogates not allowed",
    ),
    ("add a --set framing", '--set: "framing" is not KEY=VALUE; write framing=lines'),
    ("add a --set framing=xml", 'framing: "xml" is not a framing; write json, stdio'),
    ("add a --set protocol=mpc", 'protocol: "mpc" is not a protocol with a preset; '),
    ("add a --set protocol=acp --set pty=true", "--pty: lines has no place for what"),
    ("add a --set framig=json", 'framig: "framig" is no key here; write framing'),
    ("add a --set command=cat", "belongs after --: -- COMMAND"),
    ("add a --set stderr=log --set stderr=log", "is given twice; give each key once"),
    ("add a --set env=x", 'env: a string; write env = { NAME = "value" }'),
    ("add a --set pty=1", "pty"),
    ("add a --set user=no-such-user", '--user: there is no user "no-such-user"'),
    ("add a --set interface.send.schema=x", "is not JSON"),
    ("add a --set interface.send.examples='[null]'", "cannot hold null"),
    ("add a --set stderr=client --set framing=lines", "--stderr: lines has no place"),
]


@pytest.mark.parametrize(("line", "message"), WRONG)
@pytest.mark.parametrize("units", ["", " --own-socket 127.0.0.1:4000"])
def test_invalid_files_are_not_written(
    line: str, message: str, units: str, machine: Machine
) -> None:
    status, text = refused(machine, line + units, "cat")
    assert message in text
    assert status == os.EX_USAGE
    assert not apps(machine).exists()
    assert not (machine.directory / "etc/systemd").exists()


def test_files_are_not_replaced(machine: Machine) -> None:
    ctl(machine, "add a", "cat")
    status, text = refused(machine, "add a", "tac")
    assert status == os.EX_CANTCREAT
    assert text.endswith("a.toml exists; edit it, or write chimirror-ctl remove a")
    assert "cat" in (apps(machine) / "a.toml").read_text()
    assert files(apps(machine)) == ["a.toml"]


def test_a_file_is_removed(machine: Machine) -> None:
    ctl(machine, "add a", "cat")
    ctl(machine, "add b", "cat")
    path = apps(machine) / "a.toml"
    message = f"{path}: removed; its sessions continue to their ends\n"
    assert ctl(machine, "remove a") == message
    assert files(apps(machine)) == ["b.toml"]
    status, text = refused(machine, "remove a")
    assert (status, text[:22]) == (os.EX_NOINPUT, "no application a in /t")
    ctl(machine, "remove b")
    assert refused(machine, "remove ../b")[0] == os.EX_USAGE


# Units


def unit_directory(machine: Machine) -> Path:
    return machine.directory / "etc/systemd/system"


def test_units_are_copies_and_drop_ins(machine: Machine) -> None:
    message = ctl(
        machine,
        "add game --own-socket 127.0.0.1:4000 --set framing=stdio --set env.A='x y'"
        " --set session-timeout=1h --set pty=true --set subprotocol.mcp=json",
        *("/usr/bin/python3", "-c", 'print("$HOME `x` \\ %")'),
    )
    assert message.splitlines()[-1] == f"now: systemctl enable --now {NAME_SOCKET}"
    assert files(unit_directory(machine)) == [
        "chimirror-game.slice",
        "chimirror-game.slice.d",
        "chimirror-game.slice.d/10-own.conf",
        "chimirror-game.socket",
        "chimirror-game.socket.d",
        "chimirror-game.socket.d/10-own.conf",
        "chimirror-game@.service",
        "chimirror-game@.service.d",
        "chimirror-game@.service.d/10-own.conf",
        "chimirror-game@.service.d/10-own.env",
    ]
    for copy, model in (
        ("chimirror-game.socket", "chimirror.socket"),
        ("chimirror-game@.service", "chimirror@.service"),
        ("chimirror-game.slice", "chimirror.slice"),
    ):
        text = (UNITS / model).read_text()
        assert (unit_directory(machine) / copy).read_text() == unit_names.MARK + text
    socket = (unit_directory(machine) / f"{NAME_SOCKET}.d/10-own.conf").read_text()
    assert socket.endswith("[Socket]\nListenStream=\nListenStream=127.0.0.1:4000\n")
    place = unit_directory(machine) / "chimirror-game@.service.d"
    assert (
        f"EnvironmentFile=\nEnvironmentFile={place}/10-own.env\n"
        in (place / "10-own.conf").read_text()
    )
    assert (place / "10-own.env").read_text() == (
        'CHIMIRROR_SESSION_TIMEOUT="1h"\n'
        'CHIMIRROR_OPTIONS="--framing stdio --env \\"A=x y\\" --pty '
        '--subprotocol mcp=json"\n'
        'CHIMIRROR_COMMAND="/usr/bin/python3 -c \\"print(\\\\\\"\\$HOME \\`x\\` '
        '\\\\\\\\ %\\\\\\")\\""\n'
    )
    assert "daemon-reload" in (machine.directory / "systemctl.log").read_text()


@pytest.mark.parametrize(
    ("where", "listen"),
    [
        ("127.0.0.1:1", "127.0.0.1:1"),
        ("[::1]:65535", "[::1]:65535"),
        ("unix:/run/a%b", "/run/a%%b"),
    ],
)
def test_addresses(where: str, listen: str, machine: Machine) -> None:
    ctl(machine, f"add game --own-socket {where}", "cat")
    text = (unit_directory(machine) / f"{NAME_SOCKET}.d/10-own.conf").read_text()
    assert text.endswith(f"ListenStream={listen}\n")


@pytest.mark.parametrize(
    ("line", "message", "status"),
    [
        ("game --own-socket 4000", '"4000" is not an address; write 127', os.EX_USAGE),
        ("game --own-socket localhost:1", "is not an address", os.EX_USAGE),
        ("game --own-socket 127.0.0.1", "is not an address", os.EX_USAGE),
        ("game --own-socket unix:run", "is not an address", os.EX_USAGE),
        ("a--b --own-socket 127.0.0.1:1", "cannot name a slice", os.EX_USAGE),
        ("a- --own-socket 127.0.0.1:1", "cannot name a slice", os.EX_USAGE),
        (
            "game --own-socket 127.0.0.1:1 --set interface.title=x",
            "units cannot hold an interface",
            os.EX_USAGE,
        ),
        pytest.param(
            "game --own-socket 127.0.0.1:1 --set user=1000",
            "sessions of units have users of their own",
            os.EX_USAGE,
            marks=only_root,
        ),
    ],
)
def test_invalid_units(line: str, message: str, status: int, machine: Machine) -> None:
    found = refused(machine, f"add {line}", "cat")
    assert message in found[1]
    assert found[0] == status
    assert not unit_directory(machine).exists()


@pytest.mark.parametrize(
    ("command", "message"),
    [(("-x",), "is not a program"), (("a", "b\nc"), "cannot hold")],
)
def test_invalid_commands_of_units(
    command: tuple[str, ...], message: str, machine: Machine
) -> None:
    line = "add game --own-socket 127.0.0.1:1"
    assert message in refused(machine, line, *command)[1]
    assert not unit_directory(machine).exists()


def test_existing_units(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THERE", "loaded")
    status, text = refused(machine, "add game --own-socket 127.0.0.1:1", "cat")
    assert (status, NAME_SOCKET in text) == (os.EX_CANTCREAT, True)
    assert not unit_directory(machine).exists()


def test_remove_keeps_files_of_the_operator(
    machine: Machine,
) -> None:
    ctl(machine, "add game --own-socket 127.0.0.1:1", "cat")
    (unit_directory(machine) / f"{NAME_SOCKET}.d/override.conf").write_text(
        "[Socket]\n"
    )
    (unit_directory(machine) / "chimirror-other.socket").write_text("[Socket]\n")
    for top, name in (("etc", "50-ctl"), ("run", "60-ctl")):
        place = f"{top}/systemd/system/chimirror-game@.service.d/{name}"
        machine.write(f"{place}.conf", "[Service]\n")
        machine.write(f"{place}.env", "CHIMIRROR_MAX_SESSIONS=5\n")
    message = ctl(machine, "remove game")
    kept = f"{unit_directory(machine)}/{NAME_SOCKET}.d"
    assert f"{kept}: kept, since it holds other files\n" in message
    assert files(unit_directory(machine)) == [
        "chimirror-game.socket.d",
        "chimirror-game.socket.d/override.conf",
        "chimirror-other.socket",
    ]
    assert files(machine.directory / "run/systemd/system") == []
    log = (machine.directory / "systemctl.log").read_text()
    closing = "kill --kill-whom=main --signal=USR2 -- chimirror-game@*.service"
    assert f"--now {NAME_SOCKET}\n{closing}\nstop chimirror-game.slice\n" in log
    for name in ("game", "other"):
        assert refused(machine, f"remove {name}")[0] == os.EX_NOINPUT


def test_outdated_copies(machine: Machine) -> None:
    ctl(machine, "add game --own-socket 127.0.0.1:1", "cat")
    (finding,) = merged(unit_files.review(machine.host))
    assert (finding.verdict, finding.about) == ("good", "application game")
    with (unit_directory(machine) / "chimirror-game@.service").open("a") as file:
        file.write("# older\n")
    (unit_directory(machine) / "chimirror-game.slice").unlink()
    (finding,) = merged(unit_files.review(machine.host))
    assert finding.verdict == "doubtful"
    for unit in ("chimirror-game@.service", "chimirror-game.slice"):
        assert f"{unit} differs from the unit that is installed now" in finding.text
    copy = unit_directory(machine) / "chimirror-game@.service"
    assert finding.file == str(copy)
    assert finding.line == len(copy.read_text().splitlines())
    assert finding.advice == "chimirror-ctl remove game, then add it again"


@pytest.mark.parametrize(
    ("name", "value", "verdict", "text"),
    [
        ("ACTIVE", "inactive", "bad", f"{NAME_SOCKET} is not started: it accepts"),
        ("ENABLED", "disabled", "doubtful", "until the machine restarts"),
        ("PROBED", FAULT, "bad", "chimirror-game@.service: no such thing"),
    ],
)
def test_the_state_of_units(
    machine: Machine,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    value: str,
    verdict: str,
    text: str,
) -> None:
    ctl(machine, "add game --own-socket 127.0.0.1:1", "cat")
    monkeypatch.setenv(name, value)
    (finding,) = merged(unit_files.review(machine.host))
    assert (finding.verdict, finding.about) == (verdict, "application game")
    assert text in finding.text


@pytest.mark.parametrize("line", ["add game", "add game --own-socket 127.0.0.1:1"])
def test_nothing_is_written_that_the_units_cannot_start(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    conf = f"CHIMIRROR_COMMAND=--apps {apps(machine)}\n"
    machine.write("etc/chimirror/chimirror.conf", conf)
    monkeypatch.setenv("PROBED", FAULT)
    status, text = refused(machine, line, "cat", "$HOME")
    assert status == os.EX_USAGE
    assert text == "game: chimirror@.service: no such thing; write another"
    assert not apps(machine).exists()
    assert not unit_directory(machine).exists()
    (asked,) = (machine.directory / "systemd-run.log").read_text().splitlines()
    assert "--property=ProtectHome=yes" in asked
    assert asked.endswith("-- cat $$HOME")
    assert "$CHIMIRROR" not in asked


def test_no_file_is_written_for_a_program_that_is_not_there(machine: Machine) -> None:
    for command in (["nosuch"], ["/no/such"], ["./nosuch"]):
        status, text = refused(machine, "add a", *command)
        assert (status, "there is no" in text) == (os.EX_USAGE, True)
    status, text = refused(machine, "add a --set directory=/no/such", "cat")
    assert (status, "/no/such: No such file" in text) == (os.EX_USAGE, True)
    assert not apps(machine).exists()


def test_words_are_quoted_for_systemd() -> None:
    """The reverse, splitting by systemd, is in tests/systemd/test_ctl_apps.py."""
    assert systemd.application("chimirror-game@1.service") == "game"
    words = ["a", "b c", 'd"e', "f\\g", "", "%", "'"]
    assert shlex.split(" ".join(map(unit_files._word, words))) == words
    assert parser.parse_bridge(["--env", "A=b c", "--", "x"]).env == {"A": "b c"}


def test_values_that_toml_cannot_hold() -> None:
    assert toml_writer.value({"a b": [1, 1.5, True, "\x7f"]}) == (
        '{ "a b" = [1, 1.5, true, "\\u007f"] }'
    )
    with pytest.raises(ValueError, match="cannot hold null"):
        toml_writer.value([None])
