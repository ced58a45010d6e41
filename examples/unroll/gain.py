"""Prints what unrolling gains, as the table of README.md.

    make -C examples unroll
    python3 examples/unroll/gain.py [PROGRAM]

Each program runs as machine code, with its loops and without. A time is the fastest of
up to 20 runs.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

PROGRAM = Path(__file__).parents[2] / "build" / "examples" / "unroll-static"
PROGRAMS = {
    "an empty body": "for (i = 0; i < 222; ++i) { }",
    "a sum": "s = 0; for (i = 0; i < 222; ++i) { s = s + i; }",
    "a product and a division": (
        "s = 1; for (i = 0; i < 222; ++i) { s = s * 31 / (i + 1); }"
    ),
    "a branch": ("s = 0; for (i = 0; i < 222; ++i) { if (i % 3 == 0) { s = s + i; } }"),
    "a short inner loop": (
        "s = 0; for (i = 0; i < 222; ++i) { for (j = 0; j < 4; ++j) { s = s + j; } }"
    ),
    "a long inner loop": (
        "s = 0; for (i = 0; i < 222; ++i) { for (j = 0; j < 222; ++j) { s = s + j; } }"
    ),
    "a branch on data in two loops": (
        "s = 27; for (i = 0; i < 222; ++i) { for (j = 0; j < 100; ++j) {"
        " if (s % 2) { s = s * 3 + 1; } else { s = s / 2; } } }"
    ),
    "a body that sets its variable": (
        "s = 0; for (i = 0; i < 222; ++i) { s = s + i; i = i + 1; }"
    ),
    "printing": "for (i = 0; i < 222; ++i) { print i; }",
}
HEAD = """\
| body | bytes, looped | bytes, unrolled | ns, looped | ns, unrolled | times faster |
|---|---|---|---|---|---|"""


def row(name: str, answer: dict[str, Any]) -> str:
    size, time = answer["bytes"], answer["nanoseconds"]
    cells = [size["looped"], size["unrolled"], time["looped"], time["unrolled"]]
    gain = time["looped"] / max(time["unrolled"], 1)
    return " | ".join([f"| {name}", *(f"{cell:,}" for cell in cells), f"{gain:.1f} |"])


def main() -> int:
    program = Path(sys.argv[1]) if len(sys.argv) > 1 else PROGRAM
    if not program.exists():
        print("compile it first: make -C examples unroll", file=sys.stderr)
        return 69
    messages = "".join(json.dumps(text) + "\n" for text in PROGRAMS.values())
    said = subprocess.check_output([program], input=messages, text=True)
    answers = [json.loads(line) for line in said.splitlines()]
    if "why" in answers[0]:
        print(f"no machine code: {answers[0]['why']}", file=sys.stderr)
        return 69
    print(HEAD)
    for name, answer in zip(PROGRAMS, answers, strict=True):
        print(row(name, answer))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
