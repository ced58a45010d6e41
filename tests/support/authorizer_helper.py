"""A helper of exec: for tests. The user of Basic credentials says how it answers.

So one helper can have all behaviours: see the functions of ANSWERS. The arguments of
the command are for the whole run. With "stopped", it ignores SIGTERM and the end of its
input. With "deaf", it closes its standard input. With "die-at-once", it exits before
the first question. With "pid", it answers with its pid as a group.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import sys
from typing import Any

Question = dict[str, Any]
LATE: list[Question] = []
GROUPS: list[str] = []


def write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def answer(question: Question, **members: Any) -> None:
    write(json.dumps({"id": question["id"], **members}) + "\n")


def allow(question: Question, user: str = "ann", **members: Any) -> None:
    answer(question, status=200, user=user, groups=GROUPS, **members)


def yes(question: Question, user: str) -> None:
    """Allow, and then answer the questions that are late."""
    allow(question, user)
    while LATE:
        allow(LATE.pop(0), "late")


def keep(question: Question, user: str) -> None:
    allow(question, user, max_age=60)


def no(question: Question, *rest: str) -> None:
    answer(question, status=401, challenge='Basic realm="x"', text="wrong")


def hang(question: Question) -> None:
    """Never answer."""


def late(question: Question) -> None:
    LATE.append(question)


def die(question: Question) -> None:
    sys.exit(3)


def slowly(question: Question) -> None:
    """Answer byte by byte."""
    for char in json.dumps({"id": question["id"], "status": 403}) + "\n":
        write(char)


def garbage(question: Question) -> None:
    write("Traceback\n")


def long(question: Question) -> None:
    write("x" * 70000 + "\n")


def endless(question: Question) -> None:
    """Write a line without an end."""
    write("x" * 70000)


def other(question: Question) -> None:
    """Answer another question, which was never asked."""
    allow({"id": 4711})


def twice(question: Question) -> None:
    allow(question)
    allow(question, "ben")


def echo(question: Question) -> None:
    """Send back the question, with its secret."""
    write(json.dumps(question) + "\n")


def half(question: Question) -> None:
    write('{"id":')
    sys.exit(0)


def big(question: Question, size: str) -> None:
    """Write a long line on standard error."""
    print("y" * int(size), file=sys.stderr, flush=True)
    allow(question)


def lines(question: Question, count: str) -> None:
    """Write many lines on standard error."""
    for number in range(int(count)):
        print(f"line {number}", file=sys.stderr, flush=True)
    allow(question)


def environment(question: Question) -> None:
    """Answer with the names of all variables as groups."""
    answer(question, status=200, user="ann", groups=sorted(os.environ))


ANSWERS: dict[str, Any] = {
    function.__name__: function
    for function in (
        *(yes, keep, no, hang, late, die, slowly, garbage, long, endless, other),
        *(twice, echo, half, big, lines, environment),
    )
}


def serve(question: Question) -> None:
    scheme, _, text = question["headers"].get("authorization", "").partition(" ")
    words = ["no"]
    if scheme == "Basic":
        words = base64.b64decode(text).decode().partition(":")[0].split()
    elif scheme == "Bearer":
        words = text.split(".")[:-1]  # the last one is the secret
    kind, *rest = words
    ANSWERS.get(kind, no)(question, *rest)


def main() -> None:
    arguments = sys.argv[1:]
    if "die-at-once" in arguments:
        sys.exit("no such database")
    if "stopped" in arguments:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if "deaf" in arguments:
        os.close(0)
        signal.pause()
    if "pid" in arguments:
        GROUPS.append(str(os.getpid()))
    for line in sys.stdin:
        serve(json.loads(line))
    if "stopped" in arguments:
        signal.pause()


if __name__ == "__main__":
    main()
