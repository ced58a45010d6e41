"""Editors, made with the official SDKs of ACP, that play a story with an agent.

ACP is the Agent Client Protocol, between an editor and a coding agent. An editor keeps
the files, and both report in the same form. Knows nothing of chimirror: a target is
the address of a WebSocket, or the command of an agent.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

import acp
from acp.schema import (
    AgentMessageChunk,
    AgentPlanUpdate,
    AllowedOutcome,
    ClientCapabilities,
    DeniedOutcome,
    FileEditToolCallContent,
    FileSystemCapabilities,
    TextContentBlock,
    ToolCallProgress,
    ToolCallStart,
    ToolCallUpdate,
)
from acp.ws import create_websocket_stream

from npm import NODE, with_packages
from processes import PATIENCE

Target = str | list[str]
T = TypeVar("T")

SCRIPT = Path(__file__).with_name("acp_client.mjs")
CAPABILITIES = ClientCapabilities(
    fs=FileSystemCapabilities(read_text_file=True, write_text_file=True)
)


@dataclass
class Prompt:
    """A prompt.

    Attributes:
        answer: the option that is chosen when the agent asks, or `cancel`.
        meanwhile: prompts of other sessions, answered before that.
    """

    text: str
    answer: str = "once"
    session: int = 0
    meanwhile: list[Prompt] = field(default_factory=list)


@dataclass
class Story:
    """What an editor does: the files, the directory of each session, the prompts."""

    files: dict[str, str]
    prompts: list[Prompt]
    sessions: list[str] = field(default_factory=lambda: ["/work"])


@dataclass
class Answered:
    """An answered prompt: the reason of its end, and a line for each update."""

    text: str
    stop: str
    heard: list[str]


@dataclass
class Report:
    """Result of a story: the name of the agent, the prompts by end, the files."""

    agent: str
    prompts: list[Answered]
    files: dict[str, str]


def typescript(directory: Path, target: Target, story: Story) -> Report:
    """Play a story with the TypeScript SDK, by a process of Node in `directory`.

    Raises:
        ConnectionError: the connection ended. The text is that of the SDK.
    """
    script = with_packages(SCRIPT, directory)
    asked = json.dumps({"target": target, "story": asdict(story)})
    argv = [str(NODE), str(script)]
    done = subprocess.run(
        argv, input=asked, capture_output=True, text=True, timeout=PATIENCE
    )
    assert not done.stderr, done.stderr
    told = json.loads(done.stdout)
    if "error" in told:
        raise ConnectionError(told["error"])
    answered = [Answered(**prompt) for prompt in told["prompts"]]
    return Report(told["agent"], answered, told["files"])


def python(directory: Path, target: Target, story: Story) -> Report:
    """Play a story with the Python SDK."""

    async def main() -> Report:
        editor = Editor(story)
        async with connected(target, editor):
            return await editor.play()

    return asyncio.run(main())


SDKS: dict[str, Callable[[Path, Target, Story], Report]] = {
    "typescript": typescript,
    "python": python,
}


@asynccontextmanager
async def connected(target: Target, editor: Editor) -> AsyncIterator[None]:
    """Connect by the WebSocket client of the SDK, or start the command."""
    client = cast("acp.Client", editor)
    if isinstance(target, str):
        stream = await create_websocket_stream(target)
        async with acp.connect_to_agent(client, stream):
            yield
    else:
        async with acp.spawn_agent_process(
            client, *target, transport_kwargs={"stderr": None}
        ):
            yield


class Editor:
    """The client of the Python SDK."""

    def __init__(self, story: Story) -> None:
        self._agent: acp.Agent
        self._story = story
        self._files = dict(story.files)
        self._sessions: list[str] = []
        self._running: dict[str, tuple[Prompt, list[str]]] = {}
        self._answered: list[Answered] = []

    def on_connect(self, conn: acp.Agent) -> None:
        self._agent = conn

    async def play(self) -> Report:
        greeting = await self._agent.initialize(acp.PROTOCOL_VERSION, CAPABILITIES)
        assert greeting.agent_info
        for cwd in self._story.sessions:
            session = await self._agent.new_session(cwd, mcp_servers=[])
            self._sessions.append(session.session_id)
        for prompt in self._story.prompts:
            await self._ask(prompt)
        return Report(greeting.agent_info.name, self._answered, self._files)

    async def _ask(self, prompt: Prompt) -> None:
        session = self._sessions[prompt.session]
        heard: list[str] = []
        self._running[session] = prompt, heard
        text = acp.text_block(prompt.text)
        stop = (await self._agent.prompt(session, [text])).stop_reason
        self._answered.append(Answered(prompt.text, stop, heard))

    async def session_update(
        self, session_id: str, update: Any, **rest: object
    ) -> None:
        self._running[session_id][1].append(summary(update))

    async def request_permission(
        self, session_id: str, tool_call: ToolCallUpdate, **rest: object
    ) -> acp.RequestPermissionResponse:
        prompt, heard = self._running[session_id]
        assert tool_call.content
        diff = tool_call.content[0]
        assert isinstance(diff, FileEditToolCallContent)
        shown = json.dumps(diff.new_text, ensure_ascii=False)
        heard.append(f"ask {diff.path} {shown}")
        for other in prompt.meanwhile:
            await self._ask(other)
        outcome: AllowedOutcome | DeniedOutcome
        if prompt.answer == "cancel":
            await self._agent.cancel(session_id)
            outcome = DeniedOutcome(outcome="cancelled")
        else:
            outcome = AllowedOutcome(outcome="selected", option_id=prompt.answer)
        return acp.RequestPermissionResponse(outcome=outcome)

    async def read_text_file(
        self, path: str, **rest: object
    ) -> acp.ReadTextFileResponse:
        if path not in self._files:
            raise acp.RequestError.resource_not_found()
        return acp.ReadTextFileResponse(content=self._files[path])

    async def write_text_file(self, path: str, content: str, **rest: object) -> None:
        self._files[path] = content


def summary(update: Any) -> str:
    """Return a line for an update."""
    match update:
        case AgentPlanUpdate(entries=entries):
            return " ".join(["plan", *(entry.status for entry in entries)])
        case ToolCallStart(kind=kind, status=status):
            return f"{kind} {status}"
        case ToolCallProgress(status=status):
            return f"tool {status}"
        case AgentMessageChunk(content=TextContentBlock(text=text)):
            return f"message {text.strip()}"
    raise AssertionError(update)
