"""check: what it finds, and that each fault is told with what to do."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from chimirror.ctl import check, finding, journal
from chimirror.ctl.main import run
from hosts import Machine, Screen

# A machine that is set up right; `sed` makes it a worse one.
SYSTEMCTL = """\
case "$*" in
    --version) echo "systemd 252 (252.39-1~deb12u2)"; exit ;;
    list-units*) printf "%b" "$FAILED"; exit ;;
    *'-- chimirror.slice') units=chimirror.slice ;;
    *'-- chimirror@chimirror-ctl.service') units=chimirror@chimirror-ctl.service ;;
    *'-- chimirror.socket') units=chimirror.socket ;;
    *) units='chimirror.socket chimirror-server.socket chimirror@chimirror-ctl.service
        chimirror-server.service chimirror.slice' ;;
esac
for unit in $units; do
    echo Id=$unit; echo LoadState=loaded; echo ActiveState=active
    echo UnitFileState=enabled; echo TasksMax=infinity; echo MaxConnections=1200
    echo Environment=CHIMIRROR_MAX_SESSIONS=1000; echo
done | sed "$CHANGE"
"""


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    found = Machine(tmp_path)
    found.program("systemctl", SYSTEMCTL)
    found.program("systemd-analyze", "printf '%b' \"$VERIFIED\" >&2; exit $WRONG")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    for name in ("CHANGE", "FAILED", "VERIFIED"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("WRONG", "0")
    found.write("etc/chimirror/chimirror.conf", "CHIMIRROR_COMMAND=cat -u\n")
    found.write("log/journal/0123/system.journal", "")
    for name in ("kernel/pid_max", "kernel/threads-max", "fs/file-max"):
        found.write(f"proc/sys/{name}", "4194304\n")
    place = found.runtime / "sessions"
    place.chmod(0o1730)
    monkeypatch.setattr(check, "GROUP", place.group())
    monkeypatch.setattr(journal, "_reader_class", lambda: Readable)
    return found


class Readable:
    """A journal; a real one is read in test_ctl_live.py."""

    def close(self) -> None:
        """As a Reader is."""


def found(machine: Machine) -> tuple[int, dict[str, dict[str, str]]]:
    """The exit status, and what was found, the good of it left out."""
    screen = Screen()
    status = run(["check", "--json"], machine.host, screen)
    told = json.loads(screen.text)
    assert all(one["advice"] for one in told if one["verdict"] != finding.GOOD)
    assert all(not one["advice"] for one in told if one["verdict"] == finding.GOOD)
    return status, {one["about"]: one for one in told if one["verdict"] != finding.GOOD}


@pytest.mark.skipif(os.geteuid() != 0, reason="the directory is to be root's")
def test_all_is_well(machine: Machine) -> None:
    assert found(machine) == (os.EX_OK, {})


def variable(name: str, value: str) -> Callable[[Machine, pytest.MonkeyPatch], None]:
    return lambda machine, monkeypatch: monkeypatch.setenv(name, value)


def file(name: str, text: str) -> Callable[[Machine, pytest.MonkeyPatch], None]:
    return lambda machine, monkeypatch: void(machine.write(name, text))


def void(value: object) -> None:
    """Forget a value."""


def gone(name: str) -> Callable[[Machine, pytest.MonkeyPatch], None]:
    def remove(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
        path = machine.directory / name
        path.rename(path.with_name(f"was-{path.name}"))

    return remove


@pytest.mark.parametrize(
    ("spoil", "about", "verdict", "said"),
    [
        (
            variable("CHANGE", "/Id=chimirror.slice/,$ s/=loaded/=not-found/"),
            *("chimirror.slice", "bad", "it is not-found"),
        ),
        (
            variable("CHANGE", "/Id=chimirror-server.service/,$ s/=loaded/=masked/"),
            *("chimirror-server.service", "bad", "it is masked"),
        ),
        (
            variable("CHANGE", "/Id=chimirror.slice/,$ s/=loaded/=bad-setting/"),
            *("chimirror.slice", "bad", "it is bad-setting"),
        ),
        (
            variable("CHANGE", "s/=active/=failed/"),
            *("chimirror.socket", "bad", "accepts nothing"),
        ),
        (
            variable("CHANGE", "s/=active/=inactive/"),
            *("sockets", "doubtful", "none accepts connections"),
        ),
        (
            variable("CHANGE", "s/=enabled/=disabled/"),
            *("chimirror.socket", "doubtful", "until the machine restarts"),
        ),
        (
            variable("CHANGE", "s/MAX_SESSIONS=1000/MAX_SESSIONS=1200/"),
            *("sessions", "bad", "systemd hangs up after 1200"),
        ),
        (
            variable("CHANGE", "s/CHIMIRROR_MAX/OTHER/"),
            *("sessions", "bad", "CHIMIRROR_MAX_SESSIONS is not set"),
        ),
        (
            variable("CHANGE", "s/TasksMax=infinity/TasksMax=1500/"),
            *("chimirror.slice", "doubtful", "2000 tasks, 1500 are allowed"),
        ),
        (
            variable("FAILED", "a\\nb\\n"),
            *("chimirror@.service", "doubtful", "2 failed are kept"),
        ),
        (
            variable("VERIFIED", "chimirror.socket:7: Unknown key\\n"),
            *("units", "doubtful", "Unknown key"),
        ),
        (
            file("etc/chimirror/chimirror.conf", "CHIMIRROR_COMMAND\n"),
            *("application", "doubtful", "chimirror.conf:1: "),
        ),
        (
            file(
                "etc/chimirror/chimirror.conf",
                "CHIMIRROR_OPTIONS=--session-timeout 5\n",
            ),
            *("application", "bad", "no session can start"),
        ),
        (gone("etc/chimirror"), "application", "doubtful", "the demonstration"),
        (
            file("cgroup/cgroup.controllers", "cpu memory\n"),
            *("cgroups", "bad", "no controller for pids"),
        ),
        (
            file("proc/sys/kernel/pid_max", "2999\n"),
            *("kernel.pid_max", "bad", "want 3000 processes, and there are 2999"),
        ),
        (
            file("proc/sys/fs/file-max", "2999\n"),
            *("fs.file-max", "doubtful", "may want 50000 open files, of 2999"),
        ),
        (gone("log/journal"), "journal", "bad", "there is no journal"),
    ],
)
def test_faults(
    machine: Machine,
    monkeypatch: pytest.MonkeyPatch,
    spoil: Callable[[Machine, pytest.MonkeyPatch], None],
    about: str,
    verdict: str,
    said: str,
) -> None:
    spoil(machine, monkeypatch)
    status, told = found(machine)
    assert told[about]["verdict"] == verdict
    assert said in told[about]["text"]
    bad = any(one["verdict"] == finding.BAD for one in told.values())
    assert status == (os.EX_CONFIG if bad else os.EX_OK)


def test_units_that_do_not_verify(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WRONG", "1")
    monkeypatch.setenv("VERIFIED", "something else\\nand more\\n")
    assert found(machine)[1]["units"]["text"] == "something else"


def test_the_directory_of_status_files(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = machine.runtime / "sessions"
    place.chmod(0o777)
    assert "owner are 0777 0:" in found(machine)[1][str(place)]["text"]
    place.chmod(0o1730)
    monkeypatch.setattr(check, "GROUP", "another")
    assert "should be 1730 0:another" in found(machine)[1][str(place)]["text"]
    place.rmdir()
    assert "No such file" in found(machine)[1][str(place)]["text"]


def test_a_journal_that_a_restart_forgets(machine: Machine) -> None:
    machine.write("run/log/journal/0123/system.journal", "")
    path = machine.directory / "log" / "journal"
    path.rename(path.with_name("was"))
    assert "until the machine restarts" in found(machine)[1]["journal"]["text"]


def test_an_old_systemd(machine: Machine) -> None:
    machine.program("systemctl", SYSTEMCTL.replace("systemd 252", "systemd 249.11"))
    assert found(machine)[1]["systemd"]["text"] == "version 249"


def test_no_systemd(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    (tmp_path / "run" / "systemd" / "system").rmdir()
    status, told = found(machine)
    assert (status, list(told)) == (os.EX_CONFIG, ["systemd"])


def test_on_a_terminal(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAILED", "a\\n")
    screen = Screen(70)
    run(["check"], machine.host, screen)
    lines = screen.text.splitlines()
    assert lines[0] == "good      systemd: version 252"
    where = next(i for i, line in enumerate(lines) if line.startswith("doubtful"))
    assert lines[where] == "doubtful  chimirror@.service: 1 failed are kept"
    assert lines[where + 1 : where + 3] == [
        "          → systemctl reset-failed 'chimirror@*'; CollectMode= keeps",
        "          none",
    ]
    place = str(machine.runtime)
    assert all(len(line) <= 70 for line in lines if place not in line)
    piped = Screen()
    run(["check"], machine.host, piped)
    assert piped.text.splitlines()[0] == "verdict\tabout\ttext\tadvice"


# Applications by name


def by_name(machine: Machine) -> Path:
    """The units serve applications by name."""
    path = machine.directory / "apps"
    path.mkdir(exist_ok=True)
    conf = f"CHIMIRROR_COMMAND=--apps {path}\n"
    machine.write("etc/chimirror/chimirror.conf", conf)
    return path


def test_applications_are_looked_at_and_compiled(machine: Machine) -> None:
    path = by_name(machine)
    (path / "one.toml").write_text('command = ["cat"]\n')
    (path / "bad.toml").write_text('command = ["cat"]\nframing = "xml"\n')
    status, told = found(machine)
    assert (status, set(told) - {"journal"}) == (os.EX_CONFIG, {"application bad"})
    said = told["application bad"]
    assert said["text"].startswith(f'{path}/bad.toml:2: "xml" is not a framing; write')
    assert said["advice"] == f"edit {path}/bad.toml"
    assert [file.name for file in (path / ".compiled").iterdir()] == ["one"]


def spoilt_mode(path: Path) -> None:
    path.chmod(0o777)


def spoilt_name(path: Path) -> None:
    (path / "my game.toml").write_text('command = ["cat"]\n')


def spoilt_file(path: Path) -> None:
    (path / "one.toml").chmod(0o666)


def hidden_file(path: Path) -> None:
    (path / "one.toml").chmod(0o600)


def no_program(path: Path) -> None:
    (path / "one.toml").write_text('command = ["no-such"]\n')


def no_own_program(path: Path) -> None:
    text = 'command = ["./no-such"]\ndirectory = "."\n'
    (path / "one.toml").write_text(text)


def no_directory(path: Path) -> None:
    (path / "one.toml").write_text('command = ["cat"]\ndirectory = "/no/such"\n')


def none_at_all(path: Path) -> None:
    (path / "one.toml").unlink()


def no_apps(path: Path) -> None:
    none_at_all(path)
    path.rmdir()


@pytest.mark.parametrize(
    ("spoil", "about", "verdict", "said"),
    [
        (spoilt_mode, "applications", "bad", "everybody may write it"),
        (spoilt_name, "applications", "bad", "/my game.toml: this is no name"),
        (spoilt_file, "application one", "bad", "everybody may write its file"),
        (hidden_file, "application one", "doubtful", "only some can read its file"),
        (no_program, "application one", "bad", "there is no program no-such"),
        (no_own_program, "application one", "bad", "there is no program ./no-such"),
        (no_directory, "application one", "bad", "there is no directory /no/such"),
        (none_at_all, "applications", "doubtful", "there are none"),
        (no_apps, "applications", "bad", "No such file or directory"),
    ],
)
def test_faults_of_applications(
    spoil: Callable[[Path], None], about: str, verdict: str, said: str, machine: Machine
) -> None:
    path = by_name(machine)
    (path / "one.toml").write_text('command = ["cat"]\n')
    spoil(path)
    status, told = found(machine)
    assert said in told[about]["text"]
    assert told[about]["verdict"] == verdict
    if verdict == "bad":
        assert status == os.EX_CONFIG


@pytest.mark.parametrize(
    "conf",
    [
        "CHIMIRROR_COMMAND=--apps={}\n",
        "CHIMIRROR_OPTIONS=--stderr log --apps {}\nCHIMIRROR_COMMAND=\n",
    ],
)
def test_wherever_they_are_named(conf: str, machine: Machine) -> None:
    path = by_name(machine)
    (path / "bad.toml").write_text("")
    machine.write("etc/chimirror/chimirror.conf", conf.format(path))
    assert "no command" in found(machine)[1]["application bad"]["text"]


def test_a_directory_alone(machine: Machine) -> None:
    """No systemd is needed for that, and nothing else is looked at."""
    path = machine.directory / "apps"
    path.mkdir()
    (path / "one.toml").write_text(
        'command = ["sh"]\ndirectory = "."\n[interface]\ntitle = "A shell"\n'
    )
    bare = machine.host._replace(run="/no/such")
    screen = Screen()
    assert run(["check", "--apps", str(path)], bare, screen) == os.EX_OK
    assert screen.rows() == [["good", "application one", "A shell", "-"]]
