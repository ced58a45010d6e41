"""Reads the command lines of all programs: strict options, one frozen Config.

`scan` reads a command line by the rows of an option table. It refuses abbreviated
options, repeated options and options without their value. The programs that serve load
nothing else for a good command line. Help, version and errors go to docopt-ng, which is
the authority on the usage text that `config.usage` writes from the same table. A test
holds the scanner equal to docopt. Two readers, because docopt takes 21 ms to import,
twice the start of a bare interpreter.

Opens, starts and connects nothing, except that it reads the files of --env-file.
"""

from __future__ import annotations

from chimirror.config import Config
from chimirror.config.options import (
    BRIDGE,
    EX_USAGE,
    OPTIONS,
    PURPOSE,
    SERVER,
    SHORT,
    ZYGOTE,
    Option,
    options_of,
)
from chimirror.framing.registry import FRAMINGS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

    from chimirror.config.user_account import UserAccount

    Words = tuple[str, ...]
    Given = dict[str, list[str]]


# Options that tell who a client is, or need that.
_IDENTITY = (
    *("user_header", "groups_header", "user_certificate", "allowed_uids"),
    *("allowed_gids", "authorize", "required", "allow_anonymous"),
)


class UsageError(Exception):
    """A command line that cannot be used.

    str() is the text to print, with the usage line.
    """

    status = EX_USAGE

    def __init__(self, program: str, text: str) -> None:
        super().__init__(program, text)
        self.program = program
        self.text = text

    def __str__(self) -> str:
        from chimirror.config import usage

        line = usage.synopsis(self.program)
        return f"{self.program}: {self.text}\nUsage: {line}"


def parse_bridge(argv: Sequence[str]) -> Config:
    """Read the command line of chimirror-bridge.

    Args:
        argv: The command line without the name of the program.

    Raises:
        UsageError: Print it on standard error and exit with its status.
        SystemExit: Help or version was asked for and has been printed.
    """
    return _parse("chimirror-bridge", BRIDGE, argv)


def parse_server(
    argv: Sequence[str], describe: Callable[[], str] | None = None
) -> Config:
    """Read the command line of chimirror-server, as parse_bridge does.

    Args:
        argv: The command line without the name of the program.
        describe: Returns further lines for the version.
    """
    return _parse("chimirror-server", SERVER, argv, describe)


def parse_zygote(argv: Sequence[str]) -> Config:
    """Read the command line of chimirror-zygote, as parse_bridge does."""
    return _parse("chimirror-zygote", ZYGOTE, argv)


def _parse(
    program: str,
    scope: int,
    argv: Sequence[str],
    describe: Callable[[], str] | None = None,
) -> Config:
    table = options_of(scope)
    try:
        command, given = scan_program(table, argv)
        fields: dict[str, object] = {"command": command, "preset": {}}
        for option in OPTIONS:
            fields[option.field] = _value(option, given.get(option.name))
        if "--protocol" in given:
            fields |= _preset(given)
        if fields["metrics"] or fields["agent"]:
            _check_addresses(fields)
        if scope == ZYGOTE and argv[len(argv) - len(command) - 1] != "--":
            fields |= _preloaded(command)
        return Config(**check_combination(fields))
    except ScanError as error:
        _print_help(program, table, argv, describe)
        raise UsageError(program, explain(error, table)) from None
    except ValueError as error:
        raise UsageError(program, str(error)) from None


def _check_addresses(fields: Mapping[str, Any]) -> None:
    from chimirror.config import listen_syntax

    given = [("--listen", text) for text in fields["listen"]]
    given += [("--metrics", fields["metrics"]), ("--agent", fields["agent"])]
    listen_syntax.check_apart(given)


class ScanError(Exception):
    """A command line that the scanner refuses.

    Attributes:
        unknown: The option that is not in the table, or empty.
    """

    def __init__(self, text: str, unknown: str = "") -> None:
        super().__init__(text)
        self.unknown = unknown


