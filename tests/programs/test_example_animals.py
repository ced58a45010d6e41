"""Tests examples/animals.py through pipes and through the server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from serve import LAUNCH, ROOT, server
from websocket_peer import Peer

ANIMALS = Path(__file__).parents[2] / "examples" / "animals.py"
# The first round, which the program loses: not in water, does not bark, not a cat.
LOST = ["no", "no", "no", "owl", "can it fly?", "yes"]


def play(*lines: str, file: Path | None = None) -> list[str]:
    """Run the program to its end. Returns its output in lines."""
    argv = [sys.executable, "-I", "-S", str(ANIMALS)] + ([str(file)] if file else [])
    given = "".join(line + "\n" for line in lines)
    done = subprocess.run(
        argv, input=given.encode("utf-8", "surrogateescape"), capture_output=True
    )
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout.decode().splitlines()


def test_guesses_right() -> None:
    assert play("yes", "yes", "no") == [
        "Think of an animal, and I shall guess it.",
        "Does it live in water?",
        "Is it a fish?",
        "I knew it!",
        "Shall we play again?",
        "Goodbye.",
    ]


def test_learns_where_it_lost() -> None:
    said = play(*LOST, "yes", "no", "no", "yes", "yes", "no")
    assert said[3:] == [
        "Is it a cat?",
        "You win. What animal was it?",
        "What question tells an owl from a cat?",
        "For an owl, is the answer yes?",
        "Thank you, I shall remember that.",
        "Shall we play again?",
        "Does it live in water?",
        "Does it bark?",
        "Can it fly?",
        "Is it an owl?",
        "I knew it!",
        "Shall we play again?",
        "Goodbye.",
    ]


def test_the_answer_for_the_new_animal_may_be_no() -> None:
    lost = ["yes", "no", "a whale", "does it have gills", "no"]
    assert "Is it a whale?" in play(*lost, "yes", "yes", "no", "yes", "no")
    assert "Is it a fish?" in play(*lost, "yes", "yes", "yes", "yes", "no")


def test_every_process_is_new() -> None:
    play(*LOST)
    assert "Can it fly?" not in play("no", "no")


def test_a_file_outlives_the_process(tmp_path: Path) -> None:
    file = tmp_path / "known"
    play(*LOST, file=file)
    assert "Is it an owl?" in play("no", "no", "yes", file=file)


def test_the_first_of_two_lessons_for_one_place_stays(tmp_path: Path) -> None:
    file = tmp_path / "known"
    play(*LOST, file=file)
    known = file.read_text()
    file.write_text(known + known.replace("fly", "hoot") + known[:20])
    assert "Can it fly?" in play("no", "no", file=file)


def test_hears_json_strings() -> None:
    assert "I knew it!" in play('"yes"', '"YES."')


@pytest.mark.parametrize(
    "line",
    ["", "perhaps", "5", "null", '{"a":1}', "[" * 5000, "\udcff\udcfe", '"\\ud800"'],
)
def test_invalid_answer_is_asked_again(line: str) -> None:
    said = play(line, "yes", "yes")
    assert "I knew it!" in said
    assert len(said) == 7


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        ("owl", "an owl"),
        ("A  Horse!", "a Horse"),
        ('"blue\\u001b[31m\\nwhale"', "a blue [31m whale"),
        ("x" * 300, "a " + "x" * 200),
    ],
)
def test_shows_a_name_on_one_printable_line(typed: str, shown: str) -> None:
    said = play("yes", "no", typed)
    assert f"What question tells {shown} from a fish?" in said


def test_does_not_learn_what_it_said() -> None:
    assert "But that is what I said!" in play("yes", "no", "Fish")


def test_closed_stdout() -> None:
    """If its reader closes the pipe, the program ends without a traceback."""
    reader, writer = os.pipe()
    os.close(reader)
    argv = [sys.executable, str(ANIMALS)]
    done = subprocess.run(argv, input=b"no\n", stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


def test_interrupted() -> None:
    pipe = subprocess.PIPE
    argv = [sys.executable, "-u", str(ANIMALS)]
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe) as game:
        assert game.stdin
        assert game.stdout
        assert game.stderr
        game.stdout.readline()
        game.stdout.readline()
        game.send_signal(signal.SIGINT)
        assert game.stdout.read() == b"Goodbye.\n"
        assert (game.wait(), game.stderr.read()) == (0, b"")


def test_usage() -> None:
    argv = [sys.executable, str(ANIMALS), "a", "b"]
    done = subprocess.run(argv, capture_output=True)
    assert (done.returncode, done.stderr) == (64, b"usage: animals.py [FILE]\n")


def test_served_to_the_chimirror_client(tmp_path: Path) -> None:
    """The output of `make demo`."""
    with server(tmp_path, [sys.executable, str(ANIMALS)]) as service:
        url = "ws://{}:{}/".format(*service.address)
        argv = [*LAUNCH, "chimirror.connect.main", url]
        env = os.environ | {"PYTHONPATH": ROOT}
        given = "\n".join([*LOST, "yes", "no", "no", "yes", "yes", "no", ""])
        done = subprocess.run(
            argv, input=given, env=env, capture_output=True, text=True
        )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == play(*given.splitlines())


def test_served_as_json(tmp_path: Path) -> None:
    """The json framing: JSON texts as input, lines of output back."""
    with (
        server(tmp_path, [sys.executable, str(ANIMALS)]) as service,
        Peer(service.connect()) as peer,
    ):
        peer.open(framing="json")
        peer.send("yes", "yes", "no")
        story = peer.transcript()
    assert story.stdout.decode().splitlines() == play("yes", "yes", "no")
    assert (story.stderr, story.closed) == (b"", (1000, "exit 0"))
