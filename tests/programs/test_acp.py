"""Tests ACP agents on stdin and stdout with the clients of the official SDKs.

ACP is the Agent Client Protocol, between an editor and a coding agent. Agents and
clients know nothing of chimirror.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from npm import NODE, with_packages
from processes import PATIENCE
from serve import server

CLIENT = Path(__file__).parents[1] / "support" / "acp_client.mjs"
OPTIONS = ("--framing=lines,stdio",)


def test_a_client_notices_an_agent_that_does_not_start(tmp_path: Path) -> None:
    command = ["sh", "-c", "echo no model >&2; exit 3"]
    script = with_packages(CLIENT, tmp_path)
    with server(tmp_path, command, *OPTIONS) as service:
        argv = [str(NODE), str(script), f"ws://127.0.0.1:{service.port}/acp"]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE)
        assert not done.stderr
        assert "closed" in json.loads(done.stdout)["error"]
        service.await_ends(1)
        assert "no model" in service.log.read_text()
