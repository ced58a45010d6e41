"""Tests an ACP agent on stdin and stdout with the clients of the official SDKs.

ACP is the Agent Client Protocol, between an editor and a coding agent. Agent and
clients know nothing of chimirror. The clients use the WebSocket transports of their
SDKs, or start chimirror-connect as an editor starts an agent.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from acp_clients import SDKS, Answered, Prompt, Report, Story, Target, typescript
from process_state import children
from processes import until
from serve import Service, activated, preloading, server
from websocket_peer import Peer

AGENT = Path(__file__).parents[2] / "examples" / "agent.py"
CONNECT = Path(sys.executable).with_name("chimirror-connect")
OPTIONS = ("--protocol=acp",)
AT_ONCE = 50

Sdk = Callable[[Path, Target, Story], Report]


@pytest.fixture(params=SDKS)
def sdk(request: pytest.FixtureRequest) -> Sdk:
    return SDKS[request.param]


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A server that has imported the SDK, which takes seconds."""
    directory = tmp_path_factory.mktemp("warm")
    shutil.copy(AGENT, directory)
    with preloading(directory, "agent:main", *OPTIONS) as service:
        service.await_workers(len(service.workers()))
        yield service


@pytest.fixture
def service(warm: Service) -> Iterator[Service]:
    born = children()
    yield warm
    until(lambda: children().keys() <= born.keys(), "no agent is left")
    assert "Traceback" not in warm.log.read_text()


def address(service: Service) -> str:
    return f"ws://127.0.0.1:{service.port}/"


def command(service: Service) -> list[str]:
    """Return what the settings of an editor name as the command of an agent."""
    return [str(CONNECT), address(service)]


TWO_FILES = {"/work/a.py": "x = 1\nxx = x\n", "/work/b.py": "from a import x\n"}
STORY = Story(
    files=TWO_FILES | {"/other/TODO": "one\nTODO: two\n"},
    sessions=["/work", "/other"],
    prompts=[
        Prompt("rename x to y in a.py b.py nothing.py"),
        Prompt("rename y to z in a.py", answer="skip"),
        Prompt("rename y to z in a.py", answer="cancel"),
        Prompt("find x", meanwhile=[]),
        Prompt(
            "rename y to 😀 in /work/b.py",
            meanwhile=[Prompt("find TODO in TODO", session=1)],
        ),
    ],
)
STEPS = ["read in_progress", "tool completed", "edit pending"]
TOLD = [
    Answered(
        "rename x to y in a.py b.py nothing.py",
        "end_turn",
        [
            "plan in_progress pending pending",
            *STEPS,
            'ask /work/a.py "y = 1\\nxx = y\\n"',
            "tool completed",
            "message a.py: 2 changed",
            "plan completed in_progress pending",
            *STEPS,
            'ask /work/b.py "from a import y\\n"',
            "tool completed",
            "message b.py: 1 changed",
            "plan completed completed in_progress",
            "read in_progress",
            "tool failed",
            "message nothing.py: Resource not found",
            "plan completed completed completed",
        ],
    ),
    Answered(
        "rename y to z in a.py",
        "end_turn",
        [
            "plan in_progress",
            *STEPS,
            'ask /work/a.py "z = 1\\nxx = z\\n"',
            "tool failed",
            "message a.py: skipped",
            "plan completed",
        ],
    ),
    Answered(
        "rename y to z in a.py",
        "cancelled",
        ["plan in_progress", *STEPS, 'ask /work/a.py "z = 1\\nxx = z\\n"'],
    ),
    Answered(
        "find x",
        "end_turn",
        ["message Write `rename OLD to NEW in FILE…` or `find WORD in FILE…`."],
    ),
    Answered(
        "find TODO in TODO",
        "end_turn",
        [
            "plan in_progress",
            "read in_progress",
            "tool completed",
            "message TODO: 1 found\n\n```\n2: TODO: two\n```",
            "plan completed",
        ],
    ),
    Answered(
        "rename y to 😀 in /work/b.py",
        "end_turn",
        [
            "plan in_progress",
            *STEPS,
            'ask /work/b.py "from a import 😀\\n"',
            "tool completed",
            "message /work/b.py: 1 changed",
            "plan completed",
        ],
    ),
]
CHANGED = {
    "/work/a.py": "y = 1\nxx = y\n",
    "/work/b.py": "from a import 😀\n",
    "/other/TODO": "one\nTODO: two\n",
}


