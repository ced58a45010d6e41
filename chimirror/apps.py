"""The applications that a process serves, and what is particular to each.

One of a COMMAND, which serves every path, or those of a directory of application files
(`directory`), each of which has a path of its own. A session asks its application for
everything that is not the same for all of them. Knows no descriptor.
"""

from __future__ import annotations

from chimirror import __version__
from chimirror.system.child import Program
from chimirror.wire.handshake import Policy
from chimirror.wire.opening import Openings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any, Protocol

    from chimirror.options import Config
    from chimirror.wire.interface import Interface

    class Apps(Protocol):
        """Those of one process."""

        @property
        def unnamed(self) -> App:
            """The one that needs no name, or whose policy says that none was found."""

        def find(self, head: bytes) -> App:
            """Whose this request is, from as much of its head as has come."""

        def all(self) -> Iterable[App]:
            """Those that can be used, by name."""

        def settle(self) -> None:
            """What can wait till a session is open."""


PASSED = ("PATH", "LANG", "TZ", "HOME", "USER", "CREDENTIALS_DIRECTORY")


class App:
    """One application.

    Args:
        config: what holds for it, from its file and from the command line.
        inherited: the environment of this process, from which the allow-list takes.
        said: see Interface.
        missing: see Policy.
        most: live sessions of it in a server; 0 for as many as there are of all.

    Attributes:
        name: as in its path; empty for the one of a COMMAND.
        missing: why it cannot be served; None where it can.
        command: its command line as records show it.
        environment: what its processes get, beside what is known of the client.
        openings: reads its requests.
    """

    __slots__ = (
        "_said",
        "command",
        "config",
        "environment",
        "missing",
        "most",
        "name",
        "openings",
        "policy",
        "program",
    )

    def __init__(
        self,
        name: str,
        config: Config,
        inherited: Mapping[str, str],
        *,
        said: Mapping[str, Any] | None = None,
        missing: Mapping[str, Any] | None = None,
        most: int = 0,
    ) -> None:
        self.name = name
        self.most = most
        self.config = config
        self._said = said or {}
        self.missing = missing
        self.command = config.preload or " ".join(config.command)
        # Where nothing else is served, we are in its directory already.
        found = config.apps is not None
        directory = config.directory if found else None
        argv = config.command or (self.command,)
        wants = {"pty": config.pty, "control": config.control}
        self.program = Program(argv, directory, **wants, found=found)
        self.environment = allowed(inherited, config)
        self.policy = make_policy(config, f"/{name}" if name else "", missing)
        keep = frozenset(config.pass_env)
        self.openings = Openings(self.policy, f"chimirror/{__version__}", keep)

    @property
    def interface(self) -> Interface:
        """What its file says of it."""
        from chimirror.wire.interface import Interface

        return Interface(self.name, **self._said)


class Single:
    """One application, whatever the path.

    Args:
        config, inherited: see App.
    """

    __slots__ = ("unnamed",)

    def __init__(self, config: Config, inherited: Mapping[str, str]) -> None:
        self.unnamed = App("", config, inherited)

    def find(self, head: bytes) -> App:
        """See Apps."""
        return self.unnamed

    def all(self) -> Iterable[App]:
        """See Apps."""
        return [self.unnamed]

    def settle(self) -> None:
        """See Apps."""


def allowed(environment: Mapping[str, str], config: Config) -> dict[str, str]:
    """What an application inherits, and what the operator adds to it."""
    kept = {
        name: value
        for name, value in environment.items()
        if name in PASSED or name.startswith("LC_") or name in config.pass_env
    }
    return {**kept, "PYTHONUNBUFFERED": "1", **config.env}


def make_policy(
    config: Config, root: str = "", missing: Mapping[str, Any] | None = None
) -> Policy:
    """An endpoint's policy from its options."""
    trusted = None
    if config.trusted_proxies:
        from chimirror.wire import proxy

        trusted = proxy.trusted(config.trusted_proxies)
    return Policy(
        config.framings,
        config.subprotocols,
        config.hosts,
        config.origins,
        trusted,
        root,
        missing,
        config.console,
    )
