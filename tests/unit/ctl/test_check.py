"""check: the findings on a sound machine, and each fault with its advice."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from chimirror.ctl import journal, messages
from chimirror.ctl.commands import check
from chimirror.ctl.main import run
from chimirror.process import fast_spawner
from fake_host import Machine, Screen

# A machine that is set up correctly. Tests spoil it with `sed`.
SYSTEMCTL = """\
case "$*" in
    --version) echo "systemd 252 (252.39-1~deb12u2)"; exit ;;
    list-units*) printf "%b" "$FAILED"; exit ;;
    cat*) echo '[Service]'; echo 'ExecStart=/opt/chimirror-bridge $CHIMIRROR_COMMAND'
        exit ;;
    *'-- chimirror.slice') units=chimirror.slice ;;
    *'-- chimirror@chimirror-ctl.service') units=chimirror@chimirror-ctl.service ;;
    *'-- chimirror.socket') units=chimirror.socket ;;
    *) units='chimirror.socket chimirror-server.socket chimirror@chimirror-ctl.service
        chimirror-server.service chimirror.slice' ;;
esac
for unit in $units; do
    echo Id=$unit; echo LoadState=loaded; echo ActiveState=active
    echo User=chimirror-server; echo UnitFileState=enabled
    echo TasksMax=infinity; echo MaxConnections=1200
    echo Environment=CHIMIRROR_MAX_SESSIONS=1000; echo
