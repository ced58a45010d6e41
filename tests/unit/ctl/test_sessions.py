"""sessions and show: the rows, their filters and their order."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from chimirror.ctl import session_info, usage
from chimirror.ctl.commands import sessions
from chimirror.ctl.main import run
from chimirror.ctl.messages import CommandError
from fake_host import STARTED, Machine, Screen, ctl, identity


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A machine with three units: two of the default application, one of another."""
    found = Machine(tmp_path)
    found.unit(1)
    found.tell(1, started=STARTED - 60_000_000)
    found.unit(2)
    found.tell(2, peer="[2001:db8::7]:4711", state="closing")
    found.unit(3, "chimirror-game")
    found.tell(3, started=STARTED - 10_000_000, command="python3 game.py")
    now = STARTED + 1_500_000
    monkeypatch.setattr("chimirror.ctl.discovery.now", lambda: now)
    return found


def order(screen: Screen) -> list[int]:
    return [int(row[0][:8], 16) for row in screen.rows()]


def test_a_row_for_each_session(machine: Machine) -> None:
    screen = ctl(machine.host, "sessions")
    assert screen.text.splitlines()[0].split("\t") == [
        *("id", "peer", "age", "application", "state", "bytes_in", "bytes_out"),
        *("messages_in", "messages_out", "cpu", "memory", "tasks"),
    ]
    assert screen.rows()[0] == [
        *(identity(1), "192.0.2.1:4711", "61.5", "cat -u", "open", "1", "2048"),
        *("3", "4", "0.25", "1000000", "2"),
    ]
    assert [row[3] for row in screen.rows()] == ["cat -u", "game", "cat -u"]


def test_on_a_terminal(machine: Machine) -> None:
    lines = ctl(machine.host, "sessions", width=120).text.splitlines()
    assert lines[0] == (
        "ID        PEER                    AGE  APPLICATION  STATE    IN  OUT"
        "  MSG-IN  MSG-OUT    CPU  MEMORY  TASKS"
    )
    assert lines[1] == (
        "00000001  192.0.2.1:4711      1min 1s  cat -u       open      1   2K"
        "       3        4  0.25s    977K      2"
    )
    assert all(len(line) <= 120 for line in lines)
    assert lines[-2:] == ["", "3 sessions"]


def test_on_a_terminal_of_80_columns(machine: Machine) -> None:
    """The ends of commands tell rows apart, and the sorted column is there."""
    base = "/srv/applications/of/a/very/long/path/to/"
    for number in (1, 2):
        machine.tell(number, command=f"{base}game-{number}.py")
    text = ctl(machine.host, "sessions", "--sort", "tasks", width=80).text
    head, *rows, _, _ = text.splitlines()
    assert head.split()[:4] == ["ID", "PEER", "AGE", "APPLICATION"]
    assert "TASKS" in head
    assert "MSG-IN" not in head
    assert "…" in rows[2]
    assert "game-1.py " in rows[2]
    assert "game-2.py " in rows[1]
    assert all(len(line) <= 80 for line in (head, *rows))
    full = ctl(machine.host, "sessions", "--no-trunc", width=80).text
    assert f"{base}game-1.py" in full
    assert "MSG-IN" in full
    assert identity(1) in full


def test_ids_are_unique_prefixes(machine: Machine) -> None:
    machine.tell(1)
    assert "00000001  " in ctl(machine.host, "sessions", width=80).text
    rows: list[dict[str, object]] = [{"id": "a" * 32}, {"id": "a" * 9 + "b" * 23}]
    session_info.shorten_ids(rows, ["a" * 10 + "c" * 22])
    assert [row["id"] for row in rows] == ["a" * 11, "a" * 9 + "bb"]


def test_json(machine: Machine) -> None:
    report = json.loads(ctl(machine.host, "sessions", "--json").text)
    assert [session["id"] for session in report] == [
        identity(1),
        identity(3),
        identity(2),
    ]
    assert report[0] == {
        "id": identity(1),
        "peer": "192.0.2.1:4711",
        "age": 61.5,
        "application": "cat -u",
        "state": "open",
        "bytes_in": 1,
        "bytes_out": 2048,
        "messages_in": 3,
        "messages_out": 4,
        "cpu": 0.25,
        "memory": 1000000,
        "tasks": 2,
        "started": STARTED - 60_000_000,
        "command": "cat -u",
        "framing": "json",
        "pid": 101,
        "application_pid": 5001,
        "unit": "chimirror@1-127.0.0.1:30747-192.0.2.1:4711.service",
        "server": None,
    }


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("age", [1, 3, 2]),
        ("id", [1, 2, 3]),
        ("peer", [1, 3, 2]),
        ("application", [1, 2, 3]),
        ("state", [2, 1, 3]),
        ("in", [3, 2, 1]),
        ("cpu", [3, 2, 1]),
        ("memory", [3, 2, 1]),
        ("tasks", [3, 2, 1]),
    ],
)
def test_sorts(machine: Machine, key: str, expected: list[int]) -> None:
    assert order(ctl(machine.host, "sessions", "--sort", key)) == expected


