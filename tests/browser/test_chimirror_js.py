"""chimirror.js: the same cases in Node and in a page of another origin."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from hostile_server import SESSIONS, hostile_server
from js_cases import CaseRunner, address, cases, runner
from js_runners import Runner
from processes import steady, until, written
from serve import reserved, server

__all__ = ["cases", "runner"]  # fixtures

FRAMINGS = ("--framing", "stdio,json,lines,lsp", "--stderr", "log")
NO_RETRY = {"retry": False}
EXIT_0 = {"code": 0, "signal": None, "reason": "exit 0", "closeCode": 1000} | NO_RETRY


def shell(script: str) -> list[str]:
    return ["sh", "-c", script]


def test_a_dialogue(cases: CaseRunner) -> None:
    result = cases.run_case("dialogue", ["cat"])
    assert result.pop("url").startswith("ws://127.0.0.1:")
    assert len(result.pop("id")) == 32
    assert result == {
        "first": "héllo",
        "second": '{"a":[1]}',
        "rest": {"done": True},
        "stderr": "",
        "framing": "stdio",
        "exit": EXIT_0,
    }


def test_bytes_of_every_kind(cases: CaseRunner) -> None:
    result = cases.run_case("bytes", ["cat"])
    every = bytes(at * 7 & 255 for at in range(65536 + 255))
    sizes = (0, 1, 2, 3, 49151, 49152, 49153)
    sent = b"".join(every[1 : size + 1] for size in sizes)
    sent += every + every[3:8] + b"A" * (3 << 20) + "ä€🙂".encode()
    checksum = 0
    for byte in sent:
        checksum = (checksum * 31 + byte) % 4294967291
    assert (result["size"], result["sum"]) == (len(sent), checksum)
    assert result["exit"] == EXIT_0
    assert result["wrong"]["name"] == "TypeError"


@pytest.mark.parametrize(
    ("ending", "ended"),
    [
        ("exit 3", {"code": 3, "signal": None, "reason": "exit 3"}),
        ("kill -KILL $$", {"code": None, "signal": "KILL", "reason": "signal KILL"}),
        ("kill -40 $$", {"code": None, "signal": "40", "reason": "signal 40"}),
    ],
)
def test_streams_and_status(cases: CaseRunner, ending: str, ended: Any) -> None:
    script = f"printf out; printf err >&2; printf more; {ending}"
    result = cases.run_case("streams", shell(script), "--stderr", "client")
    ended |= {"closeCode": 1011} | NO_RETRY
    assert result == {"both": ["outmore", "err"], "exit": ended}


@pytest.mark.parametrize("framing", ["stdio", "json", "lines"])
def test_events(cases: CaseRunner, framing: str) -> None:
    script = shell("echo out; exit 2")
    result = cases.run_case("events", script, *FRAMINGS, framing=framing)
    ended = {"code": 2, "signal": None, "reason": "exit 2", "closeCode": 1011}
    ended |= NO_RETRY
    assert result == [
        ["stdout", "out\n"],
        ["again", ""],
        ["exit", ended],
        ["close", {"code": 1011, "reason": "exit 2"}],
        True,
    ]


def test_events_of_an_end_that_is_no_exit(cases: CaseRunner) -> None:
    result = cases.run_case("events", ["cat"], "--session-timeout", "0.2")
    error, close, locked = result
    assert error[0] == "error"
    assert error[1] == {
        "name": "ChimirrorError",
        "kind": "lost",
        "message": "the server closed the session: time",
        "closeCode": 1001,
        "reason": "time",
    }
    assert (close, locked) == (["close", {"code": 1001, "reason": "time"}], True)


def test_signals(cases: CaseRunner) -> None:
    script = "trap 'echo got' USR1; echo ready; while :; do sleep 0.01; done"
    result = cases.run_case("signals", shell(script))
    assert result["answer"] == "got\n"
    assert (result["exit"]["signal"], result["exit"]["closeCode"]) == ("KILL", 1011)


@pytest.mark.parametrize("framing", ["stdio", "json"])
def test_mistakes_do_not_end_the_session(cases: CaseRunner, framing: str) -> None:
    result = cases.run_case("mistake", ["cat"], framing=framing)
    assert (result["error"]["name"], result["error"]["kind"]) == (
        "ChimirrorError",
        "mistake",
    )
    assert result["error"]["message"]
    assert result["answer"] == {"value": "{}", "done": False}
    assert result["exit"]["closeCode"] == 1000


@pytest.mark.parametrize("framing", ["json", "lines", "lsp"])
def test_framings_of_messages(cases: CaseRunner, framing: str) -> None:
    result = cases.run_case("messages", ["cat"], *FRAMINGS, framing=framing)
    assert not result["available"]
    # The json framing keeps white space between tokens, and so do the others.
    assert result["found"] == ['"é"', '{"a":\t1}', "2", '"last"']
    assert result["ending"]["message"].startswith("only the framing stdio can end")
    assert result["signalling"]["message"] == "only the framing stdio has a signal"
    assert result["control"]["message"].startswith("control needs the framing stdio")
    assert result["end"]["done"]
    assert result["exit"]["closeCode"] == 1000


def test_a_foreign_subprotocol(cases: CaseRunner) -> None:
    options = ("--framing", "lines", "--subprotocol", "mcp=lines")
    asked = {"framing": "lines", "subprotocol": "mcp"}
    result = cases.run_case("messages", ["cat"], *options, **asked)
    assert result["found"][0] == '"é"'


PRETTY = '{\\n "a": 1\\n}'


def test_a_message_of_a_language_server_is_a_line(cases: CaseRunner) -> None:
    script = f"printf 'Content-Length: 11\\r\\n\\r\\n{PRETTY}'"
    result = cases.run_case("events", shell(script), *FRAMINGS, framing="lsp")
    assert result[0] == ["stdout", '{  "a": 1 }\n']


def test_long_lines(cases: CaseRunner) -> None:
    script = "import sys; sys.stdout.write('é' * 3000000 + '\\r\\n\\nlast')"
    result = cases.run_case("long", ["python3", "-c", script])
    assert result["sizes"] == [[3000000, "é"], [0, None], [4, "t"]]
    assert result["over"]["kind"] == "unread"
    assert result["over"]["message"] == "a line is longer than 100"


# Failed connections.


def refused(runner: Runner, message: str, result: Any) -> None:
    """A browser gives no reason to a page of another origin."""
    assert (result["name"], result["kind"]) == ("ChimirrorError", "refused")
    if runner.origin:
        assert result["message"].startswith("no connection to 127.0.0.1:")
        assert runner.origin in result["message"]
    else:
        assert message in result["message"]


def test_nothing_listens(cases: CaseRunner) -> None:
    with (
        reserved() as port,
        cases.runner.run_case("refused", f"http://127.0.0.1:{port}/") as running_case,
    ):
        refused(cases.runner, "no reachable server answers", running_case.result())


def test_a_framing_that_is_not_served(cases: CaseRunner) -> None:
    result = cases.run_case("refused", ["cat"], "--framing", "json")
    refused(cases.runner, "answers: no subprotocol that is served here", result)


def test_an_origin_that_is_not_served(runner: Runner, tmp_path: Path) -> None:
    with (
        server(tmp_path, ["cat"], "--framing", "json") as service,
        runner.run_case("refused", address(service)) as running_case,
    ):
        refused(runner, "answers: no subprotocol", running_case.result())


def test_an_unknown_framing(cases: CaseRunner) -> None:
    with cases.runner.run_case(
        "refused", "ws://x/", framing="toString"
    ) as running_case:
        result = running_case.result()
    assert result["name"] == "TypeError"
    assert result["message"].endswith("write one of stdio, json, lines, lsp")


def test_an_aborted_connect(cases: CaseRunner) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        cases.runner.run_case(
            "abandoned", f"ws://127.0.0.1:{silent.getsockname()[1]}"
        ) as running_case,
    ):
        assert running_case.result() == ["TimeoutError", 4711]


def test_an_abort_after_connecting(cases: CaseRunner) -> None:
    assert cases.run_case("abortedLate", ["cat"]) == EXIT_0


# Ends.


LOST = {
    "name": "ChimirrorError",
    "kind": "lost",
    "message": "the connection was lost: the network or the server has failed",
    "closeCode": 1006,
    "reason": "",
}


DRAINED = LOST | {
    "message": "the server is shutting down",
    "closeCode": 1001,
    "reason": "drain",
}


@pytest.mark.parametrize("lost", [LOST, DRAINED], ids=["dies", "drains"])
def test_a_server_that_ends_and_comes_back(
    cases: CaseRunner, lost: dict[str, Any]
) -> None:
    with reserved() as port:
        listen = f"127.0.0.1:{port}"
        with (
            cases.serve(["cat"], "--drain-timeout=0", listen=listen) as first,
            cases.runner.run_case("lost", f"ws://{listen}/") as running_case,
        ):
            running_case.wait_for_messages(1)
            first.stop() if lost is DRAINED else first.kill_all()
            running_case.wait_for_messages(2)
            running_case.cue()
            running_case.wait_for_messages(3)
            with cases.serve(["cat"], listen=listen):
                running_case.cue()
                result = running_case.result()
    refused(cases.runner, "no reachable server answers", result.pop("gone"))
    end = {name: lost[name] for name in ("reason", "closeCode")}
    assert result == {
        "exit": {"code": None, "signal": None, "retry": True} | end,
        "reading": lost,
        "writing": lost,
        "error": lost,
        "close": {"code": lost["closeCode"], "reason": lost["reason"]},
        "next": EXIT_0,
    }


def test_a_local_close_is_no_error(cases: CaseRunner) -> None:
    result = cases.run_case("closing", ["cat"])
    ended = {"code": None, "signal": None, "reason": "", "closeCode": 1000}
    ended |= NO_RETRY
    over = {
        "name": "ChimirrorError",
        "kind": "over",
        "message": "the session is over",
    }
    assert result == {
        "exit": ended,
        "read": "",
        "write": over,
        "signal": over,
        "aborted": ended,
    }


@pytest.mark.parametrize("ending", ["abort", "close"])
@pytest.mark.parametrize(
    ("framing", "ended"), [("stdio", (1000, "closed")), ("json", (1006, ""))]
)
def test_a_close_that_is_not_answered(
    cases: CaseRunner, framing: str, ended: tuple[int, str], ending: str
) -> None:
    # Behind unread data, a server detects a lost client late.
    options = ("--framing", framing, "--drain-timeout", "0.1")
    asked = {"framing": framing, "ending": ending}
    result = cases.run_case("stuck", ["sleep", "1000"], *options, **asked)
    assert (result["exit"]["closeCode"], result["exit"]["reason"]) == ended
    assert (result["again"], result["flood"]["kind"]) == (result["exit"], "over")


def test_impossible_calls_fail_at_once(cases: CaseRunner) -> None:
    result = cases.run_case("misused", ["cat"])
    names = [each["name"] for each in result["found"]]
    assert names == ["TypeError", "TypeError", "TypeError"]
    assert [each["message"] for each in result["found"]] == [
        "undefined is not a JSON value",
        "unknown stream stdlog; write one of stdin, stdout, stderr",
        "the application has no terminal",
    ]
    assert (result["paused"], result["exit"]) == ([], EXIT_0)
    assert result["late"]["kind"] == "over"


# Back-pressure.


@pytest.mark.parametrize("framing", ["json", "lines"])
def test_unread_output_has_a_limit(cases: CaseRunner, framing: str) -> None:
    limit = 1 << 20
    asked = {"framing": framing, "limit": limit}
    result = cases.run_case("unread", ["yes", "y" * 1000], *FRAMINGS, **asked)
    assert result["exit"]["closeCode"] == 4000
    assert result["error"]["kind"] == "unread"
    assert result["error"]["message"].startswith(
        f"{result['size']} bytes of stdout wait"
    )
    assert limit < result["size"] < limit + (1 << 18)


def test_cancelled_output_is_not_kept(cases: CaseRunner) -> None:
    script = "head -c 5000000 /dev/zero; echo done >&2"
    result = cases.run_case("cancelled", shell(script))
    assert result == {"stderr": "done\n", "exit": EXIT_0}


def test_writes_wait_for_the_application(cases: CaseRunner) -> None:
    gate = cases.directory / "gate"
    os.mkfifo(gate)
    with (
        cases.serve(shell(f"read go <{gate}; wc -c")) as service,
        cases.runner.run_case("slowly", address(service)) as running_case,
    ):
        seen = [0]
        while seen[-1] == 0 or len(set(seen[-5:])) > 1:
            seen = running_case.wait_for_messages(len(seen) + 1)
        assert seen[-1] < 16 << 20
        gate.write_text("go\n")
        result = running_case.result()
    assert result == {"text": f"{32 << 20}\n", "exit": EXIT_0, "written": 32 << 20}


MUCH = 400_000_000  # bytes, much more than the garbage that a browser may leave
MANY = 64 << 20  # bytes, more than is kept for a slow reader


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("case", "script", "result"),
    [
        ("flood", f"read go; head -c {MUCH} /dev/zero", {"size": MUCH}),
        ("pour", "wc -c", {"text": f"{-(-MUCH // 65536) * 65536}\n"}),
    ],
)
def test_memory_is_flat(
    cases: CaseRunner, case: str, script: str, result: dict[str, object]
) -> None:
    with (
        cases.serve(shell(script)) as service,
        cases.runner.run_case(case, address(service)) as running_case,
    ):
        running_case.wait_for_messages(1)
        memory = running_case.memory()
        running_case.cue()
        assert running_case.wait_for_messages(2)[1] == {**result, "exit": EXIT_0}
        assert memory.growth() < MUCH * 3 // 4
        running_case.cue()
        running_case.result()


# Control.


def resumed(cases: CaseRunner, name: str) -> Any:
    """Run a case that pauses a stream and reads on after its cue."""
    with (
        cases.serve(["head", "-c", str(MANY), "/dev/zero"]) as service,
        cases.runner.run_case(name, address(service)) as running_case,
    ):
        running_case.wait_for_messages(1)
        (application,) = service.applications()
        until(steady(lambda: written(application)), "a pause")
        assert written(application) < MANY // 2
        running_case.cue()
        return running_case.result()


def test_unread_output_is_paused(cases: CaseRunner) -> None:
    result = resumed(cases, "paused")
    paused = ["stdout"]
    assert result == {"unread": paused, "asked": paused, "size": MANY, "exit": EXIT_0}


def test_control_calls(cases: CaseRunner) -> None:
    result = cases.run_case("steered", ["cat"])
    closed = {"code": None, "signal": None, "reason": "closed", "closeCode": 1000}
    unknown, wrong = result.pop("unknown"), result.pop("wrong")
    assert (unknown["kind"], unknown["code"]) == ("control", -32601)
    assert (wrong["kind"], wrong["code"]) == ("control", -32602)
    assert result.pop("after")["kind"] == "over"
    assert result.pop("ended")["done"]
    assert result == {
        "one": "one",
        "two": "two",
        "known": [True, "stdio"],
        "paused": ["stdin", "stdout", "stderr"],
        "still": ["stderr"],
        "asyncapi": "3.0.0",
        "exit": closed | NO_RETRY,
    }


def test_a_signal_overtakes_the_input(cases: CaseRunner) -> None:
    result = cases.run_case("ahead", ["sleep", "1000"])
    assert result["exit"]["signal"] == "KILL"
    assert result["flood"]["kind"] == "over"


ADDING = """
import json, os, socket
control = socket.socket(fileno=int(os.environ["CHIMIRROR_CONTROL_FD"]))
for line in control.makefile():
    asked = json.loads(line)
    answer = {"jsonrpc": "2.0", "id": asked["id"]}
    if asked["method"] == "add":
        answer["result"] = asked["params"]["a"] + asked["params"]["b"]
        told = {"jsonrpc": "2.0", "method": "added", "params": {"times": 1}}
        control.sendall(json.dumps(told).encode() + b"\\n")
    else:
        answer["error"] = {"code": 7, "message": "cannot", "data": "only add"}
    control.sendall(json.dumps(answer).encode() + b"\\n")