def scan(
    table: Iterable[Option],
    argv: Sequence[str],
    *,
    options_first: bool = True,
    short: Mapping[str, str] | None = None,
) -> tuple[Words, Given]:
    """Split a command line into words and options.

    Args:
        table: The options that the program takes.
        argv: The command line without the name of the program.
        options_first: The first word ends the options. Otherwise options and words may
            be mixed, and only `--` ends the options.
        short: Short names and the names that they stand for.

    Returns:
        The words without the first `--`, and the texts of each option that was given.
        The text of a flag is empty.

    Raises:
        ScanError: An option is unknown, abbreviated, repeated, or lacks its value.
    """
    known = {option.name: option for option in table}
    words: list[str] = []
    given: Given = {}
    rest = iter(argv)
    for token in rest:
        if token == "--":
            words += rest
        elif token[:1] != "-" or token == "-":
            words.append(token)
            if options_first:
                words += rest
        else:
            name, equals, text = token.partition("=")
            name = short.get(name, name) if short else name
            option = known.get(name)
            if option is None:
                raise ScanError(f"{name} is not an option", name)
            if name in given and not option.repeats:
                raise ScanError(f"{name} is given twice; give it once")
            if option.metavar and not equals:
                text = next(rest, "--")
                if text == "--":
                    hint = f"write {name} {option.metavar}"
                    raise ScanError(f"{name} needs a value; {hint}")
            elif equals and not option.metavar:
                raise ScanError(f"{name} takes no value")
            given.setdefault(name, []).append(text)
    return tuple(words), given


def scan_program(table: Iterable[Option], argv: Sequence[str]) -> tuple[Words, Given]:
    """Scan the command line of a program that serves, which has to name a COMMAND.

    Raises:
        ScanError: The command line is wrong, or asks for help or the version.
    """
    command, given = scan(table, argv, short=SHORT)
    for name in ("--help", "--version"):
        if name in given:
            raise ScanError(f"{name} has to stand alone")
    instead = [name for name in ("--preload", "--apps") if name in given]
    if instead and (command or instead[1:]):
        other = instead[1] if instead[1:] else "a COMMAND"
        raise ScanError(f"{instead[0]} comes instead of {other}; leave one of them out")
    if not instead and not (command and command[0]):
        raise ScanError("no COMMAND; name the program to start for each connection")
    return command, given


def explain(error: ScanError, table: Iterable[Option]) -> str:
    """Describe the error, with a suggestion if the option is unknown."""
    if not error.unknown:
        return str(error)
    from chimirror.config import usage

    return f"{error}; {usage.suggest(error.unknown, table)}"


def _print_help(
    program: str,
    table: Sequence[Option],
    argv: Sequence[str],
    describe: Callable[[], str] | None,
) -> None:
    """Let docopt print help or version and exit, if the command line asks for it.

    If docopt accepts a command line that the scanner refuses, then an option is
    abbreviated. The caller refuses it.
    """
    from chimirror import __version__
    from chimirror.config import usage

    notes: Sequence[str] = ()
    if any(option.field == "protocol" for option in table):
        from chimirror.config import presets

        notes = presets.describe()
    text = usage.render(program, PURPOSE[program], table, notes)
    version = f"{program} {__version__}"
    if describe is not None and "--version" in argv:
        version += f"\n{describe()}"
    usage.parse(text, argv, version)


def _value(option: Option, texts: list[str] | None) -> object:
    if texts is None:
        return option.value
    if not option.metavar:
        return True
    try:
        return option.parse(texts if option.repeats else texts[0])
    except ValueError as error:
        raise ValueError(f"{option.name}: {error}") from None


def _preset(given: Given) -> dict[str, object]:
    """Read the options that --protocol stands for, except those that are given."""
    from chimirror.config import presets

    names = {name.removeprefix("--") for name in given}
    preset = presets.expand(given["--protocol"][0], names)
    return {**presets.read(preset), "preset": preset}


def _preloaded(command: tuple[str, ...]) -> dict[str, object]:
    """Read MODULE:FUNCTION, the words of a zygote's command line without `--`."""
    from chimirror.config import values

    if len(command) > 1:
        raise ValueError(f"write -- before a COMMAND: -- {' '.join(command)}")
    return {"preload": values.preload(command[0]), "command": ()}


