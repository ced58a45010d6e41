"""The option --host: runs a verb on several hosts, and merges their answers.

Each host runs its own chimirror-ctl with --json. Here its rows get the name of the
host, as it is on the command line, and are sorted and printed as one table. A host that
fails is reported on standard error, and the others are shown. An answer is text of a
peer: its fields are checked, and it is escaped where it is shown.
"""

from __future__ import annotations

import math
import os
from datetime import datetime

from chimirror.ctl import (
    host_answers,
    json_fields,
    remote_hosts,
    session_info,
    timestamps,
    usage,
)
from chimirror.ctl.commands import check, history, sessions, show_limits, stats
from chimirror.ctl.json_fields import Malformed
from chimirror.ctl.messages import BAD, GOOD, WARNING, CommandError, Finding, warn
from chimirror.ctl.output import Column
from chimirror.host import runtime_dir

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from chimirror.ctl.output import OutputWriter
    from chimirror.ctl.usage import CommandLine

    Row = dict[str, object]

HOST = Column("host", "HOST", keep="start")
# Options for the merged table. The hosts do not get them.
LOCAL = ("--host", "--json", "--no-trunc", "--sort", "--since")
# Verbs without --json, whose lines are printed behind the name of the host.
LINES = ("limit", "drain", "undrain")
ALL = "(all)"  # the row of sums: no host can have this name
# A narrow terminal omits the columns with the highest rank first.
TOTALS_RANKS = {
    "started": 2,
    "ended": 3,
    "rate": 4,
    "bytes_in": 5,
    "bytes_out": 5,
    "messages_in": 6,
    "messages_out": 6,
}


def run(given: CommandLine, output: OutputWriter) -> int:
    """Run a verb on the hosts of --host.

    Returns:
        The highest exit status of all hosts.

    Raises:
        CommandError: The command line is wrong, or there is no ssh.
    """
    hosts = remote_hosts.parse_names(given.options["--host"])
    statuses, answered = [os.EX_OK], False
    rows: list[Row] = []
    for answer in remote_hosts.run(hosts, _request(given)):
        try:
            if given.verb in LINES:
                output.write(host_answers.lines(answer))
            else:
                found = host_answers.value(answer, CHECKED[given.verb])
                rows += _named(answer.host, found)
            answered = True
        except CommandError as failure:
            warn(f"{answer.host}: {failure}")
            statuses.append(failure.status)
            continue
        for message in host_answers.messages(answer):
            warn(f"{answer.host}: {message}")
        statuses.append(host_answers.exit_status(answer))
    if answered and given.verb in MERGED:
        MERGED[given.verb](given, rows, output)
    return max(statuses)


# Requests


def _request(given: CommandLine) -> list[str]:
    """Return the command line for a host. Checks the parts that are used here.

    Raises:
        CommandError: A value is wrong.
    """
    if "--watch" in given:
        text = "--watch: each table would log in anew; write watch chimirror-ctl"
        raise CommandError(os.EX_USAGE, f"{text} --host {given.options['--host']}")
    if given.verb == "sessions":
        sessions.row_filter(given)
        sessions.sort_name(given)
    if given.verb == "history":
        history.bounds(given)
    valued = {option.name for option in usage.OPTIONS if option.metavar}
    words = ["chimirror-ctl", given.verb]
    for name, text in given.options.items():
        if name not in LOCAL:
            words.append(f"{name}={text}" if name in valued else name)
    if given.verb not in LINES:
        words.append("--json")
    if "--since" in given:
        # A time of day here is another one where the time zone is another one.
        now = datetime.now().astimezone()
        since = timestamps.since(given.options["--since"], now) / 1e6
        words.append(f"--since={max(now.timestamp() - since, 0):.6f}s")
    return words


# Fields


def _rows(columns: Sequence[Column], *needed: str) -> Callable[[object], list[Row]]:
    """Return a check of rows: the fields of these columns have their types."""
    return lambda value: [
        _checked(row, columns, needed) for row in json_fields.as_objects(value)
    ]


def _plain(row: Row) -> Row:
    """Return the fields that JSON can express on one level, also unknown ones."""
    return {
        name: value
        for name, value in row.items()
        if value is None
        or isinstance(value, str | int)
        or (isinstance(value, float) and math.isfinite(value))
    }


def _checked(row: Row, columns: Sequence[Column], needed: Sequence[str] = ()) -> Row:
    for column in columns:
        if column.formatter is not None:
            json_fields.number(row, column.name)
        elif row.get(column.name) is not None:
            json_fields.text(row, column.name)
    for name in needed:
        if row.get(name) is None:
            raise Malformed(f"{name} is missing")
    if "id" in needed and not runtime_dir.is_session(str(row["id"])):
        raise Malformed("id is not that of a session")  # shells complete it
    return _plain(row)


def _totals(value: object) -> list[Row]:
    found = json_fields.as_object(value)
    totals = _checked(found, stats.TOTALS)
    totals["causes"] = _rows(stats.CAUSES)(found.get("causes"))
    if "users" in found:
        totals["users"] = _rows(stats.USERS)(found["users"])
    return [totals]


