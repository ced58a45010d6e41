"""`chat server`: listens, and ends at SIGTERM or SIGINT after telling all clients."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
from functools import partial

from chat.connection import ServedConnection
from chat.served_connections import ServedConnections, ServerSettings
from chat.server_log import log_to_stderr, logger

BACKLOG = 512  # connections that the kernel accepts before the server does
MAX_PORT = 65_535
DEFAULTS = ServerSettings()


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add options and arguments of `chat server`."""
    parser.add_argument(
        "--max-users",
        type=partial(whole_number, least=1, most=DEFAULTS.max_users),
        default=DEFAULTS.max_users,
        metavar="N",
        help=f"refuse more (default and maximum: {DEFAULTS.max_users})",
    )
    for name, text in (
        ("login-timeout", "disconnect a client that does not log in within S seconds"),
        ("answer-timeout", "end a request for a chat that is not answered"),
        ("interval", "send something every S seconds, expect it of clients"),
    ):
        default = getattr(DEFAULTS, name.replace("-", "_"))
        parser.add_argument(
            f"--{name}",
            type=seconds,
            default=default,
            metavar="S",
            help=f"{text} (default: {default:g})",
        )
    parser.add_argument(
        "port",
        type=partial(whole_number, least=0, most=MAX_PORT),
        metavar="PORT",
        help="TCP port (0: a free one)",
    )
    parser.add_argument(
        "host",
        nargs="?",
        default="127.0.0.1",
        metavar="HOST",
        help="address to listen on (default: %(default)s)",
    )


def whole_number(word: str, least: int, most: int) -> int:
    """Parse a number of the command line."""
    if not (word.isascii() and word.isdigit() and least <= int(word[:9]) <= most):
        raise argparse.ArgumentTypeError(f"{word!r} is no number of {least} to {most}")
    return int(word)


def seconds(word: str) -> float:
    """Parse a duration of the command line."""
    try:
        value = float(word)
    except ValueError:
        value = 0
    if not 0.01 <= value <= 86_400:
        raise argparse.ArgumentTypeError(f"{word!r} is no number of 0.01 to 86400")
    return value


def run(args: argparse.Namespace) -> int:
    """Run the server. Returns its exit status."""
    settings = ServerSettings(
        args.max_users, args.login_timeout, args.answer_timeout, args.interval
    )
    with log_to_stderr():
        return asyncio.run(serve(args.host, args.port, settings))


async def serve(host: str, port: int, settings: ServerSettings) -> int:
    """Serve until SIGTERM or SIGINT. Returns the exit status."""
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(on_loop_error)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    served = ServedConnections(settings, loop)
    try:
        server = await loop.create_server(
            lambda: ServedConnection(served), host, port, backlog=BACKLOG
        )
    except OSError as error:
        logger.error("cannot listen on %s %s: %s", host, port, error)
        return os.EX_UNAVAILABLE
    for listener in server.sockets:
        address, number = listener.getsockname()[:2]
        logger.info("listening on %s %d", address, number)
    await stop.wait()
    server.close()
    await served.close_all()
    return os.EX_OK


def on_loop_error(loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    """Called for an error that no connection has handled.

    A client that resets its connection while the last message is sent causes an
    OSError, which is no error of the server.
    """
    error = context.get("exception")
    if isinstance(error, OSError):
        logger.info("%s: %s", context["message"], error)
    else:
        loop.default_exception_handler(context)
