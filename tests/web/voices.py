"""An application for the console's tests: does what each line says, hostile or not."""

from __future__ import annotations

import json
import sys

HOSTILE = (
    "<script>document.title='owned'</script>\n"
    "<img src=x onerror=\"document.title='owned'\">\n"
    "<a href='javascript:document.title=1'>x</a>\n"
    "\x1b]0;owned\x07\x1b]2;owned\x1b\\\x1b]52;c;b3duZWQ=\x07"
    "\n\x1b]8;;javascript:alert(1)\x1b\\link\x1b]8;;\x1b\\\x1b[6n\x1b[c\x1b[21t\n"
    "\x1b[38;2;1;2;3m\x1b[4:3;58;2;200;10;10mstyled\x1b[0m \u202ereversed\x00\x9b\n"
)
SAID = {
    "hostile": HOSTILE,
    "long": "x" * 10_000_000 + "\n",
    "flood": "".join([f"line {number}\n" for number in range(100_000)]),
    "prompt": "name? ",
    "nested": '{"a":[1,{"b":"x, {y}"},[],{}],"n":12345678901234567890,"t":null}\n',
}


def main() -> None:
    for line in sys.stdin:
        try:
            said = json.loads(line)
        except ValueError:
            said = line.rstrip("\n")
        word, _, rest = str(said).partition(" ")
        if word == "err":
            print(rest, file=sys.stderr)
        elif word == "exit":
            sys.exit(int(rest))
        else:
            sys.stdout.write(SAID.get(word) or json.dumps(said) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
