"""The applications that a process serves, and the settings of each.

A catalog holds the one application of a COMMAND, which serves every path. Or it holds
those of a directory of application files, each with a path of its own. A session
takes from its application all that differs between applications. The files:

- application_file: finds and reads one file.
- directory: the catalog of a directory.
- program_check: checks that a program can be started.
- file_fields: reads the fields of a Config from the text of a file.
- toml_parser: reads TOML.

May import config, protocol, process and manifest. Knows no session and no descriptor.
"""

from __future__ import annotations

from chimirror import __version__
from chimirror.process.spawner import Program
from chimirror.protocol.policy import HandshakePolicy
from chimirror.protocol.request_cache import RequestCache

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any, Protocol

    from chimirror.config import Config
    from chimirror.manifest.interface import Interface

    class Catalog(Protocol):
        """The applications of one process."""

        @property
        def default(self) -> Application:
            """The application without a name; in a directory, it refuses requests."""

        def find_for_request(self, head: bytes) -> Application:
            """Find the application for a request.

            Args:
                head: The part of the request head that has arrived.
            """

        def all(self) -> Iterable[Application]:
            """List the applications by name, also those that are unavailable."""

        def get(self, name: str) -> Application:
            """Find an application by name."""


# The options that need a controller of cgroups(7).
LIMIT_OPTIONS = {
    "memory": "--session-memory-max",
    "pids": "--session-tasks-max",
    "cpu": "--session-cpu-weight",
}
ALLOWED_VARIABLES = ("PATH", "LANG", "TZ", "HOME", "USER", "CREDENTIALS_DIRECTORY")


class Application:
    """One application: its program, environment and handshake policy.

    Args:
        name: The NAME of its path, or "" for the application of a COMMAND.
        config: The options of its file, with those of the command line as defaults.
        inherited: The environment of this process. The application gets the variables
            of the allow-list.
        interface: The arguments of its Interface.
        unavailable: The arguments of the HTTPError for its requests, if it cannot be
            served.
        max_sessions: The limit of its sessions in a server. 0: the limit of all
            sessions.

    Attributes:
        command: The command line as shown in records.
        environment: The variables of its processes, without those of the request.
        request_cache: The reader of its requests.
    """

    __slots__ = (
        "_interface",
        "command",
        "config",
        "environment",
        "unavailable",
        "max_sessions",
        "name",
        "request_cache",
        "policy",
        "program",
    )

    def __init__(
        self,
        name: str,
        config: Config,
        inherited: Mapping[str, str],
        *,
        interface: Mapping[str, Any] | None = None,
        unavailable: Mapping[str, Any] | None = None,
        max_sessions: int = 0,
    ) -> None:
        self.name = name
        self.max_sessions = max_sessions
        self.config = config
        self._interface = interface or {}
        self.unavailable = unavailable
        self.command = config.preload or " ".join(config.command)
        # A single application starts in this process's own directory.
        found = config.apps is not None
        directory = config.directory if found else None
        argv = config.command or (self.command,)
        features = {"pty": config.pty, "control": config.control}
        ids = config.user.ids if config.user else ()
        self.program = Program(
            argv,
            directory,
            **features,
            from_file=found,
            user_ids=ids,
            limits=cgroup_limits(config),
        )
        self.environment = application_environment(inherited, config)
        self.policy = make_policy(config, f"/{name}" if name else "", unavailable)
        keep = frozenset(config.pass_env)
        self.request_cache = RequestCache(self.policy, f"chimirror/{__version__}", keep)

    @property
    def interface(self) -> Interface:
        """The description that its file gives to clients."""
        from chimirror.manifest.interface import Interface

        return Interface(self.name, **self._interface)


class SingleApplication:
    """The catalog of one application, which serves every path.

    Args:
        config: The options of the command line.
        inherited: The environment of this process.
    """

    __slots__ = ("default",)

    def __init__(self, config: Config, inherited: Mapping[str, str]) -> None:
        self.default = Application("", config, inherited)

    def find_for_request(self, head: bytes) -> Application:
        """Find the application, without regard to the request."""
        return self.default

    def all(self) -> Iterable[Application]:
        """List the one application."""
        return [self.default]

    def get(self, name: str) -> Application:
        """Find the application by its name, which is empty."""
        return self.default


def limit_option(file: str) -> str:
    """Return the option that sets a file of `cgroup_limits`, or uses a controller."""
    return LIMIT_OPTIONS[file.partition(".")[0]]


def refuse_limits(config: Config) -> None:
    """Refuse limits in an application file of a bridge, which enforces none.

    Raises:
        ValueError: It has one. The text begins with its option.
    """
    for file in cgroup_limits(config):
        raise ValueError(
            f"{limit_option(file)}: chimirror-server enforces it, a bridge does not; "
            "leave it out, and write chimirror-ctl limit"
        )


def cgroup_limits(config: Config) -> dict[str, str]:
    """Return the limits of a session's cgroup: the text of each file (cgroups(7)).

    The name of a file begins with that of its controller.
    """
    limits = {}
    if config.session_memory_max is not None:
        limits["memory.max"] = str(config.session_memory_max)
        limits["memory.oom.group"] = "1"  # the whole session ends
    if config.session_tasks_max is not None:
        limits["pids.max"] = str(config.session_tasks_max)
    if config.session_cpu_weight is not None:
        limits["cpu.weight"] = str(config.session_cpu_weight)
    return limits


def inherited_variables(
    environment: Mapping[str, str], config: Config
) -> dict[str, str]:
    """Select the variables of this process that a process it starts may have.

    Programs in Python write each line at once.
    """
    kept = {
        name: value
        for name, value in environment.items()
        if name in ALLOWED_VARIABLES
        or name.startswith("LC_")
        or name in config.pass_env
    }
    return {**kept, "PYTHONUNBUFFERED": "1"}


def application_environment(
    environment: Mapping[str, str], config: Config
) -> dict[str, str]:
    """Select the inherited variables of an application, and add those of options."""
    kept = inherited_variables(environment, config)
    login = config.user.variables if config.user else {}
    return {**kept, **login, **config.env}


def make_policy(
    config: Config, root: str = "", unavailable: Mapping[str, Any] | None = None
) -> HandshakePolicy:
    """Make the handshake policy of an endpoint from its options."""
    trusted = None
    if config.trusted_proxies:
        from chimirror.protocol import proxy_protocol

        trusted = proxy_protocol.trusted_networks(config.trusted_proxies)
    return HandshakePolicy(
        config.framings,
        config.subprotocols,
        config.hosts,
        config.origins,
        trusted,
        root,
        unavailable,
        config.console,
        config.console or config.web_client,
        config.base_path,
        bool(config.tls_certs),
        bool(config.sources),
        [name for name in (config.user_header, config.groups_header) if name],
    )