def test_every_sort_is_a_column() -> None:
    names = {column.name for column in (*sessions.COLUMNS, sessions.USER)}
    assert {sessions.KEYS.get(key, key) for key in sessions.SORTS} <= names
    for key in sessions.SORTS:
        assert f" {key}" in usage.USAGE


def test_unknown_values_come_last(machine: Machine) -> None:
    machine.unit(9)
    assert order(ctl(machine.host, "sessions", "--sort", "in"))[-1] == 9
    assert order(ctl(machine.host, "sessions", "--sort", "peer"))[-1] == 9


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--peer", "192.0.2.3"], [3]),
        (["--peer", "192.0.2.0/24"], [1, 3]),
        (["--peer", "2001:db8::/32"], [2]),
        (["--peer", "::ffff:192.0.2.3"], [3]),
        (["--peer", "::ffff:192.0.2.9/120"], [1, 3]),
        (["--peer", "[2001:db8::7]"], [2]),
        (["--peer", ":4711"], [1, 3, 2]),
        (["--peer", "198.51.100.0/24"], []),
        (["--application", "game"], [3]),
        (["--application", "cat"], [1, 2]),
        (["--application", "python3"], [3]),
        (["--older", "11"], [1, 3]),
        (["--younger", "11.5"], [3, 2]),
        (["--older", "5s", "--younger", "1min"], [3]),
        (["--older", "5s", "--peer", "192.0.2.1"], [1]),
    ],
)
def test_filters(machine: Machine, options: list[str], expected: list[int]) -> None:
    assert order(ctl(machine.host, "sessions", *options)) == expected


def test_a_peer_on_a_unix_socket_is_in_no_network(machine: Machine) -> None:
    machine.unit(4)
    machine.tell(4, peer="unix:1000")
    assert 4 not in order(ctl(machine.host, "sessions", "--peer", "0.0.0.0/0"))
    assert order(ctl(machine.host, "sessions", "--peer", "unix")) == [4]


# Users


@pytest.fixture
def named(machine: Machine) -> Machine:
    """Return a machine whose sessions 1 and 3 are of users."""
    machine.tell(1, user="CORP\\ann", started=STARTED - 60_000_000)
    machine.tell(3, user="bob")
    return machine


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("CORP\\ann", [1]),
        ("CORP\\\\ann", [1]),  # as a table shows it
        ("bob", [3]),
        ("bo", []),
        ("", [2]),
    ],
)
def test_sessions_of_a_user(named: Machine, name: str, expected: list[int]) -> None:
    assert order(ctl(named.host, "sessions", "--user", name)) == expected


def test_users_are_shown_where_there_are_some(named: Machine) -> None:
    wide = ctl(named.host, "sessions", width=200).text.splitlines()
    assert wide[0].split()[:4] == ["ID", "PEER", "USER", "AGE"]
    columns = {line.split()[0]: line.split()[2] for line in wide[1:4]}
    assert columns == {"00000001": "CORP\\\\ann", "00000002": "-", "00000003": "bob"}
    piped = ctl(named.host, "sessions").text.splitlines()
    assert piped[0].split("\t")[-1] == "user"
    assert sorted(line.split("\t")[-1] for line in piped[1:]) == [
        *("-", "CORP\\\\ann", "bob"),
    ]
    rows = json.loads(ctl(named.host, "sessions", "--json").text)
    assert {row["id"]: row.get("user") for row in rows} == {
        identity(1): "CORP\\ann",
        identity(2): None,
        identity(3): "bob",
    }
    shown = ctl(named.host, "show", "00000003", width=80).text
    assert "  USER: bob\n" in shown


def test_users_are_not_mentioned_where_there_are_none(machine: Machine) -> None:
    for words in (["sessions"], ["sessions", "--json"], ["show", "00000003"]):
        assert "user" not in ctl(machine.host, *words).text
        assert "USER" not in ctl(machine.host, *words, width=200).text


def test_long_names_fit_on_a_narrow_terminal(named: Machine) -> None:
    named.tell(2, user="n" * 253 + "…", peer="[2001:db8:1234:5678::7]:47110")
    screen = ctl(named.host, "sessions", width=80)
    lines = screen.text.splitlines()
    assert max(map(len, lines)) <= 80
    assert {"ID", "PEER", "USER", "AGE"} <= set(lines[0].split())
    assert any("nnnnn" in line for line in lines)


def test_sort_by_user(named: Machine) -> None:
    assert order(ctl(named.host, "sessions", "--sort", "user")) == [1, 3, 2]


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--sort", "size", "--sort: write one of id, peer"),
        ("--older", "soon", '--older: "soon" is not a time'),
        ("--younger", "soon", '--younger: "soon" is not a time'),
    ],
)
def test_invalid_values(
    machine: Machine, option: str, value: str, message: str
) -> None:
    with pytest.raises(CommandError) as caught:
        ctl(machine.host, "sessions", option, value)
    assert str(caught.value).startswith(message)
    assert caught.value.status == os.EX_USAGE