"""


def test_methods_of_the_application(cases: CaseRunner) -> None:
    result = cases.run_case("asked", ["python3", "-c", ADDING], "--control")
    refused = result.pop("refused")
    assert (refused["kind"], refused["code"]) == ("control", 7)
    assert refused["message"] == "cannot"
    notification = {"method": "added", "params": {"times": 1}}
    assert result == {"sum": 3, "detail": notification}


def test_a_pause_that_fails(cases: CaseRunner) -> None:
    result = cases.run_case("uncontrolled", ["yes", "y" * 1000])
    assert result["exit"]["closeCode"] == 4000
    assert result["error"]["kind"] == "unread"


def test_a_resumption_that_fails_is_tried_again(cases: CaseRunner) -> None:
    """A stream does not stay paused after a lost control connection."""
    result = resumed(cases, "severed")
    assert result.pop("unpaused")["kind"] == "control"
    assert result == {"available": True, "size": MANY, "exit": EXIT_0}


def test_a_terminal(cases: CaseRunner) -> None:
    script = "stty -echo; echo ready; while read line; do $line; done"
    result = cases.run_case("terminal", shell(script), "--pty")
    assert result == {"pty": True, "shown": "43 132", "code": 3, "without": False}


def test_an_unread_terminal(cases: CaseRunner) -> None:
    """The program writes what the window permits and the terminal holds."""
    with (
        cases.serve(["seq", "100000"], "--pty") as service,
        cases.runner.run_case("windowed", address(service)) as running_case,
    ):
        running_case.wait_for_messages(1)
        (application,) = service.applications()
        until(steady(lambda: written(application)), "the window is full")
        assert 1 << 16 < written(application) < 4 << 16  # of 9 << 16
        running_case.cue()
        result = running_case.result()
    lines = {"lines": 100_001, "whole": True, "same": True, "mistakes": 0}
    assert result == {**lines, "paused": [], "exit": EXIT_0, "code": 0}


def test_a_terminal_that_is_watched(cases: CaseRunner) -> None:
    script = "echo ready; while [ \"$(stty size)\" != '43 132' ]; do :; done; exit 3"
    result = cases.run_case("watched", shell(script), "--pty", "--read-only")
    way = {"direction": "receive", "readOnly": True}
    assert result == {**way, "shown": "ready", "code": 3}


# The application plays a server that violates the protocol.
BEGUN = (
    r'{"type":"session","id":"x","secret":"y"}\n{"type":"toString"}\n{"type":"news"}\n'
)
SAID = r'{"type":"stdout","payload":"b2s="}\n'


@pytest.mark.parametrize(
    "wrong", ["null", "no", '{"type":"stderr"}', '{"type":"stdout","payload":"?"}']
)
def test_a_server_that_violates_the_protocol(cases: CaseRunner, wrong: str) -> None:
    script = f"printf '{BEGUN}'; read go; printf '{SAID}{wrong}\\n'"
    options = ("--framing", "lines", "--subprotocol", "odd=lines")
    result = cases.run_case("odd", shell(script), *options, subprotocol="odd")
    for call in (result["control"], result["watch"]):
        assert call["kind"] == "control"
        assert call["message"].startswith("the control connection ended: ")
    assert (result["id"], result["text"]) == ("x", "ok")
    assert result["error"]["kind"] == "protocol"
    assert result["error"]["message"] == f"a message violates framing stdio: {wrong}"
    assert result["exit"]["closeCode"] == 4000


# Node never gives up a closing handshake, so the server answers close frames here.
HOSTILE = [kind for kind in SESSIONS if kind != "deaf"] + ["refused", "head"]


def test_hostile_sessions_leave_nothing_behind(runner: Runner) -> None:
    """Every connection ends, and sessions with their control become garbage."""
    count = 1 if runner.origin else 3  # Chromium opens one connection at a time
    with (
        hostile_server() as server,
        runner.run_case("hostile", server.url, kinds=HOSTILE, count=count) as case,
    ):
        (opened,) = case.wait_for_messages(1)
        assert opened >= 2 * count * (len(HOSTILE) - 3)
        until(lambda: not server.open, "the end of all connections")
        case.collect_garbage()
        case.cue()
        assert case.wait_for_messages(2)[1] <= 4  # of the frames that run last
        case.result()
