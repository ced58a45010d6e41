"""The configuration of the programs: option table, value readers, frozen Config.

A bottom layer: imports only pure modules, the table of framings (framing.registry) and
the form of origins (protocol.policy). The files:

- options: the option table, and which program takes which option.
- parser: reads a command line into a Config.
- usage: writes and reads usage texts with docopt-ng.
- quantities: reads times, sizes, counts, rates and modes.
- listen_syntax: reads addresses to listen on.
- base_path: reads the path of a proxy.
- identity: reads users, groups, sources and fields that name them.
- authorize_target: reads where an authorizer is.
- presets: the options that --protocol stands for.
- values: reads names, hosts, origins, networks and variables.
- env_file: reads files of environment variables.
- user_account: finds the user of an application.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from chimirror.config.authorize_target import AuthorizeTarget
    from chimirror.config.user_account import UserAccount


class Config:
    """The checked and frozen result of a command line.

    Times are in seconds. None means off, unless a comment says otherwise.
    """

    command: tuple[str, ...]
    protocol: str | None  # the preset
    preset: dict[str, str]  # the options that it set, as texts, without their dashes
    framings: tuple[str, ...]
    stderr: str | None  # None: chosen by the framing
    subprotocols: dict[str, str]
    session_id_header: str | None  # the field of the 101 with the session's id
    direction: str  # as seen by the client
    read_only: bool  # what a client sends is ignored
    control: bool  # the application has a control channel
    hosts: tuple[str, ...]
    origins: tuple[str, ...]
    trusted_proxies: tuple[str, ...]
    proxy_protocol: bool
    tls_certs: tuple[str, ...]  # files; (): no TLS
    tls_keys: tuple[str, ...]  # a file for each certificate
    tls_client_ca: str | None  # a file
    tls_client: str | None  # its certificate: required or optional. None: required
    user_header: str | None
    groups_header: str | None
    user_certificate: str | None  # subject, cn, email, dns or uri
    authorize: AuthorizeTarget | None
    authorize_timeout: float
    authorize_fields: tuple[str, str]  # of user and groups, in lower case
    required: tuple[str, ...]  # sources; (): any of them
    allow_anonymous: bool
    users: tuple[str, ...]
    groups: tuple[str, ...]
    base_path: str  # the path of a proxy, without a slash at its end
    max_message: int  # from the client
    multiline: str  # of messages with lines: refuse or split
    max_line: int  # of output: line of lines, body of lsp
    max_output_message: int  # of json and stdio
    handshake_timeout: float
    idle_timeout: float | None
    session_timeout: float | None
    ping_interval: float | None
    ping_timeout: float
    pty: bool
    linger_timeout: float
    stop_grace: float
    kill_grace: float
    pass_env: tuple[str, ...]
    env: dict[str, str]
    directory: str | None
    user: UserAccount | None  # None: the user of this process
    apps: str | None  # a directory instead of a command
    console: bool
    web_client: bool
    log_format: str  # auto, text or json
    max_sessions: int | None
    # Options of the bridge alone.
    user_range: tuple[int, int] | None
    # Options of the server alone. In a bridge they have the default values.
    listen: tuple[str, ...]  # (): systemd's sockets, else DEFAULT_LISTEN
    bind_ipv6_only: bool
    socket_mode: int
    metrics: str | None  # an address like those of --listen
    agent: str | None  # likewise
    workers: int | None
    drain_timeout: float
    session_cgroup: str  # auto, on or off
    session_memory_max: int | None  # bytes
    session_tasks_max: int | None
    session_cpu_weight: int | None
    max_sessions_per_source: int | None
    max_sessions_per_user: int | None
    max_rate: float | None
    max_handshakes: int  # of each worker
    max_handshakes_per_source: int | None  # None: as many as of all sources
    preload: str | None  # MODULE:FUNCTION instead of a command
    spares: int  # of each application, over all workers
    spare_age: float | None
    allowed_uids: tuple[int, ...]  # of sessions, or of the zygote's clients
    allowed_gids: tuple[int, ...]
    # Options of the zygote alone.
    socket: str | None  # None: the socket passed by systemd

    __slots__ = tuple(__annotations__)

    def __init__(self, **fields: object) -> None:
        for name in self.__slots__:
            object.__setattr__(self, name, fields[name])

    def __setattr__(self, name: str, value: object = None) -> NoReturn:
        raise AttributeError(f"a Config cannot be changed ({name})")

    __delattr__ = __setattr__

    @property
    def sources(self) -> tuple[str, ...]:
        """The names of the sources that tell who a client is, in their order."""
        local = self.allowed_uids or self.allowed_gids
        return identity_sources(
            self.user_header, self.user_certificate, local, self.authorize
        )

    @property
    def client_direction(self) -> str:
        """The direction of messages, which --read-only restricts too."""
        return "receive" if self.read_only else self.direction


def identity_sources(
    proxy: object, certificate: object, local: object, authorizer: object
) -> tuple[str, ...]:
    """Return the names of the sources that are set up, in their order.

    Args:
        proxy, certificate, local, authorizer: the options that set a source up.
    """
    found = {
        "proxy": proxy,
        "certificate": certificate,
        "local": local,
        "authorizer": authorizer,
    }
    return tuple([name for name, value in found.items() if value])
