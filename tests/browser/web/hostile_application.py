"""An application for tests of the console: executes the command in each line."""

from __future__ import annotations

import json
import sys

MARKUP = (
    "<script>document.title='owned'</script>",
    "<img src=x onerror=\"document.title='owned'\">",
    "<a href='javascript:document.title=1'>x</a>",
)
SEQUENCES = (
    "\x1b]0;owned\x07\x1b]2;owned\x1b\\\x1b]52;c;b3duZWQ=\x07\x1b]1337;File=:eA==\x07",
    "\x1b]8;;javascript:alert(1)\x1b\\link\x1b]8;;\x1b\\",
    "\x1b]8;;http://127.0.0.1:1/\x1b\\leads away\x1b]8;;\x1b\\ http://127.0.0.1:1/",
    "\x1b]9;note\x07\x1b]777;notify;a;b\x07\x1b]99;;note\x1b\\",
    "\x1bP$qm\x1b\\\x1bP+q544e\x1b\\\x1bPq#0~~\x1b\\\x1b_Gi=1;AAAA\x1b\\\x1b^x\x1b\\",
    "\x1b[8;1;1t\x1b[3;9;9t\x1b[2t\x1b[5t\x1b[9;1t\x1b[14t\x1b[18t\x1b[20t\x1b[21t",
    "\x07\x07\x1b[6n\x1b[c\x1b[>c\x1b]10;?\x07\x1b]4;1;?\x07",
)
COUNTS = "".join([f"x\x1b[2147483647{final}" for final in "@ABCDEFGILMPSTXZ`abdej"])
STYLED = (
    "\x1b[38;2;1;2;3m\x1b[4:3;58;2;200;10;10mstyled\x1b[0m \u202ereversed\x00\x9b\u200b"
)
HOSTILE = "".join([f"{line}\n" for line in (*MARKUP, *SEQUENCES, STYLED)])
OBJECT = {"list": [*range(200)], "texts": [{"a": "x" * 50}] * 10}
SAID = {
    "hostile": HOSTILE,
    "counts": f"{COUNTS}\ncounted\n",
    "marks": "e" + "\u0301" * 300_000 + "\nmarked\n",
    "markup": json.dumps({MARKUP[0]: [MARKUP[1], MARKUP[2]]}) + "\n",
    "styles": "".join([f"\x1b[{31 + at % 7}m{at}" for at in range(20_000)]) + "\n",
    "title": "\x1b]0;" + "x" * 3_000_000 + "\x07\n",
    "empty": "\n" * 2_000_000,
    "deep": "[" * 900 + "]" * 900 + "\n",
    "long": "x" * 5_000_000 + "\n",
    "prompt": "name? ",
    "block": f"{'x' * 99}\n" * 1000,  # 100 kB
    "object": json.dumps(OBJECT) + "\n",
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
            sys.stderr.write(SAID.get(rest) or f"{rest}\n")
        elif word == "raw":
            print(json.loads(rest), flush=True)
        elif word == "repeat":
            count, _, name = rest.partition(" ")
            for _ in range(int(count)):
                sys.stdout.write(SAID[name])
            print("repeated", flush=True)
        elif word == "flood":
            sys.stdout.write("".join([f"line {at}\n" for at in range(int(rest))]))
            sys.stdout.flush()
        elif word == "exit":
            sys.exit(int(rest))
        else:
            sys.stdout.write(SAID.get(word) or json.dumps(said) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
