"""A coding agent that renames and searches: an ACP agent on stdin and stdout.

An ordinary agent, made with the official Python SDK (`pip install
agent-client-protocol`), which knows nothing of networks and needs no model. It reads
and writes files through the editor: the files are the client's, with their unsaved
changes. It shows each change as a diff, and asks before it writes. A prompt is one of

    rename OLD to NEW in FILE…    a whole word, in all these files
    find WORD in FILE…            the lines with a whole word, such as TODO

A file is a path, relative to the directory of the session or absolute, without
spaces, or a mention of the editor (`@FILE`). The command of an editor is `python3
agent.py`, or the second line, when the first one serves the agent:

    chimirror-server --protocol acp --preload agent:main
    chimirror-connect ws://127.0.0.1:30747/
"""

from __future__ import annotations

import asyncio
import os
import re
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeVar, cast
from urllib.parse import unquote, urlsplit
from uuid import uuid4

import acp
from acp.schema import (
    AllowedOutcome,
    FileSystemCapabilities,
    Implementation,
    PermissionOption,
    ToolCallLocation,
    ToolCallUpdate,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable

    from acp.helpers import ContentBlock, SessionUpdate, ToolCallContentVariant
    from acp.schema import (
        ClientCapabilities,
        PlanEntryStatus,
        ToolCallStatus,
        ToolKind,
    )

T = TypeVar("T")

USAGE = "Write `rename OLD to NEW in FILE…` or `find WORD in FILE…`."
OPTIONS = [
    PermissionOption(option_id="once", name="Write this file", kind="allow_once"),
    PermissionOption(option_id="all", name="Write every file", kind="allow_always"),
    PermissionOption(option_id="skip", name="Skip this file", kind="reject_once"),
]


class Order(NamedTuple):
    """A parsed prompt. `new` is empty if it only searches."""

    word: str
    new: str
    files: list[str]


@dataclass
class Session:
    """A conversation. `turn` is the prompt that is being answered."""

    id: str
    directory: str
    turn: asyncio.Task[None] | None = None
    cancelled: bool = False
    write_all: bool = False


class FailedError(Exception):
    """One file cannot be read or written. The text tells the user why."""


def parse(blocks: list[ContentBlock]) -> Order | None:
    """Parse the content of a prompt. Returns None if it is no known order."""
    words: list[str] = []
    for block in blocks:
        if block.type == "text":
            words += block.text.split()
        elif block.type == "resource_link":
            words.append(path_of(block.uri))
    match words:
        case ["rename", word, "to", new, "in", _, *_]:
            return Order(word, new, words[5:])
        case ["find", word, "in", _, *_]:
            return Order(word, "", words[3:])
    return None


def path_of(uri: str) -> str:
    return unquote(urlsplit(uri).path) if uri.startswith("file:") else uri


def whole(word: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w){re.escape(word)}(?!\w)")


async def answer(request: Awaitable[T]) -> T:
    """Wait for the answer of the client. Raises FailedError if it is an error."""
    try:
        return await request
    except acp.RequestError as error:
        details = error.data.get("details") if isinstance(error.data, dict) else None
        raise FailedError(str(details or error)) from None


class Turn:
    """The answer to one prompt."""

    def __init__(
        self, client: acp.Client, files: FileSystemCapabilities, session: Session
    ) -> None:
        self._client = client
        self._files = files
        self._session = session

    async def run(self, prompt: list[ContentBlock]) -> None:
        """Do one file after the other. One that fails does not stop the others."""
        order = parse(prompt)
        if order is None:
            await self._say(USAGE)
        elif not self._files.read_text_file:
            await self._say("This editor lets no agent read files.")
        elif order.new and not self._files.write_text_file:
            await self._say("This editor lets no agent write files.")
        else:
            for number, file in enumerate(order.files):
                await self._show_plan(order.files, number)
                await self._say(await self._do(order, file))
            await self._show_plan(order.files, len(order.files))

    async def _do(self, order: Order, file: str) -> str:
        """Do one file. Returns what to tell the user, as Markdown."""
        path = os.path.normpath(os.path.join(self._session.directory, file))
        try:
            text = await self._read(path)
            if order.new:
                return f"{file}: {await self._rename(order, path, text)}\n\n"
        except FailedError as error:
            return f"{file}: {error}\n\n"
        lines = enumerate(text.split("\n"), 1)
        found = [f"{n}: {at}" for n, at in lines if whole(order.word).search(at)]
        return "\n".join([f"{file}: {len(found)} found\n", "```", *found, "```\n\n"])

    async def _rename(self, order: Order, path: str, text: str) -> str:
        changed, count = whole(order.word).subn(lambda _: order.new, text)
        if not count:
            return f"no {order.word}"
        diff = acp.tool_diff_content(path, changed, text)
        title = f"Rename {order.word} to {order.new}"
        async with self._tool_call("edit", title, path, diff) as call:
            await self._ask_permission(call)
            if await self._client_text(path) != text:
                raise FailedError("changed meanwhile, and not written")
            await answer(self._client.write_text_file(self._session.id, path, changed))
        return f"{count} changed"

    async def _read(self, path: str) -> str:
        async with self._tool_call("read", f"Read {os.path.basename(path)}", path):
            return await self._client_text(path)

    async def _client_text(self, path: str) -> str:
        request = self._client.read_text_file(self._session.id, path)
        return (await answer(request)).content

    async def _ask_permission(self, call: ToolCallUpdate) -> None:
        """Ask the user, unless every file may be written. Raises FailedError."""
        if self._session.write_all:
            return
        request = self._client.request_permission(self._session.id, call, OPTIONS)
        outcome = (await answer(request)).outcome
        chosen = outcome.option_id if isinstance(outcome, AllowedOutcome) else ""
        if chosen not in ("once", "all"):
            raise FailedError("skipped")
        self._session.write_all = chosen == "all"

    @asynccontextmanager
    async def _tool_call(
        self, kind: ToolKind, title: str, path: str, *content: ToolCallContentVariant
    ) -> AsyncIterator[ToolCallUpdate]:
        """Show the begin and the end of a step, as completed or failed."""
        call = uuid4().hex
        status: ToolCallStatus = "pending" if content else "in_progress"
        at = [ToolCallLocation(path=path)]
        await self._update(
            acp.start_tool_call(
                call, title, kind=kind, status=status, content=content, locations=at
            )
        )
        try:
            yield ToolCallUpdate(tool_call_id=call, title=title, content=list(content))
        except FailedError as error:
            text = acp.tool_content(acp.text_block(str(error)))
            await self._update(
                acp.update_tool_call(call, status="failed", content=[*content, text])
            )
            raise
        await self._update(acp.update_tool_call(call, status="completed"))

    async def _show_plan(self, files: list[str], current: int) -> None:
        def status(number: int) -> PlanEntryStatus:
            if number == current:
                return "in_progress"
            return "completed" if number < current else "pending"

        await self._update(
            acp.update_plan(
                acp.plan_entry(file, status=status(number))
                for number, file in enumerate(files)
            )
        )

    async def _say(self, text: str) -> None:
        await self._update(acp.update_agent_message_text(text))

    async def _update(self, update: SessionUpdate) -> None:
        await self._client.session_update(self._session.id, update)


class Agent:
    """Answers one client, with any number of sessions.

    It is no subclass of acp.Agent: its empty methods would accept requests that this
    agent cannot serve.
    """

    def __init__(self) -> None:
        self._client: acp.Client
        self._files = FileSystemCapabilities()
        self._sessions: dict[str, Session] = {}

    def on_connect(self, conn: acp.Client) -> None:
        self._client = conn

    async def initialize(
        self,
        client_capabilities: ClientCapabilities | None = None,
        **rest: object,
    ) -> acp.InitializeResponse:
        if client_capabilities and client_capabilities.fs:
            self._files = client_capabilities.fs
        return acp.InitializeResponse(
            protocol_version=acp.PROTOCOL_VERSION,
            agent_info=Implementation(name="rename", title="Rename", version="1.0.0"),
        )

    async def new_session(self, cwd: str, **rest: object) -> acp.NewSessionResponse:
        session = Session(uuid4().hex, cwd)
        self._sessions[session.id] = session
        return acp.NewSessionResponse(session_id=session.id)

    async def prompt(
        self, session_id: str, prompt: list[ContentBlock], **rest: object
    ) -> acp.PromptResponse:
        session = self._find(session_id)
        if session.turn:
            raise acp.RequestError.invalid_request({"details": "a prompt is running"})
        session.cancelled = False
        turn = Turn(self._client, self._files, session)
        session.turn = asyncio.create_task(turn.run(prompt))
        try:
            await session.turn
        except (asyncio.CancelledError, ConnectionError) as error:
            if isinstance(error, asyncio.CancelledError) and not session.cancelled:
                raise
            return acp.PromptResponse(stop_reason="cancelled")
        finally:
            session.turn = None
        return acp.PromptResponse(stop_reason="end_turn")

    async def cancel(self, session_id: str, **rest: object) -> None:
        session = self._find(session_id)
        if session.turn:
            session.cancelled = True
            session.turn.cancel()

    def _find(self, session_id: str) -> Session:
        try:
            return self._sessions[session_id]
        except KeyError:
            raise acp.RequestError.resource_not_found(session_id) from None


def main() -> None:
    """Serve one client, to the end of input."""
    asyncio.run(acp.run_agent(cast("acp.Agent", Agent())))


if __name__ == "__main__":
    main()
