"""Tests chimirror-ctl check and add: the command as the units find it, each socket."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ctl_on_machine import ctl, ctl_failure
from systemd_machine import Machine
from tls_authority import Authority

pytestmark = pytest.mark.timeout(300)

CONFIGURATION = "/etc/chimirror/chimirror.conf"  # 1: the options, 2: the command
DROP_IN = "/run/systemd/system/chimirror@.service.d/test.conf"
APPS = "/etc/chimirror/apps"
CERTIFICATE = "/etc/chimirror/tls.pem"
HIDDEN = "/home/me/app.py"  # ProtectHome=yes


def findings(machine: Machine) -> dict[str, Any]:
    """Return the findings by item. Each item has one."""
    done = machine.run("chimirror-ctl", "check", "--json")
    found = json.loads(done.stdout)
    assert len({one["about"] for one in found}) == len(found)
    bad = any(one["verdict"] == "bad" for one in found)
    assert done.returncode == (os.EX_CONFIG if bad else os.EX_OK)
    return {one["about"]: one for one in found}


@pytest.fixture
def hidden(machine: Machine) -> Iterator[Machine]:
    """The machine with a program below the home of a user, where no unit looks."""
    machine.write(HIDDEN, "#!/bin/sh\nexec cat\n")
    machine.path(HIDDEN).chmod(0o755)
    yield machine
    machine.path(HIDDEN).unlink()


def test_a_command_that_is_there(machine: Machine) -> None:
    machine.configure("/bin/cat", options="--framing stdio --stderr log")
    found = findings(machine)
    assert found["application"]["verdict"] == "good", found["application"]
    assert found["application"]["text"] == "/bin/cat"
    assert found["chimirror-server.socket"]["text"] == "it is not in use"


@pytest.mark.parametrize(
    ("command", "options", "text"),
    [
        ("your-program.py", "", 'there is no program "your-program.py" in PATH (/usr'),
        ("/opt/no/such.py", "", "/opt/no/such.py: there is no such file"),
        ("/bin/cat", "--framing jsn", '--framing: "jsn" is not a framing; write'),
        ("/bin/cat", "--workers 2", "--workers is not an option; --help lists"),
        ("/bin/cat", "--env-file /no/such", "--env-file: /no/such: No such file"),
        ("/bin/cat", "--help", "its command line prints a text"),
        ("--apps /no/such", "", "/no/such"),
    ],
)
def test_commands_that_cannot_be_served(
    machine: Machine, command: str, options: str, text: str
) -> None:
    machine.configure(command, options=options)
    found = findings(machine)
    about = "applications" if "--apps" in command else "application"
    assert found[about]["verdict"] == "bad"
    assert text in found[about]["text"]
    file, line = found[about]["file"], found[about]["line"]
    if about == "applications":
        assert (file, line) == ("/no/such", None)
    else:
        assert (file, line) == (CONFIGURATION, 1 if options else 2)


@pytest.mark.parametrize("command", [HIDDEN, f"/bin/sh {HIDDEN}"])
def test_a_program_that_the_sandbox_hides(hidden: Machine, command: str) -> None:
    hidden.configure(command)
    found = findings(hidden)["application"]
    text = f"chimirror@.service: its user cannot see or read {HIDDEN}"
    text = f"{CONFIGURATION}:2: {text}"
    assert (found["verdict"], found["text"]) == ("bad", text)
    hidden.drop_in(
        "chimirror@.service", "Service", "ProtectHome=no", "ProtectSystem=no"
    )
    assert findings(hidden)["application"]["verdict"] == "good"


def test_variables_that_no_unit_uses(machine: Machine) -> None:
    machine.configure("/bin/cat", CHIMIRROR_OPTION="--pty")
    found = findings(machine)["application"]
    assert found["verdict"] == "bad"
    assert found["advice"] == "write CHIMIRROR_OPTIONS"


def test_sockets_that_accept_nothing(machine: Machine) -> None:
    machine.configure("/bin/cat")
    machine.do("systemctl", "stop", "chimirror.socket")
    found = findings(machine)
    assert found["sockets"]["verdict"] == "bad"
    assert found["chimirror.socket"]["text"] == (
        "it is enabled, but not started: it accepts nothing"
    )


def test_add_writes_nothing_that_check_calls_bad(hidden: Machine) -> None:
    machine = hidden
    machine.write("/etc/chimirror/chimirror.conf", f"CHIMIRROR_COMMAND=--apps {APPS}\n")
    for command in ("nosuchprogram", HIDDEN):
        status, said = ctl_failure(machine, "add", "game", "--", command)
        assert (status, command in said) == (os.EX_USAGE, True), said
        socket = ("--own-socket", "127.0.0.1:30750")
        status, said = ctl_failure(machine, "add", "game", *socket, "--", command)
        assert (status, command in said) == (os.EX_USAGE, True), said
    assert not machine.path(f"{APPS}/game.toml").exists()
    assert not machine.path("/etc/systemd/system/chimirror-game.socket").exists()
    ctl(machine, "add", "game", "--", "cat")
    assert findings(machine)["application game"]["verdict"] == "good"


def test_units_of_an_application(machine: Machine) -> None:
    machine.configure("/bin/cat")
    ctl(machine, "add", "game", "--own-socket", "127.0.0.1:30750", "--", "/bin/cat")
    try:
        found = findings(machine)["application game"]
        assert found["verdict"] == "bad"
        assert "chimirror-game.socket is not started" in found["text"]
        assert found["advice"] == "systemctl enable --now chimirror-game.socket"
        machine.do("systemctl", "enable", "--now", "chimirror-game.socket")
        assert findings(machine)["application game"]["verdict"] == "good"
    finally:
        ctl(machine, "remove", "game")


@pytest.mark.parametrize(
    "setting", ["User=no-such-user", "LoadCredential=token:/no/such"]
)
def test_a_service_that_cannot_be_set_up(machine: Machine, setting: str) -> None:
    machine.configure("/bin/cat")
    machine.drop_in("chimirror@.service", "Service", setting)
    found = findings(machine)["application"]
    assert found["verdict"] == "bad"
    text = "chimirror@.service: no process starts with its settings"
    assert found["text"] == f"{DROP_IN}:2: {text}"


def test_certificates(machine: Machine, tmp_path: Path) -> None:
    """One that a user of the units cannot read, and one that ends soon."""
    authority = Authority(tmp_path / "authority")
    soon = authority.issue("chat.example", days=(-1, 2))
    machine.write(CERTIFICATE, soon.both.read_text())
    machine.path(CERTIFICATE).chmod(0o600)
    machine.configure("/bin/cat", options=f"--tls-cert {CERTIFICATE}")
    found = findings(machine)["certificate"]
    text = f"{CERTIFICATE}: chimirror@.service: Permission denied"
    assert (found["verdict"], found["text"]) == ("bad", text)
    machine.configure("/bin/cat")
    machine.drop_in(
        "chimirror@.service", "Service", f"LoadCredential=tls-cert:{CERTIFICATE}"
    )
    found = findings(machine)["certificate"]
    text = f"{DROP_IN}:2: chimirror@.service: credential tls-cert: it ends on "
    assert found["verdict"] == "doubtful"
    assert found["text"].startswith(text)


def test_another_user_is_told_what_is_not_tried(machine: Machine) -> None:
    machine.configure("/bin/cat")
    nobody = ("setpriv", "--reuid=65534", "--clear-groups", "chimirror-ctl")
    done = machine.run(*nobody, "check")
    assert "application\tchimirror@.service: not tried: " in done.stdout


def test_the_number_of_sessions_that_the_host_holds(machine: Machine) -> None:
    machine.configure("/bin/cat")
    found = findings(machine)["capacity of chimirror@.service"]
    assert found["verdict"] in ("good", "doubtful")  # by the memory that is free
    bounds = found["sessions"]
    assert {"memory", "processes", "files"} <= bounds.keys()
    first = min(bounds.values())
    assert f"{first:,} sessions: " in found["text"]
