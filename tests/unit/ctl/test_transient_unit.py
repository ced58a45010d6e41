"""The settings that a transient unit takes from another, and its findings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chimirror.ctl import transient_unit
from chimirror.ctl.messages import Finding
from chimirror.ctl.transient_unit import UnitSettings
from fake_host import Machine

UNIT = """\
# /lib/systemd/system/a@.service
[Unit]
Description=User=nobody
[Service]
User = chimirror
ProtectHome=yes
BindPaths=-/a%%b \\
    /c
KillMode=mixed
; Group=x
ExecStart=/opt/chimirror/bin/chimirror-bridge --max-sessions ${N} $CHIMIRROR_COMMAND
# /etc/systemd/system/a@.service.d/own.conf
[Service]
EnvironmentFile=
EnvironmentFile=/etc/a.env
ExecStart=
ExecStart=-/opt/chimirror-server --env 'A=b c' $CHIMIRROR_COMMAND
LoadCredential=token:/etc/token
[Install]
User=root
"""


def test_settings() -> None:
    settings = UnitSettings(UNIT)
    assert settings.properties == [
        "--property=User=chimirror",
        "--property=ProtectHome=yes",
        "--property=BindPaths=-/a%b      /c",
        "--property=EnvironmentFile=",
        "--property=EnvironmentFile=/etc/a.env",
        "--property=LoadCredential=token:/etc/token",
    ]
    assert settings.program == "chimirror-server"
    assert settings.words == ["--env", "A=b c", "$CHIMIRROR_COMMAND"]


PLACED = """\
# /lib/systemd/system/a@.service
# Variables are in
# /etc/chimirror/chimirror.conf.
[Service]
Environment=CHIMIRROR_OPTIONS=
Environment="CHIMIRROR_COMMAND=/usr/bin/python3 a.py" CHIMIRROR_MAX_SESSIONS=9
EnvironmentFile=-{file}
ExecStart=/opt/chimirror-bridge \\
    --max-sessions ${CHIMIRROR_MAX_SESSIONS} \\
    $CHIMIRROR_OPTIONS $CHIMIRROR_COMMAND
User=chimirror

# /etc/systemd/system/a@.service.d/override.conf
[Service]

Environment=CHIMIRROR_OPTIONS=--pty
User=nobody
LoadCredential=token:/etc/token
"""
UNIT_FILE = "/lib/systemd/system/a@.service"
DROP_IN = "/etc/systemd/system/a@.service.d/override.conf"


@pytest.mark.parametrize(
    ("text", "variables", "place"),
    [
        ("there is no program", "", (UNIT_FILE, 5)),
        ("there is no program", "#\nCHIMIRROR_COMMAND=a\n", ("FILE", 2)),
        ("--framing: no", "A=\nCHIMIRROR_OPTIONS=--framing no\n", ("FILE", 2)),
        ("--framing: no", "CHIMIRROR_COMMAND=--framing no x\n", ("FILE", 1)),
        ("--max-sessions: no", "\nCHIMIRROR_MAX_SESSIONS=no", ("FILE", 2)),
        ("--max-sessions: no", "", (UNIT_FILE, 5)),
        ("--other: no", "", (UNIT_FILE, 7)),
    ],
)
def test_places_of_faults_in_a_command_line(
    tmp_path: Path, text: str, variables: str, place: tuple[str, int]
) -> None:
    path = tmp_path / "chimirror.conf"
    path.write_text(variables)
    settings = UnitSettings(PLACED.replace("{file}", str(path)))
    file, line = settings.place_of_fault(text)
    assert ("FILE" if file == str(path) else file, line) == place


@pytest.mark.parametrize(("status", "line"), [(217, 4), (243, 5), (226, None)])
def test_places_of_settings_that_keep_a_service_from_starting(
    machine: Machine, status: int, line: int | None
) -> None:
    machine.write("unit", PLACED)
    finding = probed(machine, f"exit {status}")
    assert (finding.file, finding.line) == (line and DROP_IN, line)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    found = Machine(tmp_path)
    found.write("unit", UNIT)
    found.program("systemctl", f"cat {tmp_path}/unit")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    return found


def probed(machine: Machine, script: str) -> Finding:
    machine.program("systemd-run", script)
    (finding,) = transient_unit.probe("a@chimirror-ctl.service")
    return finding


def printed(**found: object) -> str:
    whole = {"name": "", "text": "cat", "absent": [], "script": "", **found}
    return f"echo '{json.dumps(whole)}'"


@pytest.mark.parametrize(
    ("found", "verdict", "text"),
    [
        ({}, "good", "cat"),
        ({"name": "x"}, "good", "cat"),
        ({"text": "no", "cure": "yes"}, "bad", "a@.service: no"),
        (
            {"absent": ["/etc"], "script": "/etc"},
            *("bad", "a@.service: its user cannot see or read /etc"),
        ),
        (
            {"text": "no", "cure": "yes", "absent": ["/etc"]},
            *("bad", "a@.service: its user cannot see or read /etc"),
        ),
        (
            {"absent": ["/etc"]},
            *("doubtful", "a@.service: its user cannot see or read /etc"),
        ),
        ({"absent": ["/no/such"]}, "good", "cat"),
        (
            {"absent": ["/no/such"], "script": "/no/such"},
            *("doubtful", "a@.service: there is no /no/such"),
        ),
    ],
)
def test_findings(
    machine: Machine, found: dict[str, object], verdict: str, text: str
) -> None:
    finding = probed(machine, printed(**found))
    assert (finding.verdict, finding.text) == (verdict, text)
    assert finding.about == ("application x" if "name" in found else "application")
    assert bool(finding.advice) == (verdict != "good")


def test_a_certificate(machine: Machine) -> None:
    """That of a credential has the place of its setting, and no part in `add`."""
    whole: dict[str, object] = {"about": "certificate", "cure": "yes", "file": "/a"}
    finding = probed(machine, printed(**whole))
    assert finding[:3] == ("bad", "certificate", "a@.service: cat")
    assert (finding.file, finding.line) == ("/a", None)
    whole |= {"file": None, "setting": "User", "is_warning": True}
    finding = probed(machine, printed(**whole))
    assert (finding.verdict, finding.about) == ("doubtful", "certificate")
    places = transient_unit.find_settings("a@chimirror-ctl.service").places
    assert (finding.file, finding.line) == places["User"]
    assert not list(transient_unit.probe("a@chimirror-ctl.service", ["cat"]))


@pytest.mark.parametrize(
    ("script", "verdict", "text"),
    [
        ("exit 217", "bad", "a@.service: no process starts with its settings"),
        ("echo Access denied >&2; exit 1", "doubtful", "not tried: Access denied"),
        ("exit 1", "doubtful", "not tried: status 1"),
        ("echo Serve every", "bad", "its command line prints a text: Serve every"),
    ],
)
def test_what_systemd_run_reports(
    machine: Machine, script: str, verdict: str, text: str
) -> None:
    finding = probed(machine, script)
    assert finding.verdict == verdict
    assert text in finding.text


def test_another_program_is_not_tried(machine: Machine) -> None:
    machine.write("unit", UNIT.replace("chimirror-server", "wrapper"))
    finding = probed(machine, "exit 1")
    assert finding.verdict == "doubtful"
    assert "not tried: ExecStart= starts wrapper" in finding.text
    assert not (machine.directory / "systemd-run.log").exists()
