"""Modules that the server imports before forking.

The workers share the memory of these modules, and an import cannot fail later for lack
of descriptors. A bridge imports such a module only when its session needs it, so that
the first byte comes early. Knows nothing of the processes that are forked.
"""

from __future__ import annotations

from importlib import import_module

from chimirror.log import stream_sinks
from chimirror.protocol import frame_format, json_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.config import Config

LAZY_MODULES = (
    "chimirror.control.connection",
    "chimirror.control.controller",
    "chimirror.control.gateway",
    "chimirror.control.output_watcher",
    "chimirror.control.server",
    "chimirror.apps.directory",
    "chimirror.session.keepalive",
    "chimirror.log.output_logger",
    "chimirror.log.rate_limit",
    "chimirror.session.summary",
    "chimirror.io.tcp_info",
    "chimirror.framing.json_batch",
    "chimirror.protocol.forwarded",
    "chimirror.protocol.frame_fallback",
    "chimirror.framing.fragments",
    "chimirror.framing.lines",
    "chimirror.framing.receive_only",
    "chimirror.framing.lsp",
    "chimirror.protocol.proxy_protocol",
    "chimirror.protocol.frame_runs",
    "fcntl",
    "pybase64",
    "traceback",
)
# For each kind of authorizer.
EXEC_MODULES = ("chimirror.access.exec_transport",)
HTTP_MODULES = ("chimirror.access.http_transport",)
ACCESS_MODULES = (
    "chimirror.access.authorizer_factory",
    "chimirror.access.factory",
    "chimirror.session.identification",
)
# For application files.
FILE_MODULES = (
    "chimirror.apps.file_fields",
    "chimirror.config.env_file",
    "chimirror.manifest.cycles",
    "chimirror.manifest.schema",
    "difflib",
)


def preimport(config: Config) -> None:
    """Import the modules and apply the settings of the process."""
    names = [*LAZY_MODULES, *(FILE_MODULES if config.apps is not None else ())]
    if config.sources:
        names += ACCESS_MODULES
    if config.authorize is not None:
        names += EXEC_MODULES if config.authorize.argv else HTTP_MODULES
    for name in names:
        import_module(name)
    raise_malloc_thresholds()
    json_text.use_orjson()
    stream_sinks.use_orjson()
    frame_format.use_native()


# bytes that a message of 1 MiB needs in all: twice that may stay unused at the top
LARGE = 4 << 20


def raise_malloc_thresholds() -> None:
    """Make malloc(3) reuse freed blocks of up to `LARGE` bytes.

    Freeing one large block raises the dynamic mmap threshold of glibc (mallopt(3)). The
    block is never touched, so this takes 10 µs only.
    """
    bytes(LARGE)
