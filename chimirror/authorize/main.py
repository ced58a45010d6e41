"""chimirror-authorize(1): reads the command line, and serves in one of two ways.

An error of the start is printed as one line, and the exit status names its kind:
sysexits(3).
"""

from __future__ import annotations

import os
import resource
import sys

from chimirror import __version__
from chimirror.authorize import usage
from chimirror.authorize.messages import FileFault, StartError, warn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from chimirror.authorize import Verifier
    from chimirror.authorize.usage import CommandLine
    from chimirror.authorize.verifier_pool import VerifierPool
    from chimirror.io.listener import Listener


def main() -> int:
    """Run the program.

    Returns:
        The exit status: sysexits(3).
    """
    _hide_memory()
    try:
        return _run(sys.argv[1:])
    except StartError as error:
        warn(str(error))
        return error.status
    except FileFault as error:
        warn(str(error))
        return os.EX_CONFIG
    except ModuleNotFoundError as error:
        cure = "install it: pip install 'chimirror[auth]'"
        warn(f"{error.name} is missing; {cure}")
        return os.EX_UNAVAILABLE
    except KeyboardInterrupt:
        return os.EX_OK
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        warn(f"{where}{error.strerror or error}")
        return os.EX_OSERR


def _hide_memory() -> None:
    """Keep passwords out of core dumps, and out of debuggers of the same user."""
    from chimirror.process import children

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    children.set_dumpable(False)


def _run(argv: Sequence[str]) -> int:
    line = usage.parse(argv)
    if line.verb == "--help":
        return _print(usage.USAGE)
    if line.verb == "--version":
        return _print(f"chimirror-authorize {__version__}\n")
    if line.verb == "token":
        return _make_token(line)
    from chimirror.authorize.verifier_pool import VerifierPool

    pool = VerifierPool(_verifier(line))
    listeners = _listeners(line)
    return _serve_http(pool, listeners) if listeners else _serve_json(pool)


def _verifier(line: CommandLine) -> Verifier:
    if line.verb == "jwt":
        return _jwt_verifier(line)
    (path,) = line.words
    if line.verb == "pam":
        try:
            from chimirror.authorize.pam_accounts import PamVerifier
        except AttributeError:  # of pamela, without the library
            text = "libpam is missing; install it"
            raise StartError(os.EX_UNAVAILABLE, text) from None
        return PamVerifier(path, line.max_age)
    if line.verb == "htpasswd":
        from chimirror.authorize.htpasswd import HtpasswdVerifier

        return HtpasswdVerifier(path, line.max_age)
    from chimirror.authorize.tokens import TokenVerifier

    return TokenVerifier(path, line.max_age, line.cookie)


def _jwt_verifier(line: CommandLine) -> Verifier:
    from chimirror.authorize.json_web_tokens import JsonWebTokenVerifier
    from chimirror.authorize.key_set import KeyFile, KeyUrl

    return JsonWebTokenVerifier(
        (KeyUrl if line.jwks_is_url else KeyFile)(line.jwks),
        line.issuer,
        line.audience,
        user_claim=line.user_claim,
        groups_claim=line.groups_claim,
        max_age=line.max_age,
        cookie=line.cookie,
    )


def _listeners(line: CommandLine) -> list[Listener]:
    """Open the sockets of --listen, or take those that systemd passed."""
    from chimirror.io import listener

    try:
        inherited = listener.systemd_listeners(os.environ)
        if inherited and line.listen:
            raise StartError(
                os.EX_USAGE,
                "sockets came from systemd and --listen was given too: use one of them",
            )
        return inherited or listener.open_all(line.listen, line.socket_mode)
    except listener.ListenError as error:
        raise StartError(os.EX_UNAVAILABLE, str(error)) from None


def _serve_http(pool: VerifierPool, listeners: list[Listener]) -> int:
    from chimirror.authorize.http_front import HttpFront
    from chimirror.host import sd_notify

    def on_ready() -> None:
        for each in listeners:
            warn(f"listening on {each.address}")
        sd_notify.notify("READY=1")

    try:
        HttpFront(pool, listeners).serve(on_ready)
        sd_notify.notify("STOPPING=1")
    finally:
        for each in listeners:
            each.remove()
        pool.close()
    return os.EX_OK


def _serve_json(pool: VerifierPool) -> int:
    from chimirror.authorize.json_front import JsonFront, MalformedQuestion

    try:
        is_answered = JsonFront(pool, sys.stdin.buffer, 1).serve()
    except MalformedQuestion as error:
        raise StartError(os.EX_PROTOCOL, str(error)) from None
    if not is_answered:
        os._exit(os.EX_OK)  # a thread that hangs would delay the exit
    pool.close()
    return os.EX_OK


def _make_token(line: CommandLine) -> int:
    from chimirror.authorize import tokens

    path, user = line.words
    if os.path.exists(path):
        tokens.TokenVerifier(path, 0.0)  # raises FileFault
    try:
        text, entry = tokens.make_token(user, line.expires, line.applications)
    except ValueError as error:
        raise StartError(os.EX_USAGE, str(error)) from None
    tokens.append(path, entry)
    return _print(f"{text}\n")


def _print(text: str) -> int:
    try:
        os.write(1, text.encode())
    except OSError as error:
        reason = f"cannot write standard output: {error.strerror}"
        raise StartError(os.EX_OSERR, reason) from None
    return os.EX_OK


if __name__ == "__main__":
    sys.exit(main())
