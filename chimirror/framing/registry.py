"""The framings of the server, one row for each.

A new framing takes one module in this package and one row here. Its subprotocol is
`chimirror.NAME.v1` (`protocol.policy`). Knows no option and no session. The module of a
framing is imported with the first session that needs it.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from chimirror.framing import Framing


class FramingRow:
    """Properties of one framing, for options, sessions and manifests.

    Attributes:
        name: The name in `--framing`.
        title: The title in manifests.
        has_stderr: Whether its messages can carry standard error.
        has_state: Whether each session has a framing object of its own. Otherwise all
            sessions with the same limit share one object.
        limit: The attribute of Config with the limit of one message of output.
        takes_stream: Whether a client can send a byte stream.
    """

    __slots__ = (
        "_factories",
        "_factory",
        "_module",
        "_pty_factory",
        "_shared",
        "_split_factory",
        "has_state",
        "has_stderr",
        "limit",
        "name",
        "takes_stream",
        "title",
    )

    def __init__(
        self,
        name: str,
        module: str,
        factory: str,
        title: str,
        *,
        limit: str,
        has_stderr: bool = False,
        has_state: bool = False,
        takes_stream: bool = False,
        pty_factory: str = "",
        split_factory: str = "",
    ) -> None:
        self.name = name
        self._module = module
        self._factory = factory
        self._pty_factory = pty_factory or factory
        self._split_factory = split_factory
        self._factories: dict[str, Callable[..., Framing]] = {}
        self._shared: dict[tuple[str, int], Framing] = {}
        self.title = title
        self.has_stderr = has_stderr
        self.has_state = has_state
        self.limit = limit
        self.takes_stream = takes_stream

    @property
    def default_stderr(self) -> str:
        """The destination of standard error without `--stderr`."""
        return "client" if self.has_stderr else "log"

    def create(
        self, limit: int, max_message: int, *, pty: bool, multiline: str = "refuse"
    ) -> Framing:
        """Return the framing object for one session.

        Args:
            limit: Bytes of the largest message of output.
            max_message: Bytes of the largest message of a byte stream.
            pty: The application has a terminal.
            multiline: The value of `--multiline`. Only `lines` heeds it.
        """
        factory = self._pty_factory if pty else self._factory
        if multiline == "split" and self._split_factory:
            factory = self._split_factory
        shared = self._shared.get((factory, limit))
        if shared is not None:
            return shared
        make = self._factories.get(factory)
        if make is None:
            module = __import__(self._module, fromlist=[factory])
            make = self._factories[factory] = getattr(module, factory)
        limits = (limit, max_message) if self.takes_stream else (limit,)
        made = make(*limits)
        if not self.has_state:
            self._shared[factory, limit] = made
        return made


FRAMINGS = {
    row.name: row
    for row in (
        FramingRow(
            "json",
            "chimirror.framing.json_framing",
            "JsonFraming",
            "JSON texts in, output in base64",
            limit="max_output_message",
            has_stderr=True,
        ),
        FramingRow(
            "stdio",
            "chimirror.framing.json_framing",
            "StdioFraming",
            "Standard input, output and error in base64, signals, exit status",
            limit="max_output_message",
            has_stderr=True,
            pty_factory="TerminalFraming",
        ),
        FramingRow(
            "lines",
            "chimirror.framing.lines",
            "LinesFraming",
            "One message, one line",
            limit="max_line",
            has_state=True,
            split_factory="SplitLinesFraming",
        ),
        FramingRow(
            "lsp",
            "chimirror.framing.lsp",
            "LspFraming",
            "One message, one body of the Language Server Protocol",
            limit="max_line",
            has_state=True,
            takes_stream=True,
        ),
    )
}


def create(name: str, limit: int, *, pty: bool = False) -> Framing:
    """Return the framing object for one session.

    Args:
        name: A key of FRAMINGS.
        limit: Bytes of the largest message of output, and of a byte stream.
        pty: The application has a terminal. Only for framings with `has_stderr`.
    """
    return FRAMINGS[name].create(limit, limit, pty=pty)
