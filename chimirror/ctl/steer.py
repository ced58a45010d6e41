"""The verbs that steer a session while data flows: pause, resume, call.

They ask the process that has the session, over its control socket; root, and whoever
the process runs as, need no secret there (chimirror-protocol(7)).
"""

from __future__ import annotations

import json
import os

import orjson

from chimirror.ctl import choose, control, fields, sources
from chimirror.ctl.failure import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.ctl.host import Host
    from chimirror.ctl.table import Output
    from chimirror.ctl.usage import Given

STREAMS = ("stdin", "stdout", "stderr")


def pause(given: Given, host: Host, output: Output) -> int:
    """Let nothing pass on some streams, or on all."""
    return _streams(given, host, output)


def resume(given: Given, host: Host, output: Output) -> int:
    """Let it pass again."""
    return _streams(given, host, output)


def _streams(given: Given, host: Host, output: Output) -> int:
    identity, *streams = given.ids
    for name in streams:
        if name not in STREAMS:
            known = f"{', '.join(STREAMS[:-1])} or {STREAMS[-1]}"
            raise Failure(os.EX_USAGE, f'"{name}" is no stream; write {known}')
    params = {"streams": streams} if streams else {}
    told = fields.as_object(_ask(host, identity, given.verb, params))
    paused = fields.texts(told, "paused")
    output.write(f"paused: {', '.join(paused) or 'nothing'}\n")
    return os.EX_OK


def call(given: Given, host: Host, output: Output) -> int:
    """Call a method of a session, or of its application; prints what it returns."""
    identity, method, *rest = given.ids
    params = _params(rest[0]) if rest else {}
    result = _ask(host, identity, method, params)
    # It may be for a terminal: in ASCII, and without the control that JSON lets pass.
    text = json.dumps(result).replace("\x7f", "\\u007f")
    output.write(f"{text}\n")
    return os.EX_OK


def _params(text: str) -> object:
    try:
        params: object = orjson.loads(text)
    except ValueError as error:
        raise Failure(os.EX_USAGE, f"PARAMS: not JSON: {error}") from None
    if not isinstance(params, (dict, list)):
        hint = """write '{"streams":["stdout"]}'"""
        raise Failure(os.EX_USAGE, f"PARAMS: neither an object nor an array; {hint}")
    return params


def _ask(host: Host, text: str, method: str, params: object) -> object:
    """What one session answers."""
    (one,) = choose.live(sources.gather(host), [text])
    try:
        with control.Worker(one.socket) as asked:
            asked.ask("authorize", session=one.id)
            return asked.call(method, params)
    except (FileNotFoundError, ConnectionRefusedError, control.HungUp):
        raise Failure(os.EX_NOINPUT, f"{one.id} has ended, or just begins") from None
    except PermissionError:
        denied = f"{one.socket}: permission denied; ask as root"
        raise Failure(os.EX_NOPERM, denied) from None
    except control.Refused as error:
        raise Failure(os.EX_UNAVAILABLE, str(error)) from None
    except (control.Silent, TimeoutError) as error:
        raise Failure(os.EX_TEMPFAIL, str(error)) from None
