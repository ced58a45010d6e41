"""Reads what a client sends to log in: Basic (RFC 7617), Bearer (RFC 6750), a cookie.

Also writes the answers that ask for it. Knows no password and no token.
"""

from __future__ import annotations

import base64
import re

from chimirror.access import FORBIDDEN, UNKNOWN, Answer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.authorize import LoginAttempt

BASIC_CHALLENGE = 'Basic realm="chimirror", charset="UTF-8"'
BEARER_CHALLENGE = 'Bearer realm="chimirror"'
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_BEARER = re.compile(r"[A-Za-z0-9._~+/-]+=*", re.ASCII)


class MalformedCredentials(Exception):
    """An Authorization field that cannot be read. str() is for the client."""


def basic(attempt: LoginAttempt) -> tuple[str, str] | None:
    """Return the user and the password, None without a Basic field.

    Old clients send Latin-1 where UTF-8 is asked for.

    Raises:
        MalformedCredentials: The field is no Basic credentials.
    """
    rest = _of_scheme(attempt.authorization, "basic")
    if rest is None:
        return None
    try:
        data = base64.b64decode(rest, validate=True)
    except ValueError:
        raise MalformedCredentials("the Basic credentials are not base64") from None
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    user, colon, password = text.partition(":")
    if not colon or _CONTROL.search(text):
        raise MalformedCredentials("the Basic credentials are not USER:PASSWORD")
    return user, password


def token(attempt: LoginAttempt, cookie: str) -> str:
    """Return the token of a client, "" without one.

    Args:
        attempt: The question.
        cookie: The name of a cookie that holds a token instead, "" for none.

    Raises:
        MalformedCredentials: The Bearer field holds no token.
    """
    rest = _of_scheme(attempt.authorization, "bearer")
    if rest is None:
        return _cookie(attempt.cookie, cookie) if cookie else ""
    if not _BEARER.fullmatch(rest):
        raise MalformedCredentials("the Bearer credentials are not a token")
    return rest


def login(attempt: LoginAttempt) -> tuple[str, str] | Answer:
    """Return the user and the password, or the answer that asks for them."""
    try:
        found = basic(attempt)
    except MalformedCredentials as error:
        return unknown(BASIC_CHALLENGE, str(error))
    if found is None:
        return unknown(BASIC_CHALLENGE, "log in with a user and a password")
    return found


def bearer(attempt: LoginAttempt, cookie: str) -> str | Answer:
    """Return the token, or the answer that asks for it. The arguments are `token`'s."""
    try:
        found = token(attempt, cookie)
    except MalformedCredentials as error:
        return bad_token(str(error))
    return found or unknown(BEARER_CHALLENGE, "log in with a token")


def _of_scheme(authorization: str, scheme: str) -> str | None:
    name, _, rest = authorization.partition(" ")
    return rest.strip(" ") if name.lower() == scheme else None


def _cookie(field: str, name: str) -> str:
    """Return the value of a cookie, "" if there is none or more than one (RFC 6265).

    Of two with the same name, another host of the same domain may have set one.
    """
    pairs = [part.strip(" \t").partition("=") for part in field.split(";")]
    values = [value.strip('"') for found, _, value in pairs if found == name]
    return values[0] if len(values) == 1 else ""


def unknown(challenge: str, text: str) -> Answer:
    """Return the answer 401, which asks the client to log in."""
    return Answer(UNKNOWN, challenges=(challenge,), text=text)


def bad_token(text: str) -> Answer:
    """Return the answer 401 for a token that is not valid, or no longer."""
    challenge = f'{BEARER_CHALLENGE}, error="invalid_token", error_description="{text}"'
    return unknown(challenge, text)


def forbidden(text: str) -> Answer:
    """Return the answer 403 for a client that is known."""
    return Answer(FORBIDDEN, text=text)
