"""The table of options of the programs that serve, and of application files.

Each option is one row. Its scope names the programs that take the option, and says
whether an application file may set it. Imports nothing: the bridge loads this module on
the way to its first byte.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

EX_USAGE = 64  # sysexits(3)

SHORT = {"-h": "--help"}
DEFAULT_LISTEN = "127.0.0.1:30747"

# Scopes. An option may have several of these bits.
BRIDGE, SERVER, ZYGOTE, FILE = 1, 2, 4, 8
SESSION = BRIDGE | SERVER
ANY = BRIDGE | SERVER | ZYGOTE


class Option:
    """A row of the table.

    Args:
        name: The name on the command line, with its hyphens.
        scope: The programs that take the option, and FILE for application files.
        metavar: The name of the value in --help. Empty: the option is a flag.
        default: The text that stands for `value` in --help. None: --help shows no
            default, or the text describes one in parentheses.
        value: The value of an option that is not given. A bridge without options
            therefore loads no parser.
        field: The attribute of Config. Empty for --help and --version.
        parse: The function that reads the text of the option, as `module.name`.
        text: The description in --help.
        repeats: The option may be repeated, and `parse` takes a list of texts.
    """

    __slots__ = (
        "_parse",
        "default",
        "field",
        "metavar",
        "name",
        "repeats",
        "scope",
        "text",
        "value",
    )

    def __init__(
        self,
        name: str,
        scope: int,
        metavar: str,
        default: str | None = None,
        value: object = None,
        field: str = "",
        parse: str = "",
        text: str = "",
        repeats: bool = False,
    ) -> None:
        self.name = name
        self.scope = scope
        self.metavar = metavar
        self.default = default
        self.field = field
        self._parse = parse
        self.value = value
        self.text = text
        self.repeats = repeats

    @property
    def parse(self) -> Callable[[Any], object]:
        """The function that reads the text."""
        module, _, name = self._parse.partition(".")
        function: Callable[[Any], object]
        function = getattr(
            __import__(f"chimirror.config.{module}", fromlist=[name]), name
        )
        return function


# The order of --help. The formatter would break the rows of this table.
# fmt: off
OPTIONS = (
    Option("--socket", ZYGOTE, "PATH", None, None, "socket", "values.socket",
           "Serve requests on this Unix socket (the one that systemd passes)."),
    Option("--allow-uid", ZYGOTE, "UIDS", None, (), "allowed_uids", "quantities.uids",
           "Serve these users too, besides root and the zygote's own user; "
           "repeatable.", True),
    Option("--max-sessions", BRIDGE, "N", "off", None,
           "max_sessions", "quantities.limit",
           "Under systemd: maximum number of sessions at once, among the units of "
           "the template."),
    Option("--user-range", BRIDGE, "RANGE", None, None,
           "user_range", "quantities.user_range",
           "Run as a user of these numbers, such as 100000-104095, that no other "
           "session has."),
    Option("--listen", SERVER, "ADDR", None, (), "listen", "values.listen",
           "Listen on ADDRESS:PORT, [IPV6]:PORT or unix:PATH; repeatable "
           f"({DEFAULT_LISTEN}, or the sockets that systemd passes).", True),
    Option("--bind-ipv6-only", SERVER, "", None, False, "bind_ipv6_only", "",
           "Let [::]:PORT serve IPv6 alone, not IPv4 too."),
    Option("--socket-mode", SERVER | ZYGOTE, "MODE", "0600", 0o600,
           "socket_mode", "quantities.mode",
           "Permissions of Unix sockets."),
    Option("--metrics", SERVER, "ADDR", None, None, "metrics", "values.address",
           "Serve metrics for Prometheus, and probes, by HTTP on this address of their "
           "own."),
    Option("--agent", SERVER, "ADDR", None, None, "agent", "values.address",
           "Answer the agent-check of HAProxy on this address of its own."),
    Option("--workers", SERVER, "N", None, None, "workers", "quantities.workers",
           "Number of worker processes (one per core, more if the descriptor limit "
           "requires it)."),
    Option("--drain-timeout", SERVER, "TIME", "30", 30.0,
           "drain_timeout", "quantities.parse_grace",
           "Time after SIGTERM for sessions to end by themselves."),
    Option("--session-cgroup", SERVER, "WHEN", "auto", "auto",
           "session_cgroup", "values.session_cgroup",
           "Give each session a cgroup, which no process of it can leave: auto (in a "
           "unit with Delegate=yes), on or off."),
    Option("--session-memory-max", SERVER | FILE, "SIZE", "off", None,
           "session_memory_max", "quantities.memory",
           "Maximum memory of each session, whose cgroup enforces it."),
    Option("--session-tasks-max", SERVER | FILE, "N", "off", None,
           "session_tasks_max", "quantities.limit",
           "Maximum number of processes and threads of each session, likewise."),
    Option("--session-cpu-weight", SERVER | FILE, "N", "off", None,
           "session_cpu_weight", "quantities.weight",
           "Share of CPU time of each session, compared with others of its worker: "
           "1 to 10000, where others have 100."),
    Option("--max-sessions", SERVER | FILE, "N", "off", None,
           "max_sessions", "quantities.limit",
           "Maximum number of sessions at once, as far as descriptors and processes "
           "allow."),
    Option("--max-sessions-per-source", SERVER, "N", "off", None,
           "max_sessions_per_source", "quantities.limit",
           "Maximum number of sessions at once from one address."),
    Option("--max-sessions-per-user", SERVER, "N", "off", None,
           "max_sessions_per_user", "quantities.limit",
           "Maximum number of sessions at once of one user, if clients are known."),
    Option("--max-rate", SERVER, "RATE", "off", None, "max_rate", "quantities.rate",
           "Maximum rate of new sessions: 10, 10/s, 90/min or 500/h."),
    Option("--max-handshakes", SERVER, "N", "512", 512,
           "max_handshakes", "quantities.pending",
           "Maximum number of connections in a worker that have sent no complete "
           "request, and of those that end."),
    Option("--max-handshakes-per-source", SERVER, "N", "256", 256,
           "max_handshakes_per_source", "quantities.limit",
           "Maximum number of such connections from one address."),
    Option("--preload", SERVER, "MODULE:FUNCTION", None, None,
           "preload", "values.preload",
           "Instead of a COMMAND: import this Python application once, and fork a copy "
           "for each connection."),
    Option("--spares", SERVER | FILE, "N", "0", 0, "spares", "quantities.spares",
           "Processes of each application that are started before their clients come."),
    Option("--spare-age", SERVER | FILE, "TIME", "10min", 600.0,
           "spare_age", "quantities.parse_timeout",
           "Replace a spare that has waited for this long."),
    Option("--protocol", SESSION | FILE, "NAME", None, None,
           "protocol", "presets.protocol",
           "Preset of the options that a protocol needs: acp, mcp, lsp or dap."),
    Option("--framing", SESSION | FILE, "NAMES", "json,stdio", ("json", "stdio"),
           "framings", "values.framings",
           "Allowed framings, the preferred one first: json, stdio, lines, lsp."),
    Option("--stderr", SESSION | FILE, "WHERE", None, None, "stderr", "values.stderr",
           "Destination of standard error: client, log or discard "
           "(log with lines, lsp and --direction send, else client)."),
    Option("--subprotocol", SESSION | FILE, "NAME=FRAMING", None, {},
           "subprotocols", "values.subprotocols",
           "Accept a foreign subprotocol too, such as mcp=lines; repeatable.", True),
    Option("--session-id-header", SESSION | FILE, "NAME", None, None,
           "session_id_header", "values.session_id_header",
           "Name the session's id in this field of the response to a handshake."),
    Option("--multiline", SESSION | FILE, "HOW", "refuse", "refuse",
           "multiline", "values.multiline",
           "What lines does with a message of several lines that is not JSON: refuse "
           "or split."),
    Option("--direction", SESSION | FILE, "WAY", "both", "both",
           "direction", "values.direction",
           "Direction of the messages: send (from the client), receive (to the "
           "client) or both."),
    Option("--read-only", SESSION | FILE, "", None, False, "read_only", "",
           "Ignore input and signals of clients, which only watch. Also with --pty."),
    Option("--control", SESSION | FILE, "", None, False, "control", "",
           "Give the application a control channel, and forward requests for unknown "
           "methods to it."),
    Option("--host", SESSION, "NAME", None, (), "hosts", "values.hosts",
           "Serve this host name too, not only localhost and IP addresses; "
           "repeatable.", True),
    Option("--origin", SESSION | FILE, "ORIGIN", None, (), "origins", "values.origins",
           "Serve pages of this origin too, besides those of the host itself; "
           "repeatable.", True),
    Option("--trusted-proxy", SESSION, "CIDR", None, (),
           "trusted_proxies", "values.networks",
           "Believe X-Forwarded-* from this network, or unix; repeatable.", True),
    Option("--proxy-protocol", SESSION, "", None, False, "proxy_protocol", "",
           "Expect a PROXY protocol header (v1 or v2) on each connection."),
    Option("--tls-cert", SESSION, "FILE", None, (), "tls_certs", "values.files",
           "Serve wss:// and https:// with this certificate and its chain, in PEM; "
           "repeatable, for several names.", True),
    Option("--tls-key", SESSION, "FILE", None, (), "tls_keys", "values.files",
           "The key of the certificate (in the same file); repeatable likewise.",
           True),
    Option("--tls-client-ca", SESSION, "FILE", None, None,
           "tls_client_ca", "values.file",
           "Ask clients for a certificate of these authorities, in PEM."),
    Option("--tls-client", SESSION | FILE, "WHEN", None, None,
           "tls_client", "values.tls_client",
           "Whether the client's certificate is required or optional (required)."),
    Option("--user-header", SESSION, "NAME", None, None,
           "user_header", "identity.header",
           "The user is the one whom a trusted proxy names in this field."),
    Option("--groups-header", SESSION, "NAME", None, None,
           "groups_header", "identity.header",
           "The groups of that user, in this field, comma-separated."),
    Option("--user-certificate", SESSION, "PART", None, None,
           "user_certificate", "identity.user_certificate",
           "The user is this part of the client's certificate: subject, cn, email, "
           "dns or uri."),
    Option("--allow-uid", SESSION, "UIDS", None, (), "allowed_uids", "quantities.uids",
           "Serve these local users on Unix sockets; repeatable.", True),
    Option("--allow-gid", SESSION, "GIDS", None, (), "allowed_gids", "quantities.gids",
           "Serve the members of these local groups likewise; repeatable.", True),
    Option("--authorize", SESSION, "WHERE", None, None,
           "authorize", "authorize_target.parse",
           "Ask who a client is: http://HOST:PORT/PATH, http+unix:PATH or "
           "'exec:COMMAND ARG ...'."),
    Option("--authorize-timeout", SESSION, "TIME", "5", 5.0,
           "authorize_timeout", "quantities.parse_deadline",
           "Time for that answer to arrive."),
    Option("--authorize-fields", SESSION, "NAMES", "Remote-User,Remote-Groups",
           ("remote-user", "remote-groups"),
           "authorize_fields", "authorize_target.fields",
           "Fields that name user and groups in an answer by HTTP."),
    Option("--require", SESSION, "SOURCES", None, (), "required", "identity.sources",
           "Serve a client only if all of these know it: proxy, certificate, local, "
           "authorizer (any of them). The last one names the user."),
    Option("--allow-anonymous", SESSION, "", None, False, "allow_anonymous", "",
           "Serve clients without a name too, if they send no wrong one."),
    Option("--users", SESSION | FILE, "NAMES", None, (), "users", "identity.names",
           "Users who may use the application, such as ann,bob (all)."),
    Option("--groups", SESSION | FILE, "NAMES", None, (), "groups", "identity.names",
           "Groups whose members may use it too (all)."),
    Option("--base-path", SESSION, "PATH", "/", "", "base_path", "base_path.parse",
           "Path of this server at a proxy, such as /term, whether the proxy removes "
           "it from requests or not."),
    Option("--max-message", SESSION | FILE, "SIZE", "1M", 1 << 20,
           "max_message", "quantities.message_size",
           "Maximum size of a message from the client."),
    Option("--max-line", SESSION | FILE, "SIZE", "16M", 1 << 24,
           "max_line", "quantities.message_size",
           "Maximum size of a line or body that the application writes with lines or "
           "lsp."),
    Option("--max-output-message", SESSION | FILE, "SIZE", "32K", 1 << 15,
           "max_output_message", "quantities.output_message_size",
           "Maximum size of a message of output with json or stdio."),
    Option("--handshake-timeout", SESSION, "TIME", "10", 10.0,
           "handshake_timeout", "quantities.parse_deadline",
           "Time for the request head to arrive."),
    Option("--idle-timeout", SESSION | FILE, "TIME", "off", None,
           "idle_timeout", "quantities.parse_timeout",
           "End a session after this long without a message."),
    Option("--session-timeout", SESSION | FILE, "TIME", "off", None,
           "session_timeout", "quantities.parse_timeout",
           "End every session after this long."),
    Option("--ping-interval", SESSION | FILE, "TIME", "20", 20.0,
           "ping_interval", "quantities.parse_timeout",
           "Ping a client that has been silent for this long."),
    Option("--ping-timeout", SESSION | FILE, "TIME", "20", 20.0,
           "ping_timeout", "quantities.parse_deadline",
           "Time for the answer to a ping to arrive."),
    Option("--pty", SESSION | FILE, "", None, False, "pty", "",
           "Give the application a terminal instead of pipes."),
    Option("--linger-timeout", SESSION | FILE, "TIME", "1", 1.0,
           "linger_timeout", "quantities.parse_grace",
           "Time after the exit for output of the application's children."),
    Option("--stop-grace", SESSION | FILE, "TIME", "1", 1.0,
           "stop_grace", "quantities.parse_grace",
           "Time from end of input to SIGTERM, once the client has disconnected."),
    Option("--kill-grace", ANY | FILE, "TIME", "5", 5.0,
           "kill_grace", "quantities.parse_grace",
           "Time from SIGTERM to SIGKILL."),
    Option("--pass-env", ANY | FILE, "NAMES", None, (), "pass_env", "values.pass_env",
           "Pass these variables to the application; repeatable.", True),
    Option("--env", ANY | FILE, "NAME=VALUE", None, {}, "env", "values.variables",
           "Set a variable of the application; repeatable.", True),
    Option("--env-file", ANY | FILE, "FILE", None, {},
           "env_file", "env_file.read_files",
           "Set variables from a file of NAME=VALUE lines; repeatable.", True),
    Option("--directory", ANY | FILE, "PATH", None, None,
           "directory", "values.directory",
           "Start the application in this directory (the current one)."),
    Option("--user", ANY | FILE, "NAME", None, None, "user", "values.user",
           "Start the application as this user, by name or number. Only root can."),
    Option("--log-format", ANY, "FORMAT", "auto", "auto",
           "log_format", "values.log_format",
           "Format of the log on standard error: auto, text or json."),
    Option("--apps", SESSION, "DIR", None, None, "apps", "values.applications",
           "Instead of a COMMAND: serve each application that has a file NAME.toml in "
           "this directory under the path /NAME."),
    Option("--console", SESSION, "", None, False, "console", "",
           "Serve a web page that talks to applications."),
    Option("--web-client", SESSION, "", None, False, "web_client", "",
           "Serve /.well-known/chimirror.js, the library for web pages, as --console "
           "does too."),
    Option("--help", ANY, "", text="Print this text and exit."),
    Option("--version", ANY, "", text="Print the version and exit."),
)
# fmt: on

PURPOSE = {
    "chimirror-bridge": "Serve the one WebSocket connection that this process "
    "inherits with a fresh COMMAND.",
    "chimirror-server": "Serve every WebSocket connection with a fresh COMMAND.",
    "chimirror-zygote": "Start a COMMAND, or fork a copy of a Python function that was "
    "imported before, for each request of a local client.",
}


def options_of(scope: int) -> tuple[Option, ...]:
    """Select the options of a program, or those that an application file may set."""
    return tuple([option for option in OPTIONS if option.scope & scope])
