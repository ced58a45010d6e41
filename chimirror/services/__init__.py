r"""Services for one application: a server process starts it and serves it over pipes.

    from chimirror.services import Server

    server = Server(["./target"])
    sums = server.pipe("sums", receive=list[int], send=int)
    sums.handler(sum)
    server.run().check()

and in the target

    from chimirror.services import connect

    with connect("sums", send=list[int], receive=int) as sums:
        sums.send([1, 2])
        print(sums.receive())

`chimirror.services.aio` is the same for asyncio. The public API is documented in
chimirror-services(3).

Modules from the bottom up, without I/O:

- `errors`, `results`, `names`, `options`
- `line_parser` and `codec`: bytes to messages, messages to values
- `flow`: the steps at which the logic waits

With descriptors, without waits:

- `memory`: large values in sealed memory
- `receiving_end`, `sending_end` and `pipe_core`: one pipe
- `directory`, `open_watch`, `guard`, `target`, `termination`: parts of a server
- `service` and `server_core`: a server
- `client_core`: a connection of the target

Blocking API: `poll_driver`, `blocking`. Asyncio API: `asyncio_driver`, `aio`.

Imports only `chimirror.text`. Needs msgspec, from the extra `services`. No other part
of the package imports this one.
"""

from __future__ import annotations

from chimirror.services.blocking import Pipe, Server, ServerPipe, connect
from chimirror.services.errors import Error, InvalidMessage, NotConnected, PeerClosed
from chimirror.services.options import PipeOptions
from chimirror.services.results import Exit, ExitFailure

__all__ = [
    "Error",
    "Exit",
    "ExitFailure",
    "InvalidMessage",
    "NotConnected",
    "PeerClosed",
    "Pipe",
    "PipeOptions",
    "Server",
    "ServerPipe",
    "connect",
]
