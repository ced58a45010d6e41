"""Verbs that control a session while data flows: pause, resume, call.

The request goes to the control socket of the process that has the session. Root and
the user of that process need no secret there (chimirror-protocol(7)).
"""

from __future__ import annotations

import os
from _json import encode_basestring_ascii
from contextlib import contextmanager

from chimirror.ctl import (
    control_client,
    discovery,
    json_fields,
)
from chimirror.ctl.messages import CommandError
from chimirror.protocol import json_text, jsonrpc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from chimirror.ctl.output import OutputWriter
    from chimirror.ctl.paths import HostPaths
    from chimirror.ctl.session_info import SessionInfo
    from chimirror.ctl.usage import CommandLine

STREAMS = ("stdin", "stdout", "stderr")


def pause(given: CommandLine, host: HostPaths, output: OutputWriter) -> int:
    """Pause some streams of a session, or all."""
    return _streams(given, host, output)


def resume(given: CommandLine, host: HostPaths, output: OutputWriter) -> int:
    """Resume some streams of a session, or all."""
    return _streams(given, host, output)


def _streams(given: CommandLine, host: HostPaths, output: OutputWriter) -> int:
    identity, *streams = given.ids
    for name in streams:
        if name not in STREAMS:
            expected = f"{', '.join(STREAMS[:-1])} or {STREAMS[-1]}"
            raise CommandError(
                os.EX_USAGE, f'"{name}" is not a stream; write {expected}'
            )
    params = {"streams": streams} if streams else {}
    text = _call_session(host, identity, given.verb, jsonrpc.encode(params))
    try:
        report = json_fields.decode(text.encode())
        paused = json_fields.texts(report, "paused")
    except json_fields.Malformed as error:
        message = f"session {identity}: unreadable response: {error}; it may have"
        message += f" been done: chimirror-ctl call {identity} status shows"
        raise CommandError(os.EX_TEMPFAIL, message) from None
    output.write(f"paused: {', '.join(paused) or 'nothing'}\n")
    return os.EX_OK


def call(given: CommandLine, host: HostPaths, output: OutputWriter) -> int:
    """Call a method of a session or of its application, and print the result."""
    identity, method, *rest = given.ids
    params = _params(rest[0]) if rest else b"{}"
    text = _call_session(host, identity, method, params).replace("\r", " ")
    output.write(f"{_to_ascii(text)}\n")
    return os.EX_OK


def _to_ascii(text: str) -> str:
    """Escape what may move the cursor of a terminal, DEL included, in a JSON text."""
    if text.isascii() and "\x7f" not in text:
        return text
    return "".join([c if c < "\x7f" else _escape(c) for c in text])


def _escape(character: str) -> str:
    if character == "\x7f":
        return "\\u007f"
    return encode_basestring_ascii(character)[1:-1]


def _params(text: str) -> bytes:
    try:
        message = text.encode()
        params = json_text.parse(message)
    except ValueError as error:
        raise CommandError(os.EX_USAGE, f"PARAMS: not JSON: {error}") from None
    if not isinstance(params, (dict, list)):
        hint = """write '{"streams":["stdout"]}'"""
        raise CommandError(
            os.EX_USAGE, f"PARAMS: neither an object nor an array; {hint}"
        )
    return json_text.to_single_line(message)


def _call_session(host: HostPaths, text: str, method: str, params: bytes) -> str:
    """Call a method of one session and return the JSON text of its result.

    Raises:
        CommandError: The session has ended, or the call failed.
    """
    with authorized_client(host, text) as (_, client):
        return client.call(method, params)


@contextmanager
def authorized_client(
    host: HostPaths, text: str
) -> Iterator[tuple[SessionInfo, control_client.ControlClient]]:
    """Connect to the control socket of the session with this prefix.

    Raises:
        CommandError: The session has ended, or a request failed.
    """
    (session,) = discovery.discover(host).select([text])
    try:
        with control_client.ControlClient(session.socket, session.name) as client:
            client.request("authorize", session=session.id)
            yield session, client
    except control_client.Ended:
        message = f"{session.name} has ended, or is just starting; chimirror-ctl"
        message += " sessions lists the live ones"
        raise CommandError(os.EX_NOINPUT, message) from None
    except control_client.AccessDenied as error:
        raise CommandError(os.EX_NOPERM, str(error)) from None
    except control_client.RequestDenied as error:
        raise CommandError(os.EX_UNAVAILABLE, str(error)) from None
    except control_client.NoAnswer as error:
        raise CommandError(os.EX_TEMPFAIL, str(error)) from None
