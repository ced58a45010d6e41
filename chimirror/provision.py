"""What a server loads before it forks: its workers share it, and no shortage is yet.

A bridge loads the same when a session asks for it: its start is a feature.
"""

from __future__ import annotations

from importlib import import_module

from chimirror.system import heap, sinks
from chimirror.wire import jsontext, masking

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.options import Config

LATE = (
    "chimirror.clerk",
    "chimirror.courier",
    "chimirror.directory",
    "chimirror.liveness",
    "chimirror.murmur",
    "chimirror.report",
    "chimirror.system.tcp",
    "chimirror.wire.jsonbatch",
    "chimirror.wire.forwarded",
    "chimirror.wire.judge",
    "chimirror.wire.lines",
    "chimirror.wire.oneway",
    "chimirror.wire.lsp",
    "chimirror.wire.proxy",
    "chimirror.wire.runs",
    "fcntl",
    "pybase64",
    "traceback",
)


def load(config: Config) -> None:
    """Load it all."""
    for name in LATE if config.apps is None else (*LATE, "chimirror.apptoml"):
        import_module(name)
    heap.expect_large_blocks()
    jsontext.prepare()
    sinks.prepare()
    masking.prepare()
