"""The animal guessing game: the program asks about an animal, guesses it and learns.

The program uses stdin and stdout, knows nothing of networks, and also plays in a
terminal. A line of input is plain text or one JSON string (`yes` or `"yes"`), so that
every framing can serve it. New animals are kept as long as the process lives. With a
file as its argument they are kept in that file, which any number of games may share.

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
MAX_ANSWER = 200  # characters of an answer that are used


class Fork(NamedTuple):
    """A question, and the trees for its two answers."""

    question: str
    yes: Tree
    no: Tree


class Lesson(NamedTuple):
    """A question learned from a lost round, and its place in the tree."""

    answers: list[bool]
    guess: str
    question: str
    yes: str
    no: str


Tree = str | Fork  # an animal, or a question with two subtrees
FIRST_TREE = Fork(
    "Does it live in water?", "a fish", Fork("Does it bark?", "a dog", "a cat")
)


def add_lesson(tree: Tree, lesson: Lesson, depth: int = 0) -> Tree:
    """Add a lesson to a tree, unless another game has already changed that place."""
    if depth == len(lesson.answers):
        return Fork(*lesson[2:]) if tree == lesson.guess else tree
    if isinstance(tree, str):
        return tree
    if lesson.answers[depth]:
        return tree._replace(yes=add_lesson(tree.yes, lesson, depth + 1))
    return tree._replace(no=add_lesson(tree.no, lesson, depth + 1))


class Knowledge:
    """The lessons so far. A file holds one per line, each appended by one write."""

    def __init__(self, path: str | None) -> None:
        self.path = path
        self.lessons: list[Lesson] = []

    def tree(self) -> Tree:
        if self.path and os.path.exists(self.path):
            with open(self.path, encoding="utf-8") as lines:
                whole = [line for line in lines if line.endswith("\n")]
            self.lessons = [Lesson(**json.loads(line)) for line in whole]
        tree: Tree = FIRST_TREE
        for lesson in self.lessons:
            tree = add_lesson(tree, lesson)
        return tree

    def add(self, lesson: Lesson) -> None:
        self.lessons.append(lesson)
        if self.path:
            with open(self.path, "a", encoding="utf-8") as lines:
                lines.write(json.dumps(lesson._asdict()) + "\n")


def say(text: str) -> None:
    """Write one line and flush it, because the player waits for it."""
    print(text, flush=True)


def read_answer() -> str:
    """Read a line of input as printable text, without surrounding space."""
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        said = line
    text = said if isinstance(said, str) else line
    printable = "".join(c if c.isprintable() else " " for c in text[:MAX_ANSWER])
    return " ".join(printable.split())


def ask(question: str) -> str:
    """Ask until there is an answer with a letter in it."""
    while True:
        say(question)
        said = read_answer()
        if any(map(str.isalpha, said)):
            return said


def ask_yes_no(question: str) -> bool:
    """Ask until the answer is a yes or a no. Returns True for a yes."""
    while True:
        said = ask(question).lower().rstrip(".!")
        if said in YES | NO:
            return said in YES
        question = "Please answer yes or no."


def with_article(animal: str) -> str:
    """Add an article to an animal: `Cat!` becomes `a cat`, `an owl` is unchanged."""
    words = animal.rstrip(".!? ").split()
    if words[0].lower() not in {"a", "an", "the"}:
        words.insert(0, "an" if words[0][0].lower() in "aeiou" else "a")
    return " ".join([words[0].lower(), *words[1:]])


def learn(answers: list[bool], guess: str) -> Lesson | None:
    """Ask for the player's animal, and for a question that tells it from the guess."""
    animal = with_article(ask("You win. What animal was it?"))
    if animal.lower() == guess.lower():
        say("But that is what I said!")
        return None
    question = ask(f"What question tells {animal} from {guess}?").rstrip("?. ") + "?"
    question = question[0].upper() + question[1:]
    right = ask_yes_no(f"For {animal}, is the answer yes?")
    yes, no = (animal, guess) if right else (guess, animal)
    return Lesson(answers, guess, question, yes, no)


def play(knowledge: Knowledge) -> None:
    """Play one round: walk down the tree, guess, and learn if the guess was wrong."""
    tree = knowledge.tree()
    answers: list[bool] = []
    while isinstance(tree, Fork):
        answers.append(ask_yes_no(tree.question))
        tree = tree.yes if answers[-1] else tree.no
    if ask_yes_no(f"Is it {tree}?"):
        say("I knew it!")
    elif lesson := learn(answers, tree):
        knowledge.add(lesson)
        say("Thank you, I shall remember that.")


def run_game(knowledge: Knowledge) -> None:
    """Play until the player stops."""
    try:
        say("Think of an animal, and I shall guess it.")
        play(knowledge)
        while ask_yes_no("Shall we play again?"):
            play(knowledge)
    except (EOFError, KeyboardInterrupt):
        pass  # the player stopped in the middle of a round
    say("Goodbye.")


def main() -> int:
    if len(sys.argv) > 2:
        print("usage: animals.py [FILE]", file=sys.stderr)
        return os.EX_USAGE
    for stream in (sys.stdin, sys.stdout):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="replace")
    try:
        run_game(Knowledge(sys.argv[1] if len(sys.argv) == 2 else None))
    except BrokenPipeError:
        # The reader has exited. Unwritten output must not fail again at interpreter
        # exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return os.EX_OK


if __name__ == "__main__":
    sys.exit(main())