def _findings(value: object) -> list[Row]:
    rows = _rows(check.COLUMNS, "verdict", "about", "text")(value)
    for row in rows:
        if row["verdict"] not in (GOOD, WARNING, BAD):
            raise Malformed("verdict is unknown")
        json_fields.text(row, "advice")
    return rows


CHECKED: Mapping[str, Callable[[object], list[Row]]] = {
    "sessions": _rows((*sessions.COLUMNS, sessions.USER), "id", "state"),
    "history": _rows((*history.COLUMNS, sessions.USER), "id", "ended"),
    "stats": _totals,
    "limits": _rows(show_limits.COLUMNS, "limit"),
    "check": _findings,
}


# Tables


def _named(host: str, rows: list[Row]) -> list[Row]:
    """Give rows the name of their host, which comes first. A host cannot choose it."""
    return [{"host": host} | row | {"host": host} for row in rows]


def _sessions(given: CommandLine, rows: list[Row], output: OutputWriter) -> None:
    if not (output.width or "--json" in given):
        rows = [row for row in rows if row["state"] != session_info.SPARE]
    sessions.sort_rows(rows, sessions.sort_name(given))
    if "--json" in given:
        output.json(rows)
        return
    _shorten(given, rows, output)
    sessions.print_table(given, (HOST, *sessions.COLUMNS), rows, output)


def _history(given: CommandLine, rows: list[Row], output: OutputWriter) -> None:
    history.sort_rows(rows)
    _, max_rows = history.bounds(given)
    rows = rows[-max_rows:] if max_rows else rows
    if "--json" in given:
        output.json(rows)
        return
    _shorten(given, rows, output)
    columns = sessions.with_user((HOST, *history.COLUMNS), rows, output)
    output.table(columns, rows, "ended session", full="--no-trunc" in given)


def _shorten(given: CommandLine, rows: list[Row], output: OutputWriter) -> None:
    """On a terminal, shorten ids, and leave out users if the hosts stay distinct."""
    if not output.width or "--no-trunc" in given:
        return
    session_info.shorten_ids(rows, ())
    names = {str(row["host"]): str(row["host"]).rpartition("@")[2] for row in rows}
    if len(set(names.values())) == len(names):
        for row in rows:
            row["host"] = names[str(row["host"])]


def _stats(given: CommandLine, rows: list[Row], output: OutputWriter) -> None:
    """Print a table of totals, one of causes and one of users."""
    if "--json" in given:
        output.json(rows)
        return
    full = "--no-trunc" in given
    columns = [
        column._replace(rank=TOTALS_RANKS.get(column.name, 0))
        for column in stats.TOTALS
        if column.name != "since"
    ]
    sums: Row = {"host": ALL}
    for column in columns:
        numbers = [json_fields.number(row, column.name) for row in rows]
        sums[column.name] = sum(number or 0 for number in numbers)
    # In a pipe, each line is a host.
    shown = [*rows, sums] if output.width and len(rows) > 1 else rows
    output.table((HOST, *columns), shown, full=full)
    _print_details("causes", stats.CAUSES, "count", rows, output, full)
    if any("users" in row for row in rows):
        _print_details("users", stats.USERS, "duration", rows, output, full)


def _print_details(
    name: str,
    columns: Sequence[Column],
    key: str,
    rows: list[Row],
    output: OutputWriter,
    full: bool,
) -> None:
    """Print the causes or the users of all hosts, the largest number first."""
    details = [
        {"host": row["host"], **detail}
        for row in rows
        for detail in json_fields.as_objects(row.get(name, []))
    ]
    details.sort(key=lambda row: -(json_fields.number(row, key) or 0))
    output.write("\n")
    output.table((HOST, *columns), details, full=full)


def _limits(given: CommandLine, rows: list[Row], output: OutputWriter) -> None:
    """Print each limit of all hosts together, which shows differences."""
    if "--json" in given:
        output.json(rows)
        return
    order = list(dict.fromkeys(str(row["limit"]) for row in rows))
    rows.sort(key=lambda row: order.index(str(row["limit"])))
    show_limits.print_table(given, (HOST, *show_limits.COLUMNS), rows, output)


def _check(given: CommandLine, rows: list[Row], output: OutputWriter) -> None:
    if "--json" in given:
        output.json(rows)
    elif output.width:
        findings = [
            Finding(
                str(row["verdict"]),
                f"{row['host']}: {row['about']}",
                str(row["text"]),
                str(row["advice"]),
            )
            for row in rows
        ]
        if findings:
            check.print_findings(findings, output)
    else:
        columns = (HOST, *check.COLUMNS, Column("advice", "ADVICE"))
        output.table(columns, rows)


MERGED: Mapping[str, Callable[[CommandLine, list[Row], OutputWriter], None]] = {
    "sessions": _sessions,
    "history": _history,
    "stats": _stats,
    "limits": _limits,
    "check": _check,
}
