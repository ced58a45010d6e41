"""--host: the commands that hosts get, and the tables that are made of their answers.

A script stands for ssh(1). It runs the file of its host, which may answer anything.
tests/programs/test_ctl_hosts.py uses a real sshd(8).
"""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path

import pytest

from chimirror.ctl import remote_hosts
from chimirror.ctl.commands import stats
from chimirror.ctl.main import run
from chimirror.ctl.messages import CommandError
from chimirror.ctl.paths import HostPaths
from fake_host import Screen, ctl, identity

NOWHERE = HostPaths(())
SSH = """\
#!/bin/sh
while [ "$1" != -- ]; do shift; done
printf '%s\\n' "$3" >"$PLACE/$2.command"
exec sh "$PLACE/$2" 2>&2
"""
TOTALS = {column.name: 1 for column in stats.TOTALS}


class Hosts:
    """Hosts that a script in place of ssh reaches: a file for each."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def add(self, name: str, script: str) -> None:
        """Add a host that runs a shell script for any command."""
        (self.place / name).write_text(script)

    def answer(self, name: str, value: object, script: str = "") -> None:
        """Add a host that prints a JSON text, and then runs a script."""
        (self.place / f"{name}.json").write_text(json.dumps(value) + "\n")
        self.add(name, f"cat {shlex.quote(f'{self.place}/{name}.json')}\n{script}")

    def command(self, name: str) -> list[str]:
        """Return the words that the shell of a host was given."""
        return shlex.split((self.place / f"{name}.command").read_text())


@pytest.fixture
def hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hosts:
    program = tmp_path / "fake ssh"
    program.write_text(SSH)
    program.chmod(0o755)
    monkeypatch.setenv("CHIMIRROR_SSH", str(program))
    monkeypatch.setenv("PLACE", str(tmp_path))
    return Hosts(tmp_path)


def session(number: int, **changes: object) -> dict[str, object]:
    return {
        "id": identity(number),
        "peer": f"192.0.2.{number}:1",
        "age": 1.5,
        "application": "cat",
        "state": "open",
        "bytes_in": 10 * number,
        "memory": None,
        "command": "cat",
        **changes,
    }


def failing(*argv: str) -> tuple[int, str]:
    """Run a command that prints a table and fails. Returns status and output."""
    screen = Screen()
    return run(argv, NOWHERE, screen), screen.text


# Requests


def test_words_for_the_hosts(hosts: Hosts) -> None:
    hosts.answer("root@a", [])
    line = ("--host", "root@a", "--peer", "; id", "--user=", "--sort", "in")
    ctl(NOWHERE, "sessions", *line, "--no-trunc", "--older", "1h 30min")
    assert hosts.command("root@a") == [
        *("chimirror-ctl", "sessions", "--peer=; id", "--user="),
        *("--older=1h 30min", "--json"),
    ]


def test_a_time_is_sent_as_an_age(hosts: Hosts) -> None:
    """Other hosts may have another time zone."""
    hosts.answer("a", [])
    ctl(NOWHERE, "history", "--host=a", "--since", "2h", "--lines=7")
    *words, since = hosts.command("a")
    assert words == ["chimirror-ctl", "history", "--lines=7", "--json"]
    assert 7200 <= float(since.removeprefix("--since=").removesuffix("s")) < 7300
    ctl(NOWHERE, "history", "--host=a", "--since", "2999-01-01")
    assert hosts.command("a")[-1] == "--since=0.000000s"


def test_lines_of_changes(hosts: Hosts) -> None:
    hosts.add("a", "echo sessions left: 3")
    hosts.add("b", r"printf 'sessions left: 4\nc: forged\033[2J\n'")
    found = ctl(NOWHERE, "drain", "--now", "--host", "b,a").text
    assert found == ("b: sessions left: 4\nb: c: forged\\x1b[2J\na: sessions left: 3\n")
    assert hosts.command("a") == ["chimirror-ctl", "drain", "--now"]
    ctl(NOWHERE, "limit", "--host", "a", "--sessions", "5", "--runtime")
    assert hosts.command("a") == ["chimirror-ctl", "limit", "--sessions=5", "--runtime"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--host -oProxyCommand=id", '"-oProxyCommand=id" is not the name of a host'),
        ("--host a,,b", '"" is not the name of a host; write a.example or'),
        ("--host a@-b", '"a@-b" is not'),
        ("--host a;id", '"a;id" is not'),
        ("--host $(id)", "is not"),
        ("--host a --watch", "--watch: each table would log in anew; write watch"),
        ("--host a --sort name", "--sort: write one of"),
        ("--host a --older x", "--older: "),
        ("history --host a --lines x", "--lines: "),
        ("stats --host a --since x", "--since: "),
        ("show --host a 1", "show takes no --host; write ssh HOST chimirror-ctl show"),
    ],
)
def test_wrong_command_lines(hosts: Hosts, line: str, message: str) -> None:
    hosts.answer("a", [])
    with pytest.raises(CommandError) as caught:
        run(line.split(), NOWHERE, Screen())
    assert message in str(caught.value)
    assert caught.value.status == os.EX_USAGE
    assert not (hosts.place / "a.command").exists()


def test_names_that_ssh_takes() -> None:
    names = ["a.example", "root@10.0.0.1", "a-b_c", "::1", "fe80::1%eth0", "a"]
    assert remote_hosts.parse_names(", ".join([*names, "a"])) == names
    assert remote_hosts.parse_names("ssh://me@a:22") == ["ssh://me@a:22"]
    with pytest.raises(CommandError, match="at most 1000 hosts"):
        remote_hosts.parse_names(",".join(f"h{number}" for number in range(1001)))


def test_without_ssh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHIMIRROR_SSH", "/nowhere/ssh")
    with pytest.raises(CommandError, match="/nowhere/ssh: there is no such program"):
        run(["--host", "a,b"], NOWHERE, Screen())


# Tables


def test_one_table_of_sessions(hosts: Hosts) -> None:
    hosts.answer("b", [session(1), session(3, user="anna")])
    hosts.answer("a", [session(2), session(4, state="spare")])
    screen = ctl(NOWHERE, "--host", "b,a", "--sort", "in")
    head, *rows = (line.split("\t") for line in screen.text.splitlines())
    assert head[:3] == ["host", "id", "peer"]
    assert head[-1] == "user"
    assert [row[:2] for row in rows] == [
        *(["b", identity(3)], ["a", identity(2)], ["b", identity(1)]),
    ]
    printed = json.loads(ctl(NOWHERE, "--host", "b,a", "--json").text)
    assert [row["host"] for row in printed] == ["b", "a", "b", "a"]
    assert list(printed[0])[:2] == ["host", "id"]
    lines = ctl(NOWHERE, "--host", "b,a", width=80).text.splitlines()
    assert lines[0].startswith("HOST  ID        PEER ")
    assert lines[1].startswith("b     00000001  192.0.2.1:1")
    assert lines[-1] == "3 sessions and 1 spare"
    assert max(map(len, lines)) <= 80


def test_names_of_hosts_on_a_terminal(hosts: Hosts) -> None:
    for name in ("root@a.example", "me@b.example", "me@a.example"):
        hosts.answer(name, [session(1)])
    two = ctl(NOWHERE, "--host", "root@a.example,me@b.example", width=80).text
    assert [line.split()[0] for line in two.splitlines()[1:3]] == [
        *("a.example", "b.example"),
    ]
    same = ctl(NOWHERE, "--host", "root@a.example,me@a.example", width=80).text
    assert {line.split()[0] for line in same.splitlines()[1:3]} == {
        *("root@a.example", "me@a.example"),
    }


def test_the_newest_of_all_hosts(hosts: Hosts) -> None:
    for name, times in (("a", (1, 4)), ("b", (2, 3))):
        rows = [session(time, ended=time, reason="exit 0") for time in times]
        hosts.answer(name, rows)
    printed = json.loads(
        ctl(NOWHERE, *"history --host a,b --lines 3 --json".split()).text
    )
    assert [(row["host"], row["ended"]) for row in printed] == [
        *(("b", 2), ("b", 3), ("a", 4)),
    ]
    screen = ctl(NOWHERE, *"history --host a,b".split(), width=80)
    assert screen.text.splitlines()[-1] == "4 ended sessions"


def test_sums_of_all_hosts(hosts: Hosts) -> None:
    cause = {"kind": "ended", "cause": "exit 0"}
    user = {"user": "anna", "duration": 3}
    hosts.answer("a", TOTALS | {"causes": [cause | {"count": 2}], "users": [user]})
    hosts.answer("b", TOTALS | {"causes": [cause | {"count": 5}]})
    text = ctl(NOWHERE, "stats", "--host", "a,b", width=80).text
    totals, causes, users = text.split("\n\n")
    assert [line.split()[:2] for line in totals.splitlines()] == [
        *(["HOST", "LIVE"], ["a", "1"], ["b", "1"], ["(all)", "2"]),
    ]
    assert [line.split() for line in causes.splitlines()[1:]] == [
        *(["b", "ended", "exit", "0", "5"], ["a", "ended", "exit", "0", "2"]),
    ]
    assert users.splitlines()[1].split()[:2] == ["a", "anna"]
    totals, *_ = ctl(NOWHERE, "stats", "--host", "a,b").text.split("\n\n")
    assert len(totals.splitlines()) == 3
    printed = json.loads(ctl(NOWHERE, *"stats --host a,b --json".split()).text)
    assert [row["host"] for row in printed] == ["a", "b"]
    assert "users" not in printed[1]


def test_limits_side_by_side(hosts: Hosts) -> None:
    row = {"limit": "memory-max", "value": 1 << 30, "used": 5, "set": "unit"}
    hosts.answer("a", [row, {"limit": "new-limit", "value": 1, "used": None}])
    hosts.answer("b", [row | {"value": None}])
    lines = ctl(NOWHERE, "limits", "--host", "a,b", width=80).text.splitlines()
    assert [line.split()[:3] for line in lines[1:]] == [
        *(["a", "memory-max", "1G"], ["b", "memory-max", "-"], ["a", "new-limit", "1"]),
    ]


def test_findings(hosts: Hosts, capfd: pytest.CaptureFixture[str]) -> None:
    good = {"verdict": "good", "about": "x", "text": "fine", "advice": ""}
    bad = good | {"verdict": "bad", "advice": "mend it"}
    hosts.answer("a", [good])
    hosts.answer("b", [bad], "exit 78")
    screen = Screen(80)
    assert run(["check", "--host", "a,b"], NOWHERE, screen) == os.EX_CONFIG
    assert screen.text == "good  a: x: fine\nbad   b: x: fine\n      → mend it\n"
    status, text = failing("check", "--host", "a,b")
    assert (status, text.splitlines()[2]) == (os.EX_CONFIG, "b\tbad\tx\tfine\tmend it")
    _, text = failing("check", "--host", "a,b", "--json")
    assert [finding["host"] for finding in json.loads(text)] == ["a", "b"]
    assert capfd.readouterr().err == ""


# Hosts that fail


@pytest.mark.parametrize(
    ("script", "status", "evidence", "cure"),
    [
        (
            "echo ssh: connect to host x port 22: Connection refused >&2; exit 255",
            os.EX_UNAVAILABLE,
            "ssh: connect to host x port 22: Connection refused",
            "ssh x has to log in with no question",
        ),
        ("exit 255", os.EX_UNAVAILABLE, "ssh failed", "ssh x has to log in"),
        (
            "chimirror-ctl-of-another-name",
            os.EX_UNAVAILABLE,
            "not found",
            "install chimirror there",
        ),
        (
            "echo 'chimirror-ctl: --host: old\nUsage: x' >&2; exit 64",
            os.EX_USAGE,
            "--host: old; Usage: x",
            "its version may be another one",
        ),
        (
            "echo 'chimirror-ctl: /run: denied; run it as root' >&2; exit 77",
            os.EX_NOPERM,
            "/run: denied; run it as root",
            "--host root@x",
        ),
        ("exit 70", os.EX_SOFTWARE, "exit status 70", ""),
        ("exit 3", os.EX_UNAVAILABLE, "exit status 3", ""),
        ("kill -9 $$", os.EX_UNAVAILABLE, "killed by signal 9", "try it again"),
        ("", os.EX_UNAVAILABLE, "no answer of chimirror-ctl", "nothing; ssh x has"),
        ("echo Welcome!; echo []", os.EX_UNAVAILABLE, "Welcome!", "nothing at login"),
        ("echo {}", os.EX_UNAVAILABLE, "is not a list", "the versions have to fit"),
        ("echo '[1]'", os.EX_UNAVAILABLE, "not an object but int", ""),
        (r"printf '\033[2J[]'", os.EX_UNAVAILABLE, r"\x1b[2J", ""),
    ],
)
def test_a_host_that_fails(
    hosts: Hosts,
    capfd: pytest.CaptureFixture[str],
    script: str,
    status: int,
    evidence: str,
    cure: str,
) -> None:
    hosts.add("x", script)
    hosts.answer("a", [session(1)])
    found, text = failing("--host", "x,a")
    assert found == status
    assert [line.split("\t")[0] for line in text.splitlines()] == ["host", "a"]
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("chimirror-ctl: x: ")
    assert evidence in line
    assert cure in line


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "1"},
        {"id": None},
        {"state": None},
        {"peer": 5},
        {"age": "old"},
        {"age": True},
        {"age": -1},
        {"bytes_in": 1e300},
        {"user": ["anna"]},
    ],
)
def test_rows_that_cannot_be_shown(hosts: Hosts, changes: dict[str, object]) -> None:
    hosts.answer("x", [session(1, **changes)])
    assert failing("--host", "x") == (os.EX_UNAVAILABLE, "")


def test_a_host_forges_nothing(hosts: Hosts, capfd: pytest.CaptureFixture[str]) -> None:
    row = session(1, host="a", peer="\x1b[2J\na\t1", deep=[[]], huge=0)
    text = json.dumps([row]).replace('"huge": 0', '"huge": 1e999')
    hosts.add("x", f"printf '%s' {shlex.quote(text)}; printf 'a: gone\\r\\033c\\n' >&2")
    screen = ctl(NOWHERE, "--host", "x")
    assert screen.rows() == [
        ["x", identity(1), r"\x1b[2J\x0aa\x091", *screen.rows()[0][3:]]
    ]
    (printed,) = json.loads(ctl(NOWHERE, "--host", "x", "--json").text)
    assert printed["host"] == "x"
    assert not {"deep", "huge"} & printed.keys()
    assert {*capfd.readouterr().err.splitlines()} == {
        *("chimirror-ctl: x: a: gone", r"chimirror-ctl: x: \x1bc"),
    }


def test_an_endless_answer(hosts: Hosts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_hosts, "MAX_OUTPUT", 1 << 20)
    hosts.add("x", "exec yes")
    hosts.add("y", "yes >&2 & yes=$!; head -c 100000 /dev/zero >&2; kill $yes; exit 69")
    (answer, other) = remote_hosts.run(["x", "y"], ["true"])
    assert answer.fault == "its answer is longer than 1 MiB"
    assert len(other.errors) == remote_hosts.MAX_ERRORS


def test_a_host_that_never_answers(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(remote_hosts, "TIMEOUT", 1.0)
    os.mkfifo(hosts.place / "never")
    hosts.add("x", 'exec cat "$PLACE/never"')
    assert failing("--host", "x") == (os.EX_UNAVAILABLE, "")
    assert "x: no complete answer within 1 seconds; ssh x" in capfd.readouterr().err


def test_an_answer_ends_with_its_process(hosts: Hosts) -> None:
    """A connection that several commands share holds the pipes of the first one."""
    os.mkfifo(hosts.place / "held")
    hosts.answer("x", [session(1)], 'cat "$PLACE/held" &')
    assert len(ctl(NOWHERE, "--host", "x").rows()) == 1
    os.close(os.open(hosts.place / "held", os.O_WRONLY))  # ends the cat


def test_more_hosts_than_places(hosts: Hosts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_hosts, "MAX_PARALLEL", 2)
    names = [f"h{number}" for number in range(7)]
    for number, name in enumerate(names):
        hosts.answer(name, [session(number)])
    rows = ctl(NOWHERE, "--host", ",".join(names), "--sort", "peer").rows()
    assert [row[0] for row in rows] == names


def test_interrupt_ends_every_command(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(remote_hosts, "_turn", interrupt)
    for name in "ab":
        hosts.add(name, "exec yes >/dev/null")
    with pytest.raises(KeyboardInterrupt):
        remote_hosts.run(["a", "b"], ["true"])
