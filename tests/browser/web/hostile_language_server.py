"""A language server that violates the protocol, for the tests of the editor."""

from __future__ import annotations

import json
import sys
from typing import Any

SCRIPT = "<img src=x onerror=\"document.title='owned'\"><script>owned()</script>"
FAR = {"line": 1 << 40, "character": -3}
WORD = {"label": SCRIPT, "detail": SCRIPT, "sortText": "0", "filterText": "prin"}
SAID: list[Any] = [
    None,
    3,
    [],
    {"id": 4711, "result": {}},
    {"id": {"a": []}, "error": None},
    {"id": 1, "method": "workspace/applyEdit", "params": {}},
    {"method": ["a"]},
    {"method": "textDocument/publishDiagnostics"},
    {"method": "textDocument/publishDiagnostics", "params": {"diagnostics": 3}},
]
PROBLEMS: list[Any] = [
    {"message": SCRIPT, "range": {"start": FAR, "end": FAR}, "severity": "<b>"},
    {"message": {"toString": 3}, "range": None, "severity": 99},
    *[{"message": "x" * 2500, "severity": -1}] * 300,
    None,
]
ANSWERS: dict[str, Any] = {
    "initialize": {
        "capabilities": {"completionProvider": {"triggerCharacters": 3}},
        "serverInfo": {"name": SCRIPT},
    },
    "textDocument/completion": {
        "items": [None, {"label": 3}, *[WORD] * 1000],
    },
    "textDocument/hover": {"contents": [SCRIPT, {"value": "y" * 90000}, [{}], 3]},
}


def say(message: Any) -> None:
    body = json.dumps(message).encode()
    sys.stdout.buffer.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
    sys.stdout.buffer.flush()


def main() -> None:
    while header := sys.stdin.buffer.readline():
        sys.stdin.buffer.readline()
        message = json.loads(sys.stdin.buffer.read(int(header.split()[1])))
        method = message.get("method")
        if method == "textDocument/didOpen":
            for each in SAID:
                say(each)
            uri = message["params"]["textDocument"]["uri"]
            params = {"uri": uri, "diagnostics": PROBLEMS}
            say({"method": "textDocument/publishDiagnostics", "params": params})
        elif method in ANSWERS:
            say({"id": message["id"], "result": ANSWERS[method]})


if __name__ == "__main__":
    main()