done | sed "$CHANGE"
"""

only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root owns the directory")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    run_check = Machine(tmp_path)
    run_check.program("systemctl", SYSTEMCTL)
    run_check.program("systemd-run", 'printf "%s" "$PROBED"')
    run_check.program("systemd-analyze", "printf '%b' \"$VERIFIED\" >&2; exit $WRONG")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    for name in ("CHANGE", "FAILED", "VERIFIED", "PROBED"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("WRONG", "0")
    run_check.write("etc/chimirror/chimirror.conf", "CHIMIRROR_COMMAND=cat -u\n")
    run_check.write("log/journal/0123/system.journal", "")
    for name in ("kernel/pid_max", "kernel/threads-max", "fs/file-max"):
        run_check.write(f"proc/sys/{name}", "4194304\n")
    place = run_check.runtime / "sessions"
    place.chmod(0o1730)
    monkeypatch.setattr(check, "GROUP", place.group())
    monkeypatch.setattr(journal, "_reader_class", lambda: ReadableJournal)
    return run_check


class ReadableJournal:
    """A readable journal. tests/systemd/test_ctl.py reads a real one."""

    def close(self) -> None:
        """Close nothing."""


def run_check(machine: Machine) -> tuple[int, dict[str, dict[str, str]]]:
    """Return the exit status and the findings that are not good."""
    screen = Screen()
    status = run(["check", "--json"], machine.host, screen)
    findings = json.loads(screen.text)
    assert all(
        finding["advice"] for finding in findings if finding["verdict"] != messages.GOOD
    )
    assert all(
        not finding["advice"]
        for finding in findings
        if finding["verdict"] == messages.GOOD
    )
    return status, {
        finding["about"]: finding
        for finding in findings
        if finding["verdict"] != messages.GOOD
    }


@only_root
def test_a_sound_machine(machine: Machine) -> None:
    assert run_check(machine) == (os.EX_OK, {})


@only_root
def test_which_process_starts_applications(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fast_spawner, "HAS_EXTENSION", False)
    status, found = run_check(machine)
    assert status == os.EX_OK
    assert found["chimirror-server"]["verdict"] == "doubtful"
    obstacle = "the C extension is not installed"
    assert obstacle in found["chimirror-server"]["text"]


def variable(name: str, value: str) -> Callable[[Machine, pytest.MonkeyPatch], None]:
    return lambda machine, monkeypatch: monkeypatch.setenv(name, value)


def file(name: str, text: str) -> Callable[[Machine, pytest.MonkeyPatch], None]:
    return lambda machine, monkeypatch: discard(machine.write(name, text))


def discard(value: object) -> None:
    """Discard a value."""


def without(name: str) -> Callable[[Machine, pytest.MonkeyPatch], None]:
    def remove(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
        path = machine.directory / name
        path.rename(path.with_name(f"was-{path.name}"))

    return remove


@pytest.mark.parametrize(
    ("spoil", "about", "verdict", "message"),
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
            *("sockets", "bad", "none accepts connections"),
        ),
        (
            variable("CHANGE", "s/=active/=inactive/"),
            *("chimirror-server.socket", "bad", "enabled, but not started"),
        ),
        (
            file("etc/chimirror/chimirror.conf", "CHIMIRROR_COMAND=cat\n"),
            *("application", "bad", "CHIMIRROR_COMAND is no variable of the units"),
        ),
        (
            variable("PROBED", '{"name":"","text":"no","cure":"yes","absent":[]}'),
            *("application", "bad", "chimirror@.service: no; chimirror-server.serv"),
        ),
        (
            variable("CHANGE", "s/=enabled/=disabled/"),
            *("chimirror.socket", "doubtful", "until the machine restarts"),
        ),
        (
            variable("CHANGE", "s/MAX_SESSIONS=1000/MAX_SESSIONS=1200/"),
            *("sessions", "bad", "systemd closes all after 1200"),
        ),
        (
            variable("CHANGE", "s/CHIMIRROR_MAX/OTHER/"),
            *("sessions", "bad", "CHIMIRROR_MAX_SESSIONS is not set"),
        ),
        (
            variable("CHANGE", "s/TasksMax=infinity/TasksMax=1500/"),
            *("chimirror.slice", "doubtful", "need 2000 tasks, of 1500"),
        ),
        (
            variable("FAILED", "a\\nb\\n"),
            *("chimirror@.service", "doubtful", "2 failed units are kept"),
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
        (
            variable(
                "PROBED",
                f'{{"name":"","text":"{check.DEMONSTRATION}","absent":[],"script":""}}',
            ),
            *("application", "doubtful", "the demonstration"),
        ),
        (
            file("cgroup/cgroup.controllers", "cpu memory\n"),
            *("cgroups", "bad", "no controller for pids"),
        ),
        (
            file("proc/sys/kernel/pid_max", "2999\n"),
            *("kernel.pid_max", "bad", "need 3000 processes, of 2999"),
        ),
        (
            file("proc/sys/fs/file-max", "2999\n"),
            *("fs.file-max", "doubtful", "may need 50000 files, of 2999"),
        ),
        (without("log/journal"), "journal", "bad", "there is no journal"),
    ],
)
def test_faults(
    machine: Machine,
    monkeypatch: pytest.MonkeyPatch,
    spoil: Callable[[Machine, pytest.MonkeyPatch], None],
    about: str,
    verdict: str,
    message: str,
) -> None:
    spoil(machine, monkeypatch)
    status, findings = run_check(machine)
    assert findings[about]["verdict"] == verdict
    assert message in findings[about]["text"]
    bad = any(finding["verdict"] == messages.BAD for finding in findings.values())
    assert status == (os.EX_CONFIG if bad else os.EX_OK)


@pytest.mark.parametrize(
    ("spoil", "about", "file_name", "line"),
    [
        (
            file("etc/chimirror/chimirror.conf", "# No\n\nCHIMIRROR_COMAND=cat\n"),
            *("application", "etc/chimirror/chimirror.conf", 3),
        ),
        (
            file("etc/chimirror/chimirror.conf", "# No\nCHIMIRROR_COMMAND\n"),
            *("application", "etc/chimirror/chimirror.conf", 2),
        ),
        (
            file(
                "etc/chimirror/chimirror.conf",
                "CHIMIRROR_COMMAND=cat\nCHIMIRROR_OPTIONS=--max-sessions 5\n",
            ),
            *("application", "etc/chimirror/chimirror.conf", 2),
        ),
        (
            file("proc/sys/kernel/pid_max", "2999\n"),
            *("kernel.pid_max", "proc/sys/kernel/pid_max", None),
        ),
    ],
)
def test_places_of_faults(
    machine: Machine,
    monkeypatch: pytest.MonkeyPatch,
    spoil: Callable[[Machine, pytest.MonkeyPatch], None],
    about: str,
    file_name: str,
    line: int | None,
) -> None:
    spoil(machine, monkeypatch)
    found: dict[str, object] = {**run_check(machine)[1][about]}
    path = str(machine.directory / file_name)
    assert (found["file"], found["line"]) == (path, line)
    place = path if line is None else f"{path}:{line}"
    assert str(found["text"]).startswith(f"{place}: ")


def test_places_of_systemd_analyze(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = "/etc/systemd/system/chimirror.socket:7: Unknown key"
    monkeypatch.setenv("VERIFIED", f"{line}\\n")
    found: dict[str, object] = {**run_check(machine)[1]["units"]}
    assert (found["file"], found["line"]) == (line.partition(":")[0], 7)
    assert found["text"] == line


def test_the_state_of_units_is_asked_once(machine: Machine) -> None:
    run_check(machine)
    calls = (machine.directory / "systemctl.log").read_text().splitlines()
    assert sum("UnitFileState" in call for call in calls) == 1


def test_a_zygote_in_use_is_tried(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    units = "chimirror-zygote.socket chimirror-zygote.service"
    script = SYSTEMCTL.replace(
        "chimirror.slice' ;;\nesac", f"chimirror.slice {units}' ;;\nesac"
    )
    machine.program("systemctl", script)
    run_check(machine)
    calls = (machine.directory / "systemctl.log").read_text().splitlines()
    assert "cat -- chimirror-zygote.service" in calls


@only_root
def test_sockets_that_a_drain_has_stopped(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHANGE", "s/=active/=inactive/")
    sockets = ["chimirror.socket", "chimirror-server.socket"]
    machine.write("run/chimirror/drained", "\n".join(sockets) + "\n")
    status, found = run_check(machine)
    assert (status, list(found)) == (os.EX_OK, sockets)
    assert found["chimirror.socket"]["advice"] == "chimirror-ctl undrain"


def test_units_that_do_not_verify(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WRONG", "1")
    monkeypatch.setenv("VERIFIED", "something else\\nand more\\n")
    assert run_check(machine)[1]["units"]["text"] == "something else"


@only_root
def test_the_directory_of_status_files(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = machine.runtime / "sessions"
    place.chmod(0o777)
    assert "owner are 0777 0:" in run_check(machine)[1][str(place)]["text"]
    place.chmod(0o1730)
    monkeypatch.setattr(check, "GROUP", "another")
    assert "should be 1730 0:another" in run_check(machine)[1][str(place)]["text"]
    place.rmdir()
    assert "No such file" in run_check(machine)[1][str(place)]["text"]


def test_a_volatile_journal(machine: Machine) -> None:
    machine.write("run/log/journal/0123/system.journal", "")
    path = machine.directory / "log" / "journal"
    path.rename(path.with_name("was"))
    assert "until the machine restarts" in run_check(machine)[1]["journal"]["text"]


def test_an_old_systemd(machine: Machine) -> None:
    machine.program("systemctl", SYSTEMCTL.replace("systemd 252", "systemd 249.11"))
    assert run_check(machine)[1]["systemd"]["text"] == "version 249"


def test_no_systemd(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    (tmp_path / "run" / "systemd" / "system").rmdir()
    status, findings = run_check(machine)
    assert (status, list(findings)) == (os.EX_CONFIG, ["systemd"])


def test_on_a_terminal(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAILED", "a\\n")
    screen = Screen(70)
    run(["check"], machine.host, screen)
    lines = screen.text.splitlines()
    assert lines[0] == "good      systemd: version 252"
    where = next(i for i, line in enumerate(lines) if line.startswith("doubtful"))
    assert lines[where] == "doubtful  chimirror@.service: 1 failed units are kept"
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
    """Return the application directory of units that serve applications by name."""
    path = machine.directory / "apps"
    path.mkdir(exist_ok=True)
    conf = f"CHIMIRROR_COMMAND=--apps {path}\n"
    machine.write("etc/chimirror/chimirror.conf", conf)
    return path


@only_root
def test_applications_are_reviewed(machine: Machine) -> None:
    path = by_name(machine)
    (path / "one.toml").write_text('command = ["cat"]\n')
    (path / "bad.toml").write_text('command = ["cat"]\nframing = "xml"\n')
    status, findings = run_check(machine)
    assert (status, set(findings) - {"journal"}) == (os.EX_CONFIG, {"application bad"})
    message = findings["application bad"]
    assert message["text"].startswith(
        f'{path}/bad.toml:2: "xml" is not a framing; write'
    )
    assert message["advice"] == f"edit {path}/bad.toml"
    assert sorted(os.listdir(path)) == ["bad.toml", "one.toml"]  # nothing is written


def set_directory_mode(path: Path) -> None:
    path.chmod(0o777)


def add_misnamed_file(path: Path) -> None:
    (path / "my game.toml").write_text('command = ["cat"]\n')


def set_file_mode(path: Path) -> None:
    (path / "one.toml").chmod(0o666)


def hide_file(path: Path) -> None:
    (path / "one.toml").chmod(0o600)


def remove_program(path: Path) -> None:
    (path / "one.toml").write_text('command = ["no-such"]\n')


def remove_relative_program(path: Path) -> None:
    text = 'command = ["./no-such"]\ndirectory = "."\n'
    (path / "one.toml").write_text(text)


def remove_directory(path: Path) -> None:
    (path / "one.toml").write_text('command = ["cat"]\ndirectory = "/no/such"\n')


def set_user(path: Path) -> None:
    (path / "one.toml").write_text('command = ["cat"]\nuser = 1879200001\n')


def remove_files(path: Path) -> None:
    (path / "one.toml").unlink()


def remove_apps(path: Path) -> None:
    remove_files(path)
    path.rmdir()


@pytest.mark.parametrize(
    ("spoil", "about", "verdict", "message"),
    [
        (set_directory_mode, "applications", "bad", "every user may write it"),
        (add_misnamed_file, "applications", "bad", "/my game.toml: this is not a name"),
        (set_file_mode, "application one", "bad", "every user may write it"),
        pytest.param(
            hide_file,
            "application one",
            "doubtful",
            "not every user can read it",
            marks=only_root,
        ),
        (
            remove_program,
            "application one",
            "bad",
            'there is no program "no-such" in PATH (/usr/local/sbin:',
        ),
        (
            remove_relative_program,
            "application one",
            "bad",
            "./no-such: there is no such file in ",
        ),
        (
            remove_directory,
            "application one",
            "bad",
            "/no/such: No such file or directory",
        ),
        pytest.param(
            set_user,
            "application one",
            "bad",
            "its user is 1879200001, and no unit runs as root: it is refused",
            marks=only_root,
        ),
        (remove_files, "applications", "doubtful", "there are no applications"),
        (remove_apps, "applications", "bad", "No such file or directory"),
    ],
)
def test_faults_of_applications(
    spoil: Callable[[Path], None],
    about: str,
    verdict: str,
    message: str,
    machine: Machine,
) -> None:
    path = by_name(machine)
    (path / "one.toml").write_text('command = ["cat"]\n')
    spoil(path)
    status, findings = run_check(machine)
    assert message in findings[about]["text"]
    assert findings[about]["verdict"] == verdict
    if verdict == "bad":
        assert status == os.EX_CONFIG


@only_root
def test_users_of_applications_of_a_server_of_root(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_user(by_name(machine))
    monkeypatch.setenv("CHANGE", "s/User=.*/User=root/")
    status, findings = run_check(machine)
    assert (status, set(findings) - {"journal"}) == (os.EX_OK, set())


@pytest.mark.parametrize(
    "conf",
    [
        "CHIMIRROR_COMMAND=--apps={}\n",
        "CHIMIRROR_OPTIONS=--stderr log --apps {}\nCHIMIRROR_COMMAND=\n",
    ],
)
def test_directory_named_in_either_variable(conf: str, machine: Machine) -> None:
    path = by_name(machine)
    (path / "bad.toml").write_text("")
    machine.write("etc/chimirror/chimirror.conf", conf.format(path))
    assert "no command" in run_check(machine)[1]["application bad"]["text"]


def test_a_directory_alone(machine: Machine) -> None:
    """check --apps needs no systemd and checks only the directory."""
    path = machine.directory / "apps"
    path.mkdir()
    (path / "one.toml").write_text(
        'command = ["sh"]\ndirectory = "."\n[interface]\ntitle = "A shell"\n'
    )
    bare = machine.host._replace(run="/no/such")
    screen = Screen()
    assert run(["check", "--apps", str(path)], bare, screen) == os.EX_OK
    assert screen.rows() == [["good", "application one", "A shell", "-"]]


@pytest.mark.parametrize(
    ("keys", "audience"),
    [
        ('users = ["ann"]', "; only for the user ann"),
        ('groups = "staff,admin"', "; only for the groups staff, admin"),
        (
            'users = ["ann", "bob"]\ngroups = ["staff"]',
            "; only for the users ann, bob and the group staff",
        ),
    ],
)
def test_who_may_use_an_application(machine: Machine, keys: str, audience: str) -> None:
    """The sources of the identities of a server are not known here."""
    path = machine.directory / "apps"
    path.mkdir()
    (path / "one.toml").write_text(f'command = ["sh"]\n{keys}\n')
    screen = Screen()
    assert run(["check", "--apps", str(path)], machine.host, screen) == os.EX_OK
    assert screen.rows() == [["good", "application one", f"sh{audience}", "-"]]
