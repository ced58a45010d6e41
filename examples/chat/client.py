"""`chat client`: a user on standard input and output, a server on a TCP connection.

Joins the console, the link to the server and the handlers of lines and messages. All
run in one event loop, so keyboard and network are watched at once. Input waits while
its results cannot be written, and so does the network.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import deque
from functools import partial
from typing import TYPE_CHECKING

from chat import server_link
from chat.backoff import Backoff
from chat.client_state import ClientState, ConnectionEnded
from chat.command_handler import CommandHandler
from chat.display_text import escaped
from chat.message_handler import MessageHandler
from chat.server import MAX_PORT, whole_number
from chat.terminal_console import open_console
from chat_pb2 import Failure

if TYPE_CHECKING:
    import argparse

    from chat.server_link import ServerLink
    from chat_pb2 import FromClient

MAX_LINES = 100  # lines of the user that wait for answers
NAME_FAILURES = (Failure.INVALID_NAME, Failure.NAME_TAKEN)
LASTING = 30.0  # seconds of a connection after which a new series begins
ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


class ChatClient:
    """One user, from the question for the name to the end of the program."""

    def __init__(self, host: str, port: int) -> None:
        self._address = host, port
        self._loop = asyncio.get_running_loop()
        self._end = asyncio.Event()
        self._failure = ""
        self._signal: signal.Signals | None = None
        self._state = ClientState()
        self._commands = CommandHandler(self._state, self)
        self._messages = MessageHandler(self._state, self)
        self._named = asyncio.Event()
        self._link: ServerLink | None = None
        self._backoff = Backoff()
        self._lines: deque[str] = deque()
        self._input_ended = False
        self._writing: asyncio.Task[None] | None = None
        for number in ENDING:
            self._loop.add_signal_handler(number, self._on_signal, number)
        self._console = open_console(self)

    async def run(self) -> int:
        """Run until the user or the server ends the client. Returns its exit status."""
        self._ask_name()
        connecting = asyncio.create_task(self._keep_connected())
        closed = asyncio.create_task(self._console.output.closed.wait())
        ended = asyncio.create_task(self._end.wait())
        tasks = [connecting, closed, ended]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if self._writing:
            tasks.append(self._writing)
        for task in tasks:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        await self._console.close()
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome
        return self._status()

    def _status(self) -> int:
        if self._signal:
            signal.signal(self._signal, signal.SIG_DFL)
            os.kill(os.getpid(), self._signal)
        if self._failure:
            return fail(self._failure, os.EX_UNAVAILABLE)
        if reason := self._console.output.failure:
            return fail(f"cannot write the output: {reason}", os.EX_IOERR)
        return os.EX_OK

    def _on_signal(self, number: signal.Signals) -> None:
        self._signal = number
        self._end.set()

    # Connection.

    def _ask_name(self, *lines: str) -> None:
        self._state.name, self._state.token = "", b""
        self._named.clear()
        for line in (*lines, "Write the name that other users shall see."):
            self.show(line)
        self._update()

    async def _keep_connected(self) -> None:
        """Connect, and connect again, until the attempts are used up."""
        while True:
            await self._named.wait()
            began = self._loop.time()
            try:
                await self._converse()
            except ConnectionEnded as end:
                delay = self._next_delay(end, self._loop.time() - began)
            if delay is None:
                self._end.set()
                return
            self._update()
            await asyncio.sleep(delay)

    async def _converse(self) -> None:
        """Use one connection until it ends.

        Raises:
            ConnectionEnded: at the end.
        """
        link = self._link = await server_link.connect(*self._address)
        try:
            await self._receive_messages(link)
        except ConnectionEnded:
            link.abort()
            raise
        except asyncio.CancelledError:  # the user ends the client
            await link.close()
            raise
        finally:
            self._link = None

    async def _receive_messages(self, link: ServerLink) -> None:
        link.send(self._state.login())
        while True:
            message = await link.receive()
            self._messages.on_message(message)
            if message.WhichOneof("kind") == "logged_in":
                link.keep_alive(message.logged_in.interval / 1000)
            self._update()
            await self._console.output.drain()

    def _next_delay(self, end: ConnectionEnded, lasted: float) -> float | None:
        """Report the end of a connection. Returns None if there is no further one."""
        if partner := self._state.on_disconnected():
            self.show(f"The chat with {partner} has ended.")
        if end.code in NAME_FAILURES:
            self._ask_name(f"error: {end}")
            return 0.0
        where = "{}:{}".format(*self._address)
        if not self._state.token:
            self._failure = f"cannot connect to {where}: {end}"
            return None
        if lasted > LASTING:
            self._backoff.reset()
        delay = self._backoff.next_delay()
        if delay is None:
            self._failure = f"cannot connect to {where} again: {end}"
        else:
            self.show(f"No connection to the server: {end}.")
            self.show(f"The next attempt is in {delay:.1f} s.")
        return delay

    # Output of the handlers.

    def show(self, line: str) -> None:
        self._console.show(line)

    def send(self, message: FromClient) -> None:
        if self._link:
            self._link.send(message)

    def log_in(self) -> None:
        self._named.set()

    def disconnect(self) -> None:
        self.show("You have disconnected.")
        self._end.set()

    # Input of the user.

    def on_line(self, line: str) -> None:
        self._lines.append(line)
        self._update()

    def on_end(self) -> None:
        self._input_ended = True
        self._update()

    def on_interrupt(self) -> None:
        self._end.set()

    def _update(self) -> None:
        """Execute the lines that need not wait, and show the state."""
        while self._lines and not self._writing and not self._end.is_set():
            if not self._commands.accepts(self._lines[0]):
                break
            self._commands.on_line(self._lines.popleft())
            if self._console.output.crowded or (self._link and self._link.crowded):
                self._writing = asyncio.create_task(self._wait_for_room(self._link))
        if self._input_ended and not self._lines and self._commands.accepts(""):
            self._end.set()
        if len(self._lines) < MAX_LINES:
            self._console.resume_reading()
        else:
            self._console.pause_reading()
        self._console.set_prompt(self._state.prompt())

    async def _wait_for_room(self, link: ServerLink | None) -> None:
        """Wait for the readers of the output before more lines are executed."""
        await self._console.output.drain()
        if link:
            await link.drain()
        self._writing = None
        self._update()


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `chat client`."""
    parser.add_argument(
        "port",
        type=partial(whole_number, least=1, most=MAX_PORT),
        metavar="PORT",
        help="TCP port of the server",
    )
    parser.add_argument(
        "host",
        nargs="?",
        default="127.0.0.1",
        metavar="HOST",
        help="address of the server (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Run the client. Returns its exit status."""

    async def talk() -> int:
        return await ChatClient(args.host, args.port).run()

    if sys.stdin is None or sys.stdout is None:
        return fail("standard input or output is closed", os.EX_USAGE)
    return asyncio.run(talk())


def fail(reason: str, status: int) -> int:
    """Report the reason for the end. Returns the exit status."""
    print(f"chat: {escaped(reason)}", file=sys.stderr)
    return status