def check_combination(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """Check the options that depend on each other, and merge the variables.

    Args:
        fields: The attributes of a Config, and `env_file`. `user` may be a name.

    Returns:
        The fields with the variables of `env_file` in `env`, and the account of `user`.

    Raises:
        ValueError: Two options exclude each other. The text says which, and what to
            write.
    """
    used = (*fields["framings"], *fields["subprotocols"].values())
    mute = [name for name in used if not FRAMINGS[name].has_stderr]
    if fields["stderr"] == "client" and mute:
        raise ValueError(
            f"--stderr: {mute[0]} has no place for standard error; write log or discard"
        )
    if fields["stderr"] == "client" and fields["direction"] == "send":
        raise ValueError(
            "--stderr: a client that only sends is told nothing; write log or discard"
        )
    if fields["read_only"] and fields["direction"] == "send":
        raise ValueError(
            "--read-only: --direction send gives a client nothing to read; leave one "
            "of them out"
        )
    if fields["pty"]:
        _suit_terminal(fields, mute)
    if fields["tls_keys"] or fields["tls_client_ca"]:
        _check_tls(fields)
    if any(fields[name] for name in _IDENTITY):
        from chimirror.config import identity

        identity.check_combination(fields)
    if fields["spares"]:
        _suit_spares(fields["pass_env"])
    if fields["session_cgroup"] == "off":
        _refuse_limits(fields)
    user = fields["user"]
    if user is not None:
        user = _find_user(user, fields)
    # A variable on the command line overrides one in a file.
    variables = {**fields["env_file"], **fields["env"]}
    return {**fields, "env": variables, "user": user}


def _find_user(user: str | UserAccount, fields: Mapping[str, Any]) -> UserAccount:
    """Find the user of an application, unless it is that of the command line."""
    if fields["user_range"] is not None:
        raise ValueError(
            "--user: --user-range gives each session a user; leave one of them out"
        )
    if not isinstance(user, str):
        return user
    from chimirror.config import user_account

    try:
        return user_account.find(user)
    except ValueError as error:
        raise ValueError(f"--user: {error}") from None


def _refuse_limits(fields: Mapping[str, Any]) -> None:
    """Refuse limits of sessions that have no cgroup."""
    for name in ("session_memory_max", "session_tasks_max", "session_cpu_weight"):
        if fields[name] is not None:
            option = f"--{name.replace('_', '-')}"
            raise ValueError(
                f"{option}: a cgroup enforces it; leave --session-cgroup off out"
            )


def _check_tls(fields: Mapping[str, Any]) -> None:
    """Check the options that need a certificate of the server, or of clients."""
    keys, certificates = len(fields["tls_keys"]), len(fields["tls_certs"])
    if not certificates:
        option = "--tls-key" if keys else "--tls-client-ca"
        raise ValueError(f"{option}: there is no certificate; add --tls-cert")
    if keys not in (0, certificates):
        raise ValueError(
            f"--tls-key: each --tls-cert needs one; {certificates} of those are given, "
            f"and {keys} of these"
        )


def _suit_spares(names: Sequence[str]) -> None:
    """Check the variables to pass on for processes that start before a request."""
    from chimirror.protocol.cgi import is_request_variable

    for name in names:
        if is_request_variable(name):
            raise ValueError(
                f'--pass-env: "{name}" belongs to a request, and spares start before '
                "it; leave it out, or write --spares 0"
            )


def _suit_terminal(fields: Mapping[str, Any], mute: Sequence[str]) -> None:
    """Check the options for a terminal, which is one stream of bytes each way."""
    if mute:
        raise ValueError(f"--pty: {mute[0]} has no place for what a terminal shows")
    if fields["stderr"] in ("log", "discard"):
        raise ValueError(
            "--pty: a terminal shows standard error with the rest; leave --stderr out"
        )
    if fields["direction"] != "both":
        raise ValueError(
            "--pty: a terminal goes both ways; leave --direction out, or write "
            "--read-only in its place"
        )