class Interrupted(Exception):
    """Ends --watch, as Ctrl-C does."""


def test_watch_prints_again(machine: Machine) -> None:
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            raise Interrupted

    screen = Screen(100)
    given = usage.parse(["sessions", "--watch"])
    with pytest.raises(Interrupted):
        sessions.sessions(given, machine.host, screen, pause)
    assert screen.text.count("ID  ") == 3
    assert screen.text.count(sessions.CLEAR_SCREEN) == 3
    assert pauses == [sessions.WATCH_INTERVAL] * 3


def test_watch_stays_on_the_screen(machine: Machine) -> None:
    screen = Screen(100, 5)

    def pause(seconds: float) -> None:
        raise Interrupted

    given = usage.parse(["sessions", "--watch"])
    with pytest.raises(Interrupted):
        sessions.sessions(given, machine.host, screen, pause)
    head, first, blank, total = screen.text.splitlines()
    assert head.startswith(f"{sessions.CLEAR_SCREEN}ID ")
    assert (first[:8], blank, total) == (
        "00000001",
        "",
        "3 sessions, the first 1 shown",
    )


def test_watch_in_a_pipe_is_a_line_of_json_each_time(machine: Machine) -> None:
    screen = Screen()

    def pause(seconds: float) -> None:
        raise Interrupted

    given = usage.parse(["sessions", "--watch", "--json"])
    with pytest.raises(Interrupted):
        sessions.sessions(given, machine.host, screen, pause)
    assert len(json.loads(screen.text)) == 3


# show


def test_show(machine: Machine) -> None:
    machine.process(103, "chimirror-bridge cat")
    machine.process(903, "cat \x1b[2J")
    message = ctl(machine.host, "show", "00000003").text
    pairs = dict(line.split("\t") for line in message.splitlines())
    assert (pairs["id"], pairs["peer"]) == (identity(3), "192.0.2.3:4711")
    assert (pairs["memory_max"], pairs["tasks_max"]) == ("536870912", "-")
    assert (pairs["cpu_quota"], pairs["framing"]) == ("1.5", "json")
    assert pairs["processes"] == "103 chimirror-bridge cat; 903 cat \\x1b[2J"
    shown = ctl(machine.host, "show", "00000003", width=60).text
    assert "   CPU LIMIT: 150%\n" in shown
    assert "MEMORY LIMIT: 512M\n" in shown
    unit = "".join(shown.partition("UNIT: ")[2].partition("SERVER")[0].split())
    assert unit == "chimirror-game@3-127.0.0.1:30747-192.0.2.3:4711.service"
    assert all(len(line) <= 60 for line in shown.splitlines())
    report = json.loads(ctl(machine.host, "show", "--json", "00000003").text)
    assert report["processes"] == [[103, "chimirror-bridge cat"], [903, "cat \x1b[2J"]]


def test_show_without_a_unit(machine: Machine) -> None:
    machine.tell(5)
    machine.process(105)
    machine.process(5005, "cat -u")
    report = json.loads(ctl(machine.host, "show", "--json", identity(5)).text)
    assert report["processes"] == [[5005, "cat -u"]]
    assert (report["unit"], report["memory_max"]) == (None, None)


@pytest.mark.parametrize(
    ("text", "status", "message"),
    [
        ("0000000f", os.EX_NOINPUT, "no live session 0000000f"),
        ("0", os.EX_DATAERR, "0 is ambiguous: 3 sessions begin with it: 00000001, 0"),
        ("xyz", os.EX_USAGE, "xyz is not the beginning of an ID"),
        ("\x1b[2J", os.EX_USAGE, "\\x1b[2J is not the beginning"),
        (identity(1) + "0", os.EX_USAGE, identity(1)),
    ],
)
def test_invalid_ids(machine: Machine, text: str, status: int, message: str) -> None:
    with pytest.raises(CommandError) as caught:
        run(["show", text], machine.host, Screen())
    assert str(caught.value).startswith(message)
    assert caught.value.status == status


def test_ids_may_be_short_and_in_capitals() -> None:
    known = ["ab" + "0" * 30, "cd" + "0" * 30]
    assert session_info.match_id("A", known) == known[0]
    assert session_info.match_id("e", known) is None
    assert session_info.unique_prefix_length(known) == 8
    assert session_info.unique_prefix_length(["0" * 31 + "1", "0" * 31 + "2"]) == 32
    assert session_info.unique_prefix_length([]) == 8


def test_an_ambiguous_id_names_some_sessions() -> None:
    known = [f"{number:032x}" for number in range(9)]
    with pytest.raises(CommandError, match=r"9 sessions begin with it: .*, …"):
        session_info.match_id("0", known)
