"""chimirror-authorize(1): tells servers who their clients are.

Modules:
    main, usage: the program and its command line.
    json_front, http_front: take questions, on standard input or by HTTP.
    verifier_pool: VerifierPool, answers questions in threads.
    credentials: what a client sends: Basic, Bearer, a cookie. Answers that ask for it.
    htpasswd, password_hashes: passwords of a file.
    tokens: tokens of a file, and new ones.
    json_web_tokens, key_set: tokens that a provider signs, and its keys.
    pam_accounts: passwords of this machine.
    watched_file: WatchedFile, a file that is read again when it changes.
    messages: lines on standard error.

This file holds the types that they share. Beside the servers: imports the types of
access, and no module of sessions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from chimirror.access import Answer


class LoginAttempt(NamedTuple):
    """What a question tells about a client.

    Attributes:
        authorization: the field Authorization, decoded as Latin-1. "" without one.
        cookie: the field Cookie. "" without one.
        application: the name of the requested application. "" for the list of all, and
            at a server without names. None if the question does not say.
        address: the client. "" if it is not known.
    """

    authorization: str = ""
    cookie: str = ""
    application: str | None = ""
    address: str = ""


class Verifier(Protocol):
    """Decides on login attempts.

    Attributes:
        threads: number of attempts that are worth verifying at once.
    """

    threads: int

    def verify(self, attempt: LoginAttempt) -> Answer:
        """Decide on one attempt. Called in several threads at once, and may block."""