@pytest.mark.parametrize("target", [address, command])
def test_story(
    target: Callable[[Service], Target], sdk: Sdk, service: Service, tmp_path: Path
) -> None:
    assert sdk(tmp_path, target(service), STORY) == Report("rename", TOLD, CHANGED)


def test_a_large_file(tmp_path: Path) -> None:
    """The text of 3 MB is one message. Its diff has twice the size."""
    text = "x" + " 0123456789" * 300_000
    story = Story({"/work/a": text}, [Prompt("rename x to y in a")])
    agent = [sys.executable, str(AGENT)]
    with activated(tmp_path, agent, *OPTIONS) as service:
        report = typescript(tmp_path, address(service), story)
        assert report.files == {"/work/a": "y" + text[1:]}
        until(lambda: not service.applications(), "no agent is left")


def test_a_client_notices_that_the_agent_fails(sdk: Sdk, tmp_path: Path) -> None:
    agent = ["sh", "-c", "read initialize; echo no model >&2; exit 3"]
    with server(tmp_path, agent, *OPTIONS) as service:
        with pytest.raises(ConnectionError, match=r"[cC]onnection closed"):
            sdk(tmp_path, address(service), STORY)
        service.await_ends(1)
        assert "no model" in service.log.read_text()


class Editor:
    """A client that disconnects without a close frame."""

    def __init__(self, service: Service) -> None:
        self.peer = Peer(service.connect())
        reply = self.peer.open("/acp", framing="")
        assert (reply.status, "acp-connection-id" in reply.fields) == (101, True)

    def request(self, method: str, **params: object) -> None:
        self.peer.send({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})

    def notify(self, method: str, **params: object) -> None:
        self.peer.send({"jsonrpc": "2.0", "method": method, "params": params})

    def await_result(self) -> Any:
        return self.peer.message()["result"]

    def await_error(self) -> int:
        code: int = self.peer.message()["error"]["code"]
        return code

    def await_request(self, method: str) -> None:
        while self.peer.message()["method"] != method:
            pass


def initialize(editors: list[Editor]) -> None:
    """Send the first request of each, then wait for all answers."""
    able = {"fs": {"readTextFile": True, "writeTextFile": True}}
    for editor in editors:
        editor.request("initialize", protocolVersion=1, clientCapabilities=able)
    for editor in editors:
        assert editor.await_result()["agentInfo"]["name"] == "rename"


def begin_prompt(editors: list[Editor]) -> str:
    """Send a prompt to each, then wait until all agents read a file of the client.

    Returns the id of the last session.
    """
    session = ""
    for editor in editors:
        editor.request("session/new", cwd="/work", mcpServers=[])
    for editor in editors:
        session = editor.await_result()["sessionId"]
        said = [{"type": "text", "text": "find TODO in a.py"}]
        editor.request("session/prompt", sessionId=session, prompt=said)
    for editor in editors:
        editor.await_request("fs/read_text_file")
    return session


def test_mistakes_of_a_client(service: Service) -> None:
    editor = Editor(service)
    with editor.peer:
        initialize([editor])
        editor.request("session/load", cwd="/", sessionId="former", mcpServers=[])
        assert editor.await_error() == -32601  # method not found
        said = [{"type": "text", "text": "find x in a"}]
        editor.request("session/prompt", sessionId="former", prompt=said)
        assert editor.await_error() == -32002  # resource not found
        session = begin_prompt([editor])
        editor.request("session/prompt", sessionId=session, prompt=said)
        assert editor.await_error() == -32600  # invalid request
        editor.notify("session/cancel", sessionId=session)
        assert editor.await_result() == {"stopReason": "cancelled"}


@pytest.mark.timeout(300)
def test_clients_that_vanish_leave_nothing(service: Service) -> None:
    """Half of them are in the middle of a prompt."""
    vanish(service, AT_ONCE)
    until(lambda: not service.applications(), "no agent is left")
    held = service.resource_count()
    for _ in range(1000 // AT_ONCE):
        vanish(service, AT_ONCE)
    until(lambda: not service.applications(), "no agent is left")
    until(lambda: service.resource_count() <= held, "nothing else is left")


def vanish(service: Service, count: int) -> None:
    with ExitStack() as stack:
        editors = [Editor(service) for _ in range(count)]
        for number, editor in enumerate(editors):
            peer = editor.peer
            stack.callback(peer.reset if number < count // 2 else peer.close)
        initialize(editors)
        begin_prompt(editors[::2])
