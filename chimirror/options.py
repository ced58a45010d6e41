"""The command lines of all programs that serve: one table, one frozen Config.

The table below is the only list of options.  A strict scanner reads a good command
line by it; whatever is unusual (help, version, any error) goes to docopt-ng, which
reads the text that usage.py writes from the same table.  A test holds the two equal.
Two readers, because docopt costs 21 ms to import, twice a bare interpreter's start.

Nothing here opens, starts or connects anything, files of ``--env-file`` apart.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, NoReturn

EX_USAGE = 64  # sysexits.h
DEFAULT_LISTEN = "127.0.0.1:30747"


class UsageError(Exception):
    """A command line that cannot be obeyed; ``str()`` is what to print."""

    status = EX_USAGE

    def __init__(self, program: str, text: str) -> None:
        super().__init__(program, text)
        self.program = program
        self.text = text

    def __str__(self) -> str:
        from chimirror import usage

        line = usage.synopsis(self.program)
        return f"{self.program}: {self.text}\nUsage: {line}"


class Option:
    """One row of the table.

    ``field`` names the attribute of Config, ``parse`` the function (module.name) that
    turns the text (or the list of texts, where the option may be repeated) into its
    value, and ``default`` is the text that stands for ``value`` where none is given:
    a bridge without options loads no parser.  An option without a
    metavar is a flag.  A default in parentheses in the text is no text to parse.
    """

    __slots__ = (
        "_parse",
        "default",
        "field",
        "metavar",
        "name",
        "repeats",
        "text",
        "value",
    )

    def __init__(
        self,
        name: str,
        metavar: str,
        default: str | None,
        value: object,
        field: str,
        parse: str,
        text: str,
        repeats: bool = False,
    ) -> None:
        self.name = name
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
        function = getattr(__import__(f"chimirror.{module}", fromlist=[name]), name)
        return function


# A table reads best as a table.
# fmt: off
SHARED = (
    Option("--framing", "NAMES", "json,stdio", ("json", "stdio"),
           "framings", "names.framings",
           "Framings that are allowed, the preferred first: json, stdio, lines, lsp."),
    Option("--stderr", "WHERE", None, None, "stderr", "names.stderr",
           "What becomes of standard error: client, log or discard "
           "(log with lines, lsp and --direction send, else client)."),
    Option("--subprotocol", "NAME=FRAMING", None, {},
           "subprotocols", "names.subprotocols",
           "Answer to a foreign subprotocol too, such as mcp=lines; repeatable.", True),
    Option("--direction", "WAY", "both", "both", "direction", "names.direction",
           "Who says something: send (the client), receive (the application, to it) "
           "or both."),
    Option("--control", "", None, False, "control", "",
           "Give the application a control channel, and pass on to it what it alone "
           "can do."),
    Option("--host", "NAME", None, (), "hosts", "names.hosts",
           "Serve this host name too, not only localhost and IP addresses; "
           "repeatable.", True),
    Option("--origin", "ORIGIN", None, (), "origins", "names.origins",
           "Serve pages of this origin, beside those of the host itself; repeatable.",
           True),
    Option("--trusted-proxy", "CIDR", None, (), "trusted_proxies", "names.networks",
           "Believe X-Forwarded-* from this network, or unix; repeatable.", True),
    Option("--proxy-protocol", "", None, False, "proxy_protocol", "",
           "Expect a PROXY protocol header (v1 or v2) on each connection."),
    Option("--max-message", "SIZE", "1M", 1 << 20, "max_message", "units.message_size",
           "Largest message, and largest line or body with lines or lsp."),
    Option("--handshake-timeout", "TIME", "10", 10.0,
           "handshake_timeout", "units.deadline",
           "Time for the request head to arrive."),
    Option("--idle-timeout", "TIME", "off", None, "idle_timeout", "units.timeout",
           "End a session in which nothing was said for this long."),
    Option("--session-timeout", "TIME", "off", None, "session_timeout", "units.timeout",
           "End every session after this long."),
    Option("--ping-interval", "TIME", "20", 20.0, "ping_interval", "units.timeout",
           "Ask a silent client for a sign of life this often."),
    Option("--ping-timeout", "TIME", "20", 20.0, "ping_timeout", "units.deadline",
           "Time for that sign to arrive."),
    Option("--pty", "", None, False, "pty", "",
           "Give the application a terminal instead of pipes."),
    Option("--linger-timeout", "TIME", "1", 1.0, "linger_timeout", "units.grace",
           "After the exit, time for output that a child of the application holds."),
    Option("--stop-grace", "TIME", "1", 1.0, "stop_grace", "units.grace",
           "From end of input to SIGTERM, when the client has gone."),
    Option("--kill-grace", "TIME", "5", 5.0, "kill_grace", "units.grace",
           "From SIGTERM to SIGKILL."),
    Option("--pass-env", "NAMES", None, (), "pass_env", "names.pass_env",
           "Pass these variables on to the application; repeatable.", True),
    Option("--env", "NAME=VALUE", None, {}, "env", "names.variables",
           "Set a variable of the application; repeatable.", True),
    Option("--env-file", "FILE", None, {}, "env_file", "envfile.read_all",
           "Set variables from a file of NAME=VALUE lines; repeatable.", True),
    Option("--directory", "PATH", None, None, "directory", "names.directory",
           "Start the application in this directory (where we were started)."),
    Option("--apps", "DIR", None, None, "apps", "names.applications",
           "Instead of a COMMAND: serve each application that has a file NAME.toml in "
           "this directory under the path /NAME."),
    Option("--console", "", None, False, "console", "",
           "Serve a page that talks to applications from a browser."),
)
BRIDGE_ONLY = (
    Option("--max-sessions", "N", "off", None, "max_sessions", "units.limit",
           "Under systemd: sessions at once, counted as units of our template."),
    Option("--user-range", "RANGE", None, None, "user_range", "units.user_range",
           "Become a user of these numbers, such as 100000-104095, that no other "
           "session has."),
)
SERVER_ONLY = (
    Option("--listen", "ADDR", None, (), "listen", "names.listen",
           "Listen on ADDRESS:PORT, [IPV6]:PORT or unix:PATH; repeatable "
           f"({DEFAULT_LISTEN}, or what systemd hands over).", True),
    Option("--socket-mode", "MODE", "0600", 0o600, "socket_mode", "units.mode",
           "Permissions of Unix sockets."),
    Option("--workers", "N", None, None, "workers", "units.workers",
           "Worker processes (one per core, more where the descriptor limit asks)."),
    Option("--drain-timeout", "TIME", "30", 30.0, "drain_timeout", "units.grace",
           "After SIGTERM, time for sessions to end by themselves."),
    Option("--max-sessions", "N", "off", None, "max_sessions", "units.limit",
           "Sessions at once, as far as descriptors and processes allow."),
    Option("--max-sessions-per-source", "N", "off", None,
           "max_sessions_per_source", "units.limit",
           "Sessions at once from one address."),
    Option("--max-rate", "RATE", "off", None, "max_rate", "units.rate",
           "New sessions per time: 10, 10/s, 90/min or 500/h."),
    Option("--preload", "MODULE:FUNCTION", None, None, "preload", "names.preload",
           "Instead of a COMMAND: import this Python application once, and fork a copy "
           "for each connection."),
)
ZYGOTE_ONLY = (
    Option("--socket", "PATH", None, None, "socket", "names.socket",
           "Serve requests on this Unix socket (what systemd hands over)."),
    Option("--allow-uid", "UIDS", None, (), "allowed_uids", "units.uids",
           "Serve these users too, not only our own and root; repeatable.", True),
)
HELP = (
    Option("--help", "", None, False, "", "", "Print this text and exit."),
    Option("--version", "", None, False, "", "", "Print the version and exit."),
)
# fmt: on
BRIDGE = BRIDGE_ONLY + SHARED + HELP
SERVER = SERVER_ONLY + SHARED + HELP
_OF_ZYGOTE = ("socket_mode", "kill_grace", "pass_env", "env", "env_file", "directory")
ZYGOTE = (
    *ZYGOTE_ONLY,
    *(option for option in SERVER_ONLY + SHARED if option.field in _OF_ZYGOTE),
    *HELP,
)
PURPOSE = {
    "chimirror-bridge": "Serve the one WebSocket connection that it is handed "
    "with a fresh COMMAND.",
    "chimirror-server": "Serve every WebSocket connection with a fresh COMMAND.",
    "chimirror-zygote": "Start a COMMAND, or fork a copy of a Python function that was "
    "imported before, for every local client that asks.",
}


class Config:
    """What a command line asks for, checked; times are seconds, None is off."""

    command: tuple[str, ...]
    framings: tuple[str, ...]
    stderr: str | None  # None: by framing
    subprotocols: dict[str, str]
    direction: str  # as the client sees it
    control: bool  # the application has a control channel
    hosts: tuple[str, ...]
    origins: tuple[str, ...]
    trusted_proxies: tuple[str, ...]
    proxy_protocol: bool
    max_message: int
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
    apps: str | None  # a directory; then there is no command
    console: bool
    max_sessions: int | None
    # The bridge's.
    user_range: tuple[int, int] | None
    # The server's; the bridge has its defaults.
    listen: tuple[str, ...]  # (): what systemd hands over, else DEFAULT_LISTEN
    socket_mode: int
    workers: int | None
    drain_timeout: float
    max_sessions_per_source: int | None
    max_rate: float | None
    preload: str | None  # MODULE:FUNCTION; then there is no command
    # The zygote's.
    socket: str | None  # None: what systemd hands over
    allowed_uids: tuple[int, ...]

    __slots__ = tuple(__annotations__)

    def __init__(self, **fields: object) -> None:
        for name in self.__slots__:
            object.__setattr__(self, name, fields[name])

    def __setattr__(self, name: str, value: object = None) -> NoReturn:
        raise AttributeError(f"a Config cannot be changed ({name})")

    __delattr__ = __setattr__


def bridge(argv: Sequence[str]) -> Config:
    """The configuration of chimirror-bridge.

    Args:
        argv: The command line without the name of the program.

    Raises:
        UsageError: Print it on standard error and exit with its status.
        SystemExit: Help or version was asked for and is printed.
    """
    return _config("chimirror-bridge", BRIDGE, argv)


def server(argv: Sequence[str]) -> Config:
    """The configuration of chimirror-server, as bridge()."""
    return _config("chimirror-server", SERVER, argv)


def zygote(argv: Sequence[str]) -> Config:
    """The configuration of chimirror-zygote, as bridge()."""
    return _config("chimirror-zygote", ZYGOTE, argv)


def _config(program: str, table: Sequence[Option], argv: Sequence[str]) -> Config:
    try:
        command, given = scan(table, argv)
        fields: dict[str, object] = {"command": command}
        for option in BRIDGE_ONLY + SERVER_ONLY + SHARED + ZYGOTE_ONLY:
            fields[option.field] = _value(option, given.get(option.name))
        if table is ZYGOTE and argv[len(argv) - len(command) - 1] != "--":
            fields |= _preloaded(command)
        return Config(**combined(fields))
    except Unusual as unusual:
        raise UsageError(program, _judge(program, table, argv, unusual)) from None
    except ValueError as error:
        raise UsageError(program, str(error)) from None


class Unusual(Exception):
    """A command line that the scanner leaves to docopt."""

    def __init__(self, text: str, unknown: str = "") -> None:
        super().__init__(text)
        self.unknown = unknown


def scan(
    table: Sequence[Option], argv: Sequence[str]
) -> tuple[tuple[str, ...], dict[str, list[str]]]:
    """The command, and the texts of each option that was given.

    Raises:
        Unusual: Help, version, or an error, which it describes.
    """
    known = {option.name: option for option in table}
    given: dict[str, list[str]] = {}
    position = 0
    while position < len(argv) and argv[position][:1] == "-" != argv[position]:
        token = argv[position]
        position += 1
        if token == "--":
            break
        name, equals, text = token.partition("=")
        option = known.get(name)
        if option is None or not option.field:
            raise Unusual(f"{name} is not an option", name)
        if not option.metavar:
            if equals:
                raise Unusual(f"{name} takes no value")
        elif not equals:
            if position == len(argv) or argv[position] == "--":
                raise Unusual(f"{name} needs a value; write {name} {option.metavar}")
            text = argv[position]
            position += 1
        if name in given and not option.repeats:
            raise Unusual(f"{name} is given twice; give it once")
        given.setdefault(name, []).append(text)
    instead = [name for name in ("--preload", "--apps") if name in given]
    return _command(argv[position:], instead), given


def _command(rest: Sequence[str], instead: Sequence[str]) -> tuple[str, ...]:
    """What follows the options."""
    if instead and (rest or instead[1:]):
        other = instead[1] if instead[1:] else "a COMMAND"
        raise Unusual(f"{instead[0]} comes instead of {other}; leave one of them out")
    if not instead and not (rest and rest[0]):
        raise Unusual("no COMMAND; name the program to start for each connection")
    return tuple(rest)


def _judge(
    program: str, table: Sequence[Option], argv: Sequence[str], unusual: Unusual
) -> str:
    """The text of the error, unless docopt prints help or version and exits."""
    from chimirror import __version__, usage

    text = usage.render(program, PURPOSE[program], table)
    usage.parse(text, argv, f"{program} {__version__}")
    # What docopt accepts all the same was an abbreviation: not with us.
    if not unusual.unknown:
        return str(unusual)
    return f"{unusual}; {usage.suggestion(unusual.unknown, table)}"


def _value(option: Option, texts: list[str] | None) -> object:
    if texts is None:
        return option.value
    if not option.metavar:
        return True
    try:
        return option.parse(texts if option.repeats else texts[0])
    except ValueError as error:
        raise ValueError(f"{option.name}: {error}") from None


def _preloaded(command: tuple[str, ...]) -> dict[str, object]:
    """What follows the options of a zygote without `--`: MODULE:FUNCTION."""
    from chimirror import names

    if len(command) > 1:
        raise ValueError(f"write -- before a COMMAND: -- {' '.join(command)}")
    return {"preload": names.preload(command[0]), "command": ()}


def combined(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """The fields of a Config, where one option bears on another."""
    used = (*fields["framings"], *fields["subprotocols"].values())
    mute = [name for name in used if name in ("lines", "lsp")]
    if fields["stderr"] == "client" and mute:
        raise ValueError(
            f"--stderr: {mute[0]} has no place for standard error; write log or discard"
        )
    if fields["stderr"] == "client" and fields["direction"] == "send":
        raise ValueError(
            "--stderr: a client that only sends is told nothing; write log or discard"
        )
    if fields["pty"]:
        _suit_terminal(fields, mute)
    # A variable on the command line is the more particular one.
    return {**fields, "env": {**fields["env_file"], **fields["env"]}}


def _suit_terminal(fields: Mapping[str, Any], mute: Sequence[str]) -> None:
    """A terminal is one stream of bytes each way."""
    if mute:
        raise ValueError(f"--pty: {mute[0]} has no place for what a terminal shows")
    if fields["stderr"] in ("log", "discard"):
        raise ValueError(
            "--pty: a terminal shows standard error with the rest; leave --stderr out"
        )
    if fields["direction"] != "both":
        raise ValueError("--pty: a terminal goes both ways; leave --direction out")
