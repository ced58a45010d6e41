"""Parts that the programs that serve share: catalog, signals, failures of the start.

Layer: above config, apps and io, below bridge, server and zygote. Knows no session and
no process. Exit statuses are those of sysexits(3).
"""

from __future__ import annotations

from chimirror.apps import SingleApplication, inherited_variables
from chimirror.builtin_modules import environ_dict, os, signal
from chimirror.config import Config
from chimirror.config.parser import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import NoReturn

    from chimirror.access.access_control import AccessControl
    from chimirror.access.authorizer import AuthorizerHost
    from chimirror.access.endpoint import Endpoint
    from chimirror.apps import Catalog
    from chimirror.tls.certificates import Certificates


CREDENTIALS = "CREDENTIALS_DIRECTORY"  # systemd.exec(5)
TLS_CREDENTIALS = ("tls-cert", "tls-key", "tls-client-ca")


def with_credentials(
    program: str, config: Config, environment: Mapping[str, str]
) -> Config:
    """Return the configuration with the certificates that systemd passes.

    Options come before credentials.

    Raises:
        UsageError: An option needs what clients are not asked for.
    """
    config = _add_credentials(config, environment)
    try:
        check_clients(config)
    except ValueError as error:
        raise UsageError(program, str(error)) from None
    return config


def check_clients(config: Config) -> None:
    """Check that clients are asked for what options need: a certificate, a name.

    A file of an application can be read without the options of its server, so these
    checks are no part of reading it.

    Raises:
        ValueError: They are not. The text begins with an option.
    """
    for option, value in (
        ("--tls-client", config.tls_client),
        ("--user-certificate", config.user_certificate),
    ):
        if value is not None and not config.tls_client_ca:
            raise ValueError(
                f"{option}: clients are asked for no certificate; add --tls-client-ca"
            )
    for option, names in (("--users", config.users), ("--groups", config.groups)):
        if names and not config.sources:
            raise ValueError(
                f"{option}: no source tells who a client is; add one, such as "
                "--authorize"
            )
    _check_local_users(config)


def _check_local_users(config: Config) -> None:
    """Refuse to know local users where each peer on a Unix socket is a proxy."""
    if not (config.allowed_uids or config.allowed_gids):
        return
    option = "--allow-uid" if config.allowed_uids else "--allow-gid"
    for is_given, other in (
        (config.proxy_protocol, "--proxy-protocol"),
        ("unix" in config.trusted_proxies, "--trusted-proxy unix"),
    ):
        if is_given:
            raise ValueError(
                f"{option}: {other} makes every peer on a Unix socket a proxy, whose "
                "user says nothing of the client; leave one of them out"
            )


def _add_credentials(config: Config, environment: Mapping[str, str]) -> Config:
    directory = environment.get(CREDENTIALS)
    if not directory or config.tls_certs:
        return config
    certificate, key, client_ca = [f"{directory}/{name}" for name in TLS_CREDENTIALS]
    if not os.access(certificate, os.F_OK):
        return config
    fields = {name: getattr(config, name) for name in Config.__slots__}
    fields["tls_certs"] = (certificate,)
    fields["tls_keys"] = (key,) if os.access(key, os.F_OK) else ()
    if os.access(client_ca, os.F_OK):
        fields["tls_client_ca"] = client_ca
    return Config(**fields)


def open_certificates(config: Config) -> Certificates | None:
    """Load the certificates. Returns None without TLS.

    Raises:
        CertificateError: They cannot be used.
    """
    if not config.tls_certs:
        return None
    from chimirror.tls.certificates import CertificateFiles, Certificates

    keys = config.tls_keys or config.tls_certs
    return Certificates(
        [*map(CertificateFiles, config.tls_certs, keys)],
        config.tls_client_ca or "",
        requires_client=config.tls_client != "optional",
    )


def find_authorizer(
    program: str, config: Config, environment: Mapping[str, str]
) -> Endpoint | None:
    """Find the authorizer of the command line. Returns None without one.

    Raises:
        UsageError: There is no such host or command.
    """
    if config.authorize is None:
        return None
    from chimirror.access.endpoint import EndpointError, find_endpoint

    try:
        return find_endpoint(config.authorize, environment.get("PATH"))
    except EndpointError as error:
        raise UsageError(program, str(error)) from None


