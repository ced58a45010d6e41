"""chimirror-ctl add and remove: files that can be served, or units of one's own."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest

from chimirror import appfile, options
from chimirror.ctl import owned, ownunits, systemd, tomltext
from chimirror.ctl.failure import Failure
from chimirror.ctl.main import run
from hosts import Machine, Screen

UNITS = Path(__file__).parent.parent / "systemd"
NAME_SOCKET = "chimirror-game.socket"
SYSTEMCTL = f"""\
case $1 in
    show)
        case $* in *FragmentPath*)
            case $* in
                *chimirror.socket) name=chimirror.socket ;;
                *chimirror.slice) name=chimirror.slice ;;
                *) name=chimirror@.service ;;
            esac
            echo "Id=$name"
            echo "FragmentPath={UNITS}/$name" ;;
        *{NAME_SOCKET})
            echo "Id={NAME_SOCKET}"
            echo "LoadState=${{THERE:-not-found}}" ;;
        *)
            for name in chimirror.socket chimirror@chimirror-ctl.service; do
                echo "Id=$name"
                echo LoadState=loaded
                echo
            done ;;
        esac ;;
esac
"""


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    found = Machine(tmp_path)
    found.program("systemctl", SYSTEMCTL)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    return found


def ctl(machine: Machine, line: str, *command: str) -> str:
    screen = Screen()
    words = [*shlex.split(line), *(("--", *command) if command else ())]
    assert run(words, machine.host, screen) == os.EX_OK
    return screen.text


def refused(machine: Machine, line: str, *command: str) -> tuple[int, str]:
    with pytest.raises(Failure) as caught:
        ctl(machine, line, *command)
    return caught.value.status, str(caught.value)


def apps(machine: Machine) -> Path:
    return machine.directory / "etc/chimirror/apps"


def files(directory: Path) -> list[str]:
    found = (path.relative_to(directory) for path in directory.rglob("*"))
    return sorted(str(path) for path in found)


# Files


def test_a_file_is_written_and_compiled(
    machine: Machine, capfd: pytest.CaptureFixture[str]
) -> None:
    said = ctl(machine, "add animals --set framing=lines,json", "python3", "a b", '"x"')
    path = apps(machine) / "animals.toml"
    assert said == f"{path}: written\n"
    assert "CHIMIRROR_COMMAND=--apps" in capfd.readouterr().err
    assert path.stat().st_mode & 0o777 == 0o644
    source = appfile.read(str(apps(machine)), "animals")
    assert source
    assert source.is_compiled
    assert source.fields == {
        "command": ("python3", "a b", '"x"'),
        "framings": ("lines", "json"),
    }
    assert files(apps(machine)) == [".compiled", ".compiled/animals", "animals.toml"]


def test_whatever_the_umask_says(machine: Machine) -> None:
    before = os.umask(0o077)
    try:
        ctl(machine, "add a", "cat")
    finally:
        os.umask(before)
    assert (apps(machine) / "a.toml").stat().st_mode & 0o777 == 0o644


def test_nothing_is_to_be_said_where_it_is_served(
    machine: Machine, capfd: pytest.CaptureFixture[str]
) -> None:
    line = f"CHIMIRROR_COMMAND=--apps {apps(machine)}\n"
    machine.write("etc/chimirror/chimirror.conf", line)
    ctl(machine, "add a", "cat")
    assert capfd.readouterr().err == ""


def test_everything_a_file_can_say(machine: Machine) -> None:
    place = machine.directory / "elsewhere"
    ctl(
        machine,
        f"add a --apps {place} --set env.A=1 --set env.B_2='x \"y\"' --set pty=true"
        " --set subprotocol.a.b=json --set origin=https://a.example"
        " --set origin=https://b.example --set max-sessions=3 --set interface.title=A"
        """ --set 'interface.send.schema={"type":"object","required":["a.b"]}'"""
        """ --set 'interface.send.examples=[{"a.b":1.5}, true]'""",
        "cat",
    )
    source = appfile.read(str(place), "a")
    assert source
    assert source.fields == {
        "command": ("cat",),
        "env": {"A": "1", "B_2": 'x "y"'},
        "pty": True,
        "subprotocols": {"a.b": "json"},
        "origins": ("https://a.example", "https://b.example"),
        "max_sessions": 3,
        "interface": {
            "title": "A",
            "send_schema": {"type": "object", "required": ["a.b"]},
            "send_examples": ({"a.b": 1.5}, True),
        },
    }


WRONG = [
    ("add .a", '".a" is no name; write up to 64 letters, digits'),
    ("add a/b", '"a/b" is no name'),
    ("add a --set framing", '--set: "framing" is not KEY=VALUE; write framing=lines'),
    ("add a --set framing=xml", 'framing: "xml" is not a framing; write json, stdio'),
    ("add a --set framig=json", 'framig: "framig" is no key here; write framing'),
    ("add a --set command=cat", "stands behind --: -- COMMAND"),
    ("add a --set stderr=log --set stderr=log", "is given twice; give each key once"),
    ("add a --set env=x", 'env: a string; write env = { NAME = "value" }'),
    ("add a --set pty=1", "pty"),
    ("add a --set interface.send.schema=x", "is not JSON"),
    ("add a --set interface.send.examples='[null]'", "null has no form"),
    ("add a --set stderr=client --set framing=lines", "--stderr: lines has no place"),
]


@pytest.mark.parametrize(("line", "said"), WRONG)
@pytest.mark.parametrize("own", ["", " --own-socket 127.0.0.1:4000"])
def test_nothing_is_written_that_could_not_be_served(
    line: str, said: str, own: str, machine: Machine
) -> None:
    status, text = refused(machine, line + own, "cat")
    assert said in text
    assert status == os.EX_USAGE
    assert not apps(machine).exists()
    assert not (machine.directory / "etc/systemd").exists()


def test_nothing_is_written_over(machine: Machine) -> None:
    ctl(machine, "add a", "cat")
    status, text = refused(machine, "add a", "dog")
    assert status == os.EX_CANTCREAT
    assert text.endswith("a.toml is there already; edit it, or chimirror-ctl remove a")
    assert "cat" in (apps(machine) / "a.toml").read_text()
    assert files(apps(machine)) == [".compiled", ".compiled/a", "a.toml"]


def test_a_file_is_taken_away(machine: Machine) -> None:
    ctl(machine, "add a", "cat")
    ctl(machine, "add b", "cat")
    path = apps(machine) / "a.toml"
    said = f"{path}: removed; its sessions go on to their ends\n"
    assert ctl(machine, "remove a") == said
    assert files(apps(machine)) == [".compiled", ".compiled/b", "b.toml"]
    status, text = refused(machine, "remove a")
    assert (status, text[:31]) == (
        os.EX_NOINPUT,
        "there is no application a in " + "/t",
    )
    (apps(machine) / ".compiled/b").unlink()
    ctl(machine, "remove b")
    assert refused(machine, "remove ../b")[0] == os.EX_USAGE


# Units


def own(machine: Machine) -> Path:
    return machine.directory / "etc/systemd/system"


def test_units_are_copies_and_drop_ins(machine: Machine) -> None:
    said = ctl(
        machine,
        "add game --own-socket 127.0.0.1:4000 --set framing=stdio --set env.A='x y'"
        " --set session-timeout=1h --set pty=true --set subprotocol.mcp=json",
        *("/usr/bin/python3", "-c", 'print("$HOME `x` \\ %")'),
    )
    assert said.splitlines()[-1] == f"now: systemctl enable --now {NAME_SOCKET}"
    assert files(own(machine)) == [
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
        assert (own(machine) / copy).read_text() == owned.MARK + text
    socket = (own(machine) / f"{NAME_SOCKET}.d/10-own.conf").read_text()
    assert socket.endswith("[Socket]\nListenStream=\nListenStream=127.0.0.1:4000\n")
    place = own(machine) / "chimirror-game@.service.d"
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
    text = (own(machine) / f"{NAME_SOCKET}.d/10-own.conf").read_text()
    assert text.endswith(f"ListenStream={listen}\n")


@pytest.mark.parametrize(
    ("line", "said", "status"),
    [
        ("game --own-socket 4000", '"4000" is no address; write 127', os.EX_USAGE),
        ("game --own-socket localhost:1", "is no address", os.EX_USAGE),
        ("game --own-socket 127.0.0.1", "is no address", os.EX_USAGE),
        ("game --own-socket unix:run", "is no address", os.EX_USAGE),
        ("a--b --own-socket 127.0.0.1:1", "cannot name a slice", os.EX_USAGE),
        ("a- --own-socket 127.0.0.1:1", "cannot name a slice", os.EX_USAGE),
        (
            "game --own-socket 127.0.0.1:1 --set interface.title=x",
            "units have no place for an interface",
            os.EX_USAGE,
        ),
    ],
)
def test_units_that_cannot_be(
    line: str, said: str, status: int, machine: Machine
) -> None:
    found = refused(machine, f"add {line}", "cat")
    assert said in found[1]
    assert found[0] == status
    assert not own(machine).exists()


@pytest.mark.parametrize(
    ("command", "said"), [(("-x",), "is no program"), (("a", "b\nc"), "have no place")]
)
def test_commands_that_units_cannot_have(
    command: tuple[str, ...], said: str, machine: Machine
) -> None:
    line = "add game --own-socket 127.0.0.1:1"
    assert said in refused(machine, line, *command)[1]
    assert not own(machine).exists()


def test_units_that_are_there(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THERE", "loaded")
    status, text = refused(machine, "add game --own-socket 127.0.0.1:1", "cat")
    assert (status, NAME_SOCKET in text) == (os.EX_CANTCREAT, True)
    assert not own(machine).exists()


def test_units_are_taken_away_and_what_an_operator_has_set_is_not(
    machine: Machine,
) -> None:
    ctl(machine, "add game --own-socket 127.0.0.1:1", "cat")
    (own(machine) / f"{NAME_SOCKET}.d/override.conf").write_text("[Socket]\n")
    (own(machine) / "chimirror-other.socket").write_text("[Socket]\n")
    for top, name in (("etc", "50-ctl"), ("run", "60-ctl")):
        place = f"{top}/systemd/system/chimirror-game@.service.d/{name}"
        machine.write(f"{place}.conf", "[Service]\n")
        machine.write(f"{place}.env", "CHIMIRROR_MAX_SESSIONS=5\n")
    said = ctl(machine, "remove game")
    kept = f"{own(machine)}/{NAME_SOCKET}.d"
    assert f"{kept}: left, as there is more in it\n" in said
    assert files(own(machine)) == [
        "chimirror-game.socket.d",
        "chimirror-game.socket.d/override.conf",
        "chimirror-other.socket",
    ]
    assert files(machine.directory / "run/systemd/system") == []
    log = (machine.directory / "systemctl.log").read_text()
    assert f"disable --now {NAME_SOCKET}\nstop chimirror-game.slice\n" in log
    for name in ("game", "other"):
        assert refused(machine, f"remove {name}")[0] == os.EX_NOINPUT


def test_copies_of_what_was_before(machine: Machine) -> None:
    ctl(machine, "add game --own-socket 127.0.0.1:1", "cat")
    (one,) = ownunits.review(machine.host)
    assert (one.verdict, one.about) == ("good", "application game")
    with (own(machine) / "chimirror-game@.service").open("a") as file:
        file.write("# older\n")
    (own(machine) / "chimirror-game.slice").unlink()
    found = list(ownunits.review(machine.host))
    assert [one.verdict for one in found] == ["doubtful", "doubtful"]
    assert "chimirror-ctl remove game, and add it again" in found[0].advice


def test_a_word_is_split_off_as_systemd_does() -> None:
    """The other way round is in test_ctl_applications_live."""
    assert systemd.application("chimirror-game@1.service") == "game"
    words = ["a", "b c", 'd"e', "f\\g", "", "%", "'"]
    assert shlex.split(" ".join(map(ownunits._word, words))) == words
    assert options.bridge(["--env", "A=b c", "--", "x"]).env == {"A": "b c"}


def test_what_toml_has_no_form_for() -> None:
    assert tomltext.value({"a b": [1, 1.5, True, "\x7f"]}) == (
        '{ "a b" = [1, 1.5, true, "\\u007f"] }'
    )
    with pytest.raises(ValueError, match="null has no form"):
        tomltext.value([None])
