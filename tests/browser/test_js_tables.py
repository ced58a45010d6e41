"""chimirror.js and the tables that all client libraries share: URLs and retries."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fake_server import SUBPROTOCOL, Remote
from js_cases import CaseRunner, cases, runner

__all__ = ["cases", "runner"]  # fixtures

SUPPORT = Path(__file__).parents[1] / "support"
# In a page, the first is the page's own address. Chromium escapes a space in a host.
DIFFERENT = ("", "ws://h a/")
SIZE = {"columns": 132, "rows": 43}


def table(name: str) -> list[dict[str, Any]]:
    """Return the rows of a table that concern JavaScript."""
    rows: list[dict[str, Any]] = json.loads((SUPPORT / name).read_text())
    return [row for row in rows if row.get("only", "javascript") == "javascript"]


def has_credentials(url: str) -> bool:
    return "@" in url.partition("//")[2].partition("/")[0]


def parts(address: str) -> dict[str, Any]:
    """Split the address that WebSocket gets as a row of the table does."""
    url = urlsplit(address)
    assert not url.fragment
    secure = url.scheme == "wss"
    # Chromium also escapes this character in a path.
    target = url.path.replace("%7C", "|") + (f"?{url.query}" if url.query else "")
    port = url.port or (443 if secure else 80)
    return {"secure": secure, "host": url.hostname, "port": port, "target": target}


def test_urls(cases: CaseRunner) -> None:
    rows = table("url_cases.json")
    if cases.runner.origin:
        rows = [row for row in rows if row["url"] not in DIFFERENT]
    urls = [row["url"] for row in rows]
    with cases.runner.run_case("addresses", "", urls=urls, size=SIZE) as running_case:
        found = running_case.result()
    wrong = {}
    for row, (address, *others) in zip(rows, found, strict=True):
        if "error" in row or has_credentials(row["url"]):
            if address != "TypeError":
                wrong[row["url"]] = address
            continue
        alive, size = "chimirror.alive.v1", "chimirror.size.132x43"
        assert others == ["chimirror.stdio.v1", alive, size]
        read = parts(address)
        if read != {name: row[name] for name in read}:
            wrong[row["url"]] = address
    assert not wrong


UNSENDABLE = (1015,)  # and a reason of 1006, which stands for no close frame


class ClosingServer(threading.Thread):
    """Opens sessions, one after another, and closes each as the next row says."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        super().__init__()
        self._rows = rows
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"ws://127.0.0.1:{self._listener.getsockname()[1]}/"

    def run(self) -> None:
        with self._listener:
            for row in self._rows:
                connection, _ = self._listener.accept()
                with connection:
                    remote = Remote(connection, SUBPROTOCOL)
                    remote.send(json.dumps({"type": "session", "id": "x"}))
                    self._close(connection, row["code"], row["reason"].encode())

    def _close(self, connection: socket.socket, code: int, reason: bytes) -> None:
        if code == 1006:
            return
        payload = b"" if code == 1005 else code.to_bytes(2, "big") + reason
        connection.sendall(bytes([0x88, len(payload)]) + payload)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass


def test_retries(cases: CaseRunner) -> None:
    rows = [
        row
        for row in table("retry_cases.json")
        if row["code"] not in UNSENDABLE and (row["code"] != 1006 or not row["reason"])
    ]
    server = ClosingServer(rows)
    server.start()
    count = len(rows)
    with cases.runner.run_case("retries", server.url, count=count) as running_case:
        found = running_case.result()
    server.join()
    assert found == [row["retry"] for row in rows]


def test_wrong_sizes(cases: CaseRunner) -> None:
    for size in (
        {"columns": 0, "rows": 24},
        {"columns": 80},
        {"columns": 80, "rows": 65536},
    ):
        asked = {"urls": ["ws://h/"], "size": size}
        with cases.runner.run_case("addresses", "", **asked) as running_case:
            ((name, message),) = running_case.result()
        assert name == "TypeError"
        assert message.startswith(
            "the columns and rows of a size are integers from 1 to"
        )