def open_access(
    config: Config,
    host: AuthorizerHost,
    endpoint: Endpoint | None,
    environment: Mapping[str, str],
) -> AccessControl | None:
    """Set up the sources that tell who a client is. Returns None without any.

    Args:
        host: the context of the sessions of this process.
        endpoint: what `find_authorizer` returned.
        environment: of this process. An authorizer that it starts inherits from it
            what an application inherits.
    """
    if not config.sources:
        return None
    from chimirror.access.factory import make_access_control

    variables = inherited_variables(environment, config)
    return make_access_control(config, host, endpoint, variables)


def is_systemd_unit() -> bool:
    """Return True if systemd started this process itself, not an ancestor of it."""
    return environ_dict().get("SYSTEMD_EXEC_PID") == str(os.getpid())


def change_directory(config: Config) -> None:
    """Change to the application's directory, or check that of application files.

    Raises:
        OSError: There is no such directory.
    """
    if config.apps is not None:
        os.stat(f"{config.apps}/.")
    elif config.directory is not None:
        os.chdir(config.directory)


def open_catalog(
    config: Config,
    inherited: Mapping[str, str],
    check: Callable[[Config], None] = lambda _: None,
) -> Catalog:
    """Open the applications that the command line names.

    Args:
        config: the command line.
        inherited: the environment of this process.
        check: raises ValueError for options that cannot be met. Called with those of
            each application file.
    """
    if config.apps is None:
        return SingleApplication(config, inherited)
    from chimirror.apps.directory import ApplicationDirectory

    def check_all(config: Config) -> None:
        check_clients(config)
        check(config)

    return ApplicationDirectory(config.apps, config, inherited, check_all)


def check_programs(config: Config, inherited: Mapping[str, str]) -> None:
    """Check that applications can be started. Prints a warning for each bad file.

    Raises:
        ProgramFault: The COMMAND cannot be started.
    """
    from chimirror.apps import program_check
    from chimirror.log.stderr import WARNING, report

    path = inherited.get("PATH")
    for app in open_catalog(config, inherited).all():
        if app.unavailable is not None:
            text = app.unavailable.get("detail")  # none: it has just been removed
        else:
            fault = program_check.find_fault(app, path)
            if config.apps is None and fault is not None:
                raise fault
            text = fault and f"{app.name}.toml: {fault}"
        if text:
            report(f"warning: {config.apps}/{text}", WARNING)


def termination_signals() -> list[int]:
    """List the signals that end the program.

    A signal that the parent process has set to be ignored is not among them, as with
    nohup(1) or the shell's `&`.
    """
    usual = (signal.SIGINT, signal.SIGHUP)
    wanted = [number for number in usual if signal.getsignal(number) != signal.SIG_IGN]
    return [signal.SIGTERM, *wanted]


def describe_os_error(error: OSError) -> tuple[str, int]:
    """Describe a failed system call of the start: one line, and an exit status."""
    if error.filename is None:
        return error.strerror or str(error), os.EX_OSERR
    return f"{error.filename}: {error.strerror}", os.EX_UNAVAILABLE


def describe_stop(verb: str, count: int, noun: str, timeout: float | None) -> str:
    """Describe the effect of a stop signal, in one line for the log.

    Args:
        verb: what happens to them after the first signal.
        count: how many are still there.
        noun: what is counted, in the singular.
        timeout: seconds until they are ended. None for a second signal.
    """
    from chimirror.text import counted

    things = counted(count, noun)
    if timeout is None:
        return f"ending {things} now"
    if not count:
        return f"stopping: {things}"
    return f"{verb}: {things}, at most {timeout:g} s; again to end them now"


def fail(text: str, status: int) -> NoReturn:
    """Print why the program does not start on standard error, and exit."""
    from chimirror.log.stderr import ERROR, report

    report(text, ERROR)
    raise SystemExit(status)


def fail_with(program: str, error: Exception, status: int) -> NoReturn:
    """Print an expected failure of the start on standard error, and exit.

    Args:
        program: The name of the program.
        error: The failure. A UsageError and an OSError have exit statuses of their own.
        status: The exit status for any other failure.
    """
    if isinstance(error, UsageError):
        fail(str(error), error.status)
    text = str(error)
    if isinstance(error, OSError):
        text, status = describe_os_error(error)
    fail(f"{program}: {text}", status)
