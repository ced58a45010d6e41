"""Users by name and by number, and the refusals."""

from __future__ import annotations

import os
import pwd

import pytest

from chimirror.config import user_account
from chimirror.config.parser import UsageError, parse_bridge, parse_server

UNUSED = "1879048191"  # of no account


@pytest.fixture(autouse=True)
def root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chimirror.config.user_account.os.geteuid", lambda: 0)


@pytest.mark.parametrize("text", ["daemon", str(pwd.getpwnam("daemon").pw_uid)])
def test_an_account(text: str) -> None:
    entry = pwd.getpwnam("daemon")
    found = user_account.find(text)
    groups = os.getgrouplist(entry.pw_name, entry.pw_gid)
    assert found.ids[:2] == (entry.pw_uid, entry.pw_gid)
    assert sorted(found.ids[1:]) == sorted(groups)
    assert found.variables == {
        "HOME": entry.pw_dir,
        "USER": "daemon",
        "LOGNAME": "daemon",
        "SHELL": entry.pw_shell,
    }


def test_a_number_without_an_account() -> None:
    found = user_account.find(UNUSED)
    assert found.ids == (int(UNUSED), int(UNUSED))
    assert found.variables["HOME"] == "/"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--user", ""], '--user: "" is not a user; write a name or a number'),
        (["--user", "-x"], '--user: "-x" is not a user; write a name or a number'),
        (["--user", "no-such-user"], '--user: there is no user "no-such-user"; create'),
        (["--user", "4294967295"], '--user: "4294967295" is not the number of a user'),
        (["--user", "9" * 5000], "is not the number of a user; write up to 4294967294"),
        (["--user=daemon", "--user-range=1-2"], "--user: --user-range gives each"),
    ],
)
def test_refusals(arguments: list[str], reason: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_bridge([*arguments, "cat"])
    assert reason in str(caught.value)


def test_only_root_can(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chimirror.config.user_account.os.geteuid", lambda: 1000)
    with pytest.raises(UsageError) as caught:
        parse_server(["--user", "daemon", "cat"])
    assert '--user: "daemon": only root can start applications' in str(caught.value)


def test_the_application_gets_the_variables_of_a_login() -> None:
    config = parse_server(["--user", "daemon", "--env", "HOME=/srv", "cat"])
    from chimirror.apps import Application

    app = Application("", config, {"HOME": "/root", "USER": "root"})
    assert app.environment["USER"] == app.environment["LOGNAME"] == "daemon"
    assert app.environment["HOME"] == "/srv"
    assert config.user is not None
    assert app.program.user_ids == config.user.ids
    assert app.program.with_options(pty=True).user_ids == config.user.ids
