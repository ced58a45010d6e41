"""The animal guessing game: you think of an animal, it asks, it guesses, it learns.

An ordinary program on stdin and stdout: it knows nothing of networks, and plays as well
in a terminal. A line of input is plain text or one JSON string (`yes` or `"yes"`), so
that it can be served in every framing. What it learns lives as long as the process, or
in the file that is named as its argument, which any number of games may share.

    usage: animals.py [FILE]
"""

from __future__ import annotations

import json
import os
import sys
from io import TextIOWrapper
from typing import NamedTuple

YES = {"y", "yes", "yeah", "yep", "sure", "true"}
NO = {"n", "no", "nope", "false"}
LONGEST = 200  # characters of an answer that are looked at


class Fork(NamedTuple):
    """A question, and what is known behind each of its answers."""

    question: str
    yes: Tree
    no: Tree


class Lesson(NamedTuple):
    """What a lost round taught: where these answers led to this guess, ask first."""

    answers: list[bool]
    guess: str
    question: str
    yes: str
    no: str


Tree = str | Fork  # an animal, or a question that leads on
BEGINNING = Fork(
    "Does it live in water?", "a fish", Fork("Does it bark?", "a dog", "a cat")
)


def graft(tree: Tree, lesson: Lesson, depth: int = 0) -> Tree:
    """The tree with the lesson in it, unless another game taught that place first."""
    if depth == len(lesson.answers):
        return Fork(*lesson[2:]) if tree == lesson.guess else tree
    if isinstance(tree, str):
        return tree
    if lesson.answers[depth]:
        return tree._replace(yes=graft(tree.yes, lesson, depth + 1))
    return tree._replace(no=graft(tree.no, lesson, depth + 1))


class Knowledge:
    """The lessons so far; a file holds one per line, each appended by one write."""

    def __init__(self, path: str | None) -> None:
        self.path = path
        self.lessons: list[Lesson] = []

    def tree(self) -> Tree:
        if self.path and os.path.exists(self.path):
            with open(self.path, encoding="utf-8") as lines:
                whole = [line for line in lines if line.endswith("\n")]
            self.lessons = [Lesson(**json.loads(line)) for line in whole]
        tree: Tree = BEGINNING
        for lesson in self.lessons:
            tree = graft(tree, lesson)
        return tree

    def add(self, lesson: Lesson) -> None:
        self.lessons.append(lesson)
        if self.path:
            with open(self.path, "a", encoding="utf-8") as lines:
                lines.write(json.dumps(lesson._asdict()) + "\n")


def say(text: str) -> None:
    """Writes one line, at once: the other end waits for it."""
    print(text, flush=True)


def hear() -> str:
    """The next line of input as printable text, without the space around it."""
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        said = line
    text = said if isinstance(said, str) else line
    printable = "".join(c if c.isprintable() else " " for c in text[:LONGEST])
    return " ".join(printable.split())


def ask(question: str) -> str:
    """Asks until there is an answer with a letter in it."""
    while True:
        say(question)
        said = hear()
        if any(map(str.isalpha, said)):
            return said


def agrees(question: str) -> bool:
    """Asks until the answer is a yes or a no."""
    while True:
        said = ask(question).lower().rstrip(".!")
        if said in YES | NO:
            return said in YES
        question = "Please answer yes or no."


def named(animal: str) -> str:
    """The animal with its article: `Cat!` becomes `a cat`, `an owl` stays."""
    words = animal.rstrip(".!? ").split()
    if words[0].lower() not in {"a", "an", "the"}:
        words.insert(0, "an" if words[0][0].lower() in "aeiou" else "a")
    return " ".join([words[0].lower(), *words[1:]])


def learn(answers: list[bool], guess: str) -> Lesson | None:
    """Asks what tells the player's animal from the guess."""
    animal = named(ask("You win. What animal was it?"))
    if animal.lower() == guess.lower():
        say("But that is what I said!")
        return None
    question = ask(f"What question tells {animal} from {guess}?").rstrip("?. ") + "?"
    question = question[0].upper() + question[1:]
    right = agrees(f"For {animal}, is the answer yes?")
    yes, no = (animal, guess) if right else (guess, animal)
    return Lesson(answers, guess, question, yes, no)


def play(knowledge: Knowledge) -> None:
    """One round: down the tree, a guess, and perhaps a lesson."""
    tree = knowledge.tree()
    answers: list[bool] = []
    while isinstance(tree, Fork):
        answers.append(agrees(tree.question))
        tree = tree.yes if answers[-1] else tree.no
    if agrees(f"Is it {tree}?"):
        say("I knew it!")
    elif lesson := learn(answers, tree):
        knowledge.add(lesson)
        say("Thank you, I shall remember that.")


def converse(knowledge: Knowledge) -> None:
    """Plays until the player has had enough."""
    try:
        say("Think of an animal, and I shall guess it.")
        play(knowledge)
        while agrees("Shall we play again?"):
            play(knowledge)
    except (EOFError, KeyboardInterrupt):
        pass  # enough, in the middle of a round
    say("Goodbye.")


def main() -> int:
    if len(sys.argv) > 2:
        print("usage: animals.py [FILE]", file=sys.stderr)
        return os.EX_USAGE
    for stream in (sys.stdin, sys.stdout):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="replace")
    try:
        converse(Knowledge(sys.argv[1] if len(sys.argv) == 2 else None))
    except BrokenPipeError:
        # Nobody reads; what is left in the buffer must not fail again at our end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return os.EX_OK


if __name__ == "__main__":
    sys.exit(main())
