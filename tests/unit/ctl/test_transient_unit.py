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
    ]
    assert settings.program == "chimirror-server"
    assert settings.words == ["--env", "A=b c", "$CHIMIRROR_COMMAND"]


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
