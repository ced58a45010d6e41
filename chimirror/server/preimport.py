"""Modules and files that the server loads before forking.

The workers share their memory, and an import cannot fail later for lack of descriptors.
A bridge imports such a module only when its session needs it, so that the first byte
comes early. Knows nothing of the processes that are forked.

An upgrade by pip or pipx replaces the files of a running server. So this list is
complete: after the start, a server reads no file of the package again. Exceptions are
programs that it executes, such as chimirror-authorize.
"""

from __future__ import annotations

from importlib import import_module

from chimirror.log import stream_sinks
from chimirror.protocol import frame_format, json_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.config import Config

LAZY_MODULES = (
    "chimirror.apps.directory",
    "chimirror.control.connection",
    "chimirror.control.controller",
    "chimirror.control.gateway",
    "chimirror.control.output_watcher",
    "chimirror.control.server",
    "chimirror.framing.fragments",
    "chimirror.framing.json_batch",
    "chimirror.framing.lines",
    "chimirror.framing.lsp",
    "chimirror.framing.lsp_stream",
    "chimirror.framing.receive_only",
    "chimirror.io.tcp_info",
    "chimirror.log.output_logger",
    "chimirror.log.rate_limit",
    "chimirror.manifest.interface",
    "chimirror.process.pty_process",
    "chimirror.protocol.bearer",
    "chimirror.protocol.forwarded",
    "chimirror.protocol.frame_fallback",
    "chimirror.protocol.frame_runs",
    "chimirror.protocol.proxy_protocol",
    "chimirror.protocol.request_target",
    "chimirror.protocol.terminal_size",
    "chimirror.protocol.trace_context",
    "chimirror.resources.responder",
    "chimirror.session.keepalive",
    "chimirror.session.summary",
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
TLS_MODULES = (
    "chimirror.session.tls_connection",
    "chimirror.tls.certificates",
    "chimirror.tls.peer_variables",
)
# For application files.
FILE_MODULES = (
    "chimirror.apps.file_fields",
    "chimirror.config.command_words",
    "chimirror.config.env_file",
    "chimirror.config.identity",
    "chimirror.config.presets",
    "chimirror.config.quantities",
    "chimirror.config.user_account",
    "chimirror.config.values",
    "chimirror.manifest.cycles",
    "chimirror.manifest.schema",
    "difflib",
)


def preimport(config: Config) -> None:
    """Import the modules, read the files and apply the settings of the process."""
    names = [*LAZY_MODULES, *(FILE_MODULES if config.apps is not None else ())]
    if config.tls_certs:
        names += TLS_MODULES
    if config.sources:
        names += ACCESS_MODULES
    if config.authorize is not None:
        names += EXEC_MODULES if config.authorize.argv else HTTP_MODULES
    for name in names:
        import_module(name)
    read_web_files(config)
    raise_malloc_thresholds()
    json_text.use_orjson()
    stream_sinks.use_orjson()
    frame_format.use_native()


def read_web_files(config: Config) -> None:
    """Read the files that pages load. All workers serve those of one version."""
    if config.console:
        import_module("chimirror.resources.console").files()
    if config.console or config.web_client:
        web_client = import_module("chimirror.resources.web_client")
        for name in web_client.NAMES:
            web_client.static_response.read(name)


# bytes that a message of 1 MiB needs in all: twice that may stay unused at the top
LARGE = 4 << 20


def raise_malloc_thresholds() -> None:
    """Make malloc(3) reuse freed blocks of up to `LARGE` bytes.

    Freeing one large block raises the dynamic mmap threshold of glibc (mallopt(3)). The
    block is never touched, so this takes 10 µs only.
    """
    bytes(LARGE)
