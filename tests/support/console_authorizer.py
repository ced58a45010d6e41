"""An authorizer of chimirror-protocol(7) for the console: a program on pipes.

Its first argument names a file with a JSON object. `users` has the answer for each
value of a field, `field` is the name of that field, and `challenge` is for all other
clients.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main() -> None:
    told = json.loads(Path(sys.argv[1]).read_text())
    for line in sys.stdin:
        question = json.loads(line)
        value = question["headers"].get(told["field"], "")
        answer = {"status": 401, "text": "who are you?"}
        if told.get("challenge"):
            answer["challenge"] = told["challenge"]
        answer |= told["users"].get(value, {})
        print(json.dumps({"id": question["id"], **answer}), flush=True)


if __name__ == "__main__":
    main()
