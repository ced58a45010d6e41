"""chimirror.js, the same cases in Node and in a page of another origin."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from launch import Service, reserved, server
from players import PLAYERS, Player
from settling import Memory, steady, until, written

FRAMINGS = ("--framing", "stdio,json,lines,lsp", "--stderr", "log")
EXIT_0 = {"code": 0, "signal": None, "reason": "exit 0", "closeCode": 1000}


@pytest.fixture(scope="module", params=PLAYERS)
def player(request: pytest.FixtureRequest) -> Iterator[Player]:
    with PLAYERS[request.param]() as found:
        yield found


class Theatre:
    """Plays cases against servers of its own."""

    def __init__(self, player: Player, directory: Path) -> None:
        self.player = player
        self.directory = directory

    def serve(self, command: list[str], *options: str, **more: str) -> Any:
        if self.player.origin:
            options = ("--origin", self.player.origin, *options)
        return server(self.directory, command, *options, **more)

    def play(
        self, case: str, command: list[str], *options: str, **asked: object
    ) -> Any:
        """The result of a case that needs nobody else."""
        with (
            self.serve(command, *options) as service,
            self.player.play(case, address(service), **asked) as play,
        ):
            return play.result()


def address(service: Service) -> str:
    return f"ws://127.0.0.1:{service.port}/"


@pytest.fixture
def theatre(player: Player, tmp_path: Path) -> Theatre:
    return Theatre(player, tmp_path)


def shell(script: str) -> list[str]:
    return ["sh", "-c", script]


def test_a_dialogue(theatre: Theatre) -> None:
    told = theatre.play("dialogue", ["cat"])
    assert told.pop("url").startswith("ws://127.0.0.1:")
    assert len(told.pop("id")) == 32
    assert told == {
        "first": "héllo",
        "second": '{"a":[1]}',
        "rest": {"done": True},
        "stderr": "",
        "framing": "stdio",
        "exit": EXIT_0,
    }


def test_bytes_of_every_kind(theatre: Theatre) -> None:
    told = theatre.play("bytes", ["cat"])
    every = bytes(at * 7 & 255 for at in range(65536 + 255))
    sizes = (0, 1, 2, 3, 49151, 49152, 49153)
    sent = b"".join(every[1 : size + 1] for size in sizes)
    sent += every + every[3:8] + b"A" * (3 << 20) + "ä€🙂".encode()
    checksum = 0
    for byte in sent:
        checksum = (checksum * 31 + byte) % 4294967291
    assert (told["size"], told["sum"]) == (len(sent), checksum)
    assert told["exit"] == EXIT_0
    assert told["wrong"]["name"] == "TypeError"


@pytest.mark.parametrize(
    ("ending", "ended"),
    [
        ("exit 3", {"code": 3, "signal": None, "reason": "exit 3"}),
        ("kill -KILL $$", {"code": None, "signal": "KILL", "reason": "signal KILL"}),
    ],
)
def test_streams_and_status(theatre: Theatre, ending: str, ended: Any) -> None:
    script = f"printf out; printf err >&2; printf more; {ending}"
    told = theatre.play("streams", shell(script), "--stderr", "client")
    assert told == {"both": ["outmore", "err"], "exit": {**ended, "closeCode": 1011}}


@pytest.mark.parametrize("framing", ["stdio", "json", "lines"])
def test_events(theatre: Theatre, framing: str) -> None:
    script = shell("echo out; exit 2")
    told = theatre.play("events", script, *FRAMINGS, framing=framing)
    ended = {"code": 2, "signal": None, "reason": "exit 2", "closeCode": 1011}
    assert told == [
        ["stdout", "out\n"],
        ["again", ""],
        ["exit", ended],
        ["close", {"code": 1011, "reason": "exit 2"}],
        True,
    ]


def test_events_of_an_end_that_is_no_exit(theatre: Theatre) -> None:
    told = theatre.play("events", ["cat"], "--session-timeout", "0.2")
    error, close, locked = told
    assert error[0] == "error"
    assert error[1] == {
        "name": "ChimirrorError",
        "kind": "lost",
        "message": "the server closed the session: time",
        "closeCode": 1001,
        "reason": "time",
    }
    assert (close, locked) == (["close", {"code": 1001, "reason": "time"}], True)


def test_signals(theatre: Theatre) -> None:
    script = "trap 'echo got' USR1; echo ready; while :; do sleep 0.01; done"
    told = theatre.play("signals", shell(script))
    assert told["answer"] == "got\n"
    assert (told["exit"]["signal"], told["exit"]["closeCode"]) == ("KILL", 1011)


@pytest.mark.parametrize("framing", ["stdio", "json"])
def test_mistakes_do_not_end_the_session(theatre: Theatre, framing: str) -> None:
    told = theatre.play("mistake", ["cat"], framing=framing)
    assert (told["error"]["name"], told["error"]["kind"]) == (
        "ChimirrorError",
        "mistake",
    )
    assert told["error"]["message"]
    assert told["answer"] == {"value": "{}", "done": False}
    assert told["exit"]["closeCode"] == 1000


@pytest.mark.parametrize("framing", ["json", "lines", "lsp"])
def test_framings_of_messages(theatre: Theatre, framing: str) -> None:
    told = theatre.play("messages", ["cat"], *FRAMINGS, framing=framing)
    assert not told["available"]
    # (The json framing keeps what stands between the tokens, and so do the others.)
    assert told["found"] == ['"é"', '{"a":\t1}', "2", '"last"']
    assert told["ending"]["message"].startswith("only the framing stdio can end")
    assert told["signalling"]["message"] == "only the framing stdio has a signal"
    assert told["control"]["message"].startswith("control needs the framing stdio")
    assert told["end"]["done"]
    assert told["exit"]["closeCode"] == 1000


def test_a_foreign_subprotocol(theatre: Theatre) -> None:
    options = ("--framing", "lines", "--subprotocol", "mcp=lines")
    asked = {"framing": "lines", "subprotocol": "mcp"}
    told = theatre.play("messages", ["cat"], *options, **asked)
    assert told["found"][0] == '"é"'


PRETTY = '{\\n "a": 1\\n}'


def test_a_message_of_a_language_server_is_a_line(theatre: Theatre) -> None:
    script = f"printf 'Content-Length: 11\\r\\n\\r\\n{PRETTY}'"
    told = theatre.play("events", shell(script), *FRAMINGS, framing="lsp")
    assert told[0] == ["stdout", '{  "a": 1 }\n']


def test_long_lines(theatre: Theatre) -> None:
    script = "import sys; sys.stdout.write('é' * 3000000 + '\\r\\n\\nlast')"
    told = theatre.play("long", ["python3", "-c", script])
    assert told["sizes"] == [[3000000, "é"], [0, None], [4, "t"]]
    assert told["over"]["kind"] == "unread"
    assert told["over"]["message"] == "a line is longer than 100"


# Where there is no session


def refused(player: Player, message: str, told: Any) -> None:
    """A page of another origin is told nothing, and says so."""
    assert (told["name"], told["kind"]) == ("ChimirrorError", "refused")
    if player.origin:
        assert told["message"].startswith("no connection to 127.0.0.1:")
        assert player.origin in told["message"]
    else:
        assert message in told["message"]


def test_nothing_listens(theatre: Theatre) -> None:
    with (
        reserved() as port,
        theatre.player.play("refused", f"http://127.0.0.1:{port}/") as play,
    ):
        refused(theatre.player, "nothing that can be reached answers", play.result())


def test_a_framing_that_is_not_served(theatre: Theatre) -> None:
    told = theatre.play("refused", ["cat"], "--framing", "json")
    refused(theatre.player, "answers, but starts no session", told)


def test_an_origin_that_is_not_served(player: Player, tmp_path: Path) -> None:
    with (
        server(tmp_path, ["cat"], "--framing", "json") as service,
        player.play("refused", address(service)) as play,
    ):
        refused(player, "answers, but starts no session", play.result())


def test_a_framing_that_there_is_not(theatre: Theatre) -> None:
    with theatre.player.play("refused", "ws://x/", framing="toString") as play:
        told = play.result()
    assert told["name"] == "TypeError"
    assert told["message"].endswith("there are stdio, json, lines, lsp")


def test_who_gives_up_connecting(theatre: Theatre) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        theatre.player.play(
            "abandoned", f"ws://127.0.0.1:{silent.getsockname()[1]}"
        ) as play,
    ):
        assert play.result() == ["TimeoutError", 4711]


def test_who_gives_up_too_late(theatre: Theatre) -> None:
    assert theatre.play("abortedLate", ["cat"]) == EXIT_0


# Ends


LOST = {
    "name": "ChimirrorError",
    "kind": "lost",
    "message": "the connection was lost: the network or the server has failed",
    "closeCode": 1006,
    "reason": "",
}


def test_a_server_that_dies_and_comes_back(theatre: Theatre) -> None:
    with reserved() as port:
        listen = f"127.0.0.1:{port}"
        with (
            theatre.serve(["cat"], listen=listen) as first,
            theatre.player.play("lost", f"ws://{listen}/") as play,
        ):
            play.said(1)
            first.perish()
            play.said(2)
            with theatre.serve(["cat"], listen=listen):
                play.cue()
                told = play.result()
    refused(theatre.player, "nothing that can be reached answers", told.pop("gone"))
    assert told == {
        "exit": {"code": None, "signal": None, "reason": "", "closeCode": 1006},
        "reading": LOST,
        "writing": LOST,
        "error": LOST,
        "close": {"code": 1006, "reason": ""},
        "next": EXIT_0,
    }


def test_what_we_end_is_no_error(theatre: Theatre) -> None:
    told = theatre.play("closing", ["cat"])
    ended = {"code": None, "signal": None, "reason": "", "closeCode": 1000}
    over = {
        "name": "ChimirrorError",
        "kind": "over",
        "message": "the session is over",
    }
    assert told == {
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
    theatre: Theatre, framing: str, ended: tuple[int, str], ending: str
) -> None:
    # (Behind what nobody reads, a server finds out late that the client has gone.)
    options = ("--framing", framing, "--drain-timeout", "0.1")
    asked = {"framing": framing, "ending": ending}
    told = theatre.play("stuck", ["sleep", "1000"], *options, **asked)
    assert (told["exit"]["closeCode"], told["exit"]["reason"]) == ended
    assert (told["again"], told["flood"]["kind"]) == (told["exit"], "over")


def test_what_cannot_be_done_is_told_at_once(theatre: Theatre) -> None:
    told = theatre.play("misused", ["cat"])
    names = [each["name"] for each in told["found"]]
    assert names == ["TypeError", "TypeError", "TypeError"]
    assert [each["message"] for each in told["found"]] == [
        "nothing in JSON is undefined",
        "no stream is called stdlog; there are stdin, stdout, stderr",
        "the application has no terminal",
    ]
    assert (told["paused"], told["exit"]) == ([], EXIT_0)
    assert told["late"]["kind"] == "over"


# Back-pressure


@pytest.mark.parametrize("framing", ["json", "lines"])
def test_what_nobody_reads_has_a_limit(theatre: Theatre, framing: str) -> None:
    limit = 1 << 20
    asked = {"framing": framing, "limit": limit}
    told = theatre.play("unread", ["yes", "y" * 1000], *FRAMINGS, **asked)
    assert told["exit"]["closeCode"] == 4000
    assert told["error"]["kind"] == "unread"
    assert told["error"]["message"].startswith(f"{told['size']} bytes of stdout wait")
    assert limit < told["size"] < limit + (1 << 18)


def test_what_is_cancelled_is_not_kept(theatre: Theatre) -> None:
    script = "head -c 5000000 /dev/zero; echo done >&2"
    told = theatre.play("cancelled", shell(script))
    assert told == {"stderr": "done\n", "exit": EXIT_0}


def test_writes_wait_for_the_application(theatre: Theatre) -> None:
    gate = theatre.directory / "gate"
    os.mkfifo(gate)
    with (
        theatre.serve(shell(f"read go <{gate}; wc -c")) as service,
        theatre.player.play("slowly", address(service)) as play,
    ):
        seen = [0]
        while seen[-1] == 0 or len(set(seen[-5:])) > 1:
            seen = play.said(len(seen) + 1)
        assert seen[-1] < 16 << 20
        gate.write_text("go\n")
        told = play.result()
    assert told == {"text": f"{32 << 20}\n", "exit": EXIT_0, "written": 32 << 20}


MUCH = 200_000_000
MANY = 64 << 20  # bytes, more than is kept for who does not read


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("case", "script", "told"),
    [
        ("flood", f"read go; head -c {MUCH} /dev/zero", {"size": MUCH}),
        ("pour", "wc -c", {"text": f"{-(-MUCH // 65536) * 65536}\n"}),
    ],
)
def test_memory_is_flat(
    theatre: Theatre, case: str, script: str, told: dict[str, object]
) -> None:
    with (
        theatre.serve(shell(script)) as service,
        theatre.player.play(case, address(service)) as play,
    ):
        play.said(1)
        memory = Memory(play.processes())
        play.cue()
        assert play.said(2)[1] == {**told, "exit": EXIT_0}
        assert memory.growth() < MUCH * 3 // 4
        play.cue()
        play.result()


# Control


def resumed(theatre: Theatre, name: str) -> Any:
    """What a case tells that lets a stream be paused, and reads on after its cue."""
    with (
        theatre.serve(["head", "-c", str(MANY), "/dev/zero"]) as service,
        theatre.player.play(name, address(service)) as play,
    ):
        play.said(1)
        (application,) = service.applications()
        until(steady(lambda: written(application)), "a pause")
        assert written(application) < MANY // 2
        play.cue()
        return play.result()


def test_what_nobody_reads_is_paused(theatre: Theatre) -> None:
    told = resumed(theatre, "paused")
    paused = ["stdout"]
    assert told == {"unread": paused, "asked": paused, "size": MANY, "exit": EXIT_0}


def test_a_session_is_steered(theatre: Theatre) -> None:
    told = theatre.play("steered", ["cat"])
    unknown, wrong = told.pop("unknown"), told.pop("wrong")
    assert (unknown["kind"], unknown["code"]) == ("control", -32601)
    assert (wrong["kind"], wrong["code"]) == ("control", -32602)
    assert told.pop("after")["kind"] == "over"
    assert told.pop("ended")["done"]
    assert told == {
        "one": "one",
        "two": "two",
        "known": [True, "stdio"],
        "paused": ["stdin", "stdout", "stderr"],
        "still": ["stderr"],
        "asyncapi": "3.0.0",
        "exit": {"code": None, "signal": None, "reason": "closed", "closeCode": 1000},
    }


def test_a_signal_overtakes_the_input(theatre: Theatre) -> None:
    told = theatre.play("ahead", ["sleep", "1000"])
    assert told["exit"]["signal"] == "KILL"
    assert told["flood"]["kind"] == "over"


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


def test_methods_of_the_application(theatre: Theatre) -> None:
    told = theatre.play("asked", ["python3", "-c", ADDING], "--control")
    refused = told.pop("refused")
    assert (refused["kind"], refused["code"]) == ("control", 7)
    assert refused["message"] == "cannot"
    notification = {"method": "added", "params": {"times": 1}}
    assert told == {"sum": 3, "detail": notification}


def test_a_pause_that_fails(theatre: Theatre) -> None:
    told = theatre.play("uncontrolled", ["yes", "y" * 1000])
    assert told["exit"]["closeCode"] == 4000
    assert told["error"]["kind"] == "unread"


def test_a_resumption_that_fails_is_tried_again(theatre: Theatre) -> None:
    """A stream does not stay paused because the control connection was lost."""
    told = resumed(theatre, "severed")
    assert told.pop("unpaused")["kind"] == "control"
    assert told == {"available": True, "size": MANY, "exit": EXIT_0}


def test_a_terminal(theatre: Theatre) -> None:
    script = "stty -echo; echo ready; while read line; do $line; done"
    told = theatre.play("terminal", shell(script), "--pty")
    assert told == {"pty": True, "shown": "43 132", "code": 3, "without": False}


# The application plays a server here, which says what it likes.
BEGUN = (
    r'{"type":"session","id":"x","secret":"y"}\n{"type":"toString"}\n{"type":"news"}\n'
)
SAID = r'{"type":"stdout","payload":"b2s="}\n'


@pytest.mark.parametrize(
    "wrong", ["null", "no", '{"type":"stderr"}', '{"type":"stdout","payload":"?"}']
)
def test_a_server_that_says_what_it_should_not(theatre: Theatre, wrong: str) -> None:
    script = f"printf '{BEGUN}'; read go; printf '{SAID}{wrong}\\n'"
    options = ("--framing", "lines", "--subprotocol", "odd=lines")
    told = theatre.play("odd", shell(script), *options, subprotocol="odd")
    for call in (told["control"], told["watch"]):
        assert call["kind"] == "control"
        assert call["message"].startswith("the control connection ended: ")
    assert (told["id"], told["text"]) == ("x", "ok")
    assert told["error"]["kind"] == "protocol"
    assert told["error"]["message"] == f"what came is not stdio: {wrong}"
    assert told["exit"]["closeCode"] == 4000
