"""Verifies JSON Web Tokens (RFC 7519), which an OpenID provider signs. Uses PyJWT.

The header of a token chooses nothing that the key set does not allow (RFC 8725). The
algorithm has to be one of the key, and all of those are asymmetric.
"""

from __future__ import annotations

import time

import jwt
from jwt import exceptions

from chimirror.access import (
    ALLOWED,
    FAILED,
    MAX_GROUPS,
    Answer,
    Identity,
    is_valid_name,
)
from chimirror.authorize.credentials import (
    bad_token,
    bearer,
    forbidden,
)
from chimirror.authorize.key_set import ASYMMETRIC
from chimirror.authorize.messages import FileFault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from chimirror.authorize import LoginAttempt
    from chimirror.authorize.key_set import KeySource

LEEWAY = 10  # seconds between the clocks of the provider and of this machine
AUTH_TYPE = "Bearer"
# Errors of a token, the first one that fits, and the texts for the client.
TEXTS: tuple[tuple[type[Exception], str], ...] = (
    (exceptions.ExpiredSignatureError, "this token has expired"),
    (exceptions.ImmatureSignatureError, "this token is not valid yet"),
    (exceptions.InvalidIssuedAtError, "this token is not valid yet"),
    (exceptions.InvalidAudienceError, "this token is for another audience"),
    (exceptions.InvalidIssuerError, "this token is of another issuer"),
    (exceptions.MissingRequiredClaimError, "this token lacks exp, iss or aud"),
    (exceptions.InvalidSignatureError, "the signature of this token is wrong"),
    (exceptions.InvalidKeyError, "the key of this token is not known"),
    (exceptions.InvalidAlgorithmError, "the algorithm of this token is not allowed"),
    (exceptions.PyJWTError, "this is no valid token"),
    # Of a token that is not even JSON, or nested without an end.
    (ValueError, "this is no valid token"),
    (TypeError, "this is no valid token"),
    (OverflowError, "this is no valid token"),
    (RecursionError, "this is no valid token"),
)


class JsonWebTokenVerifier:
    """Verifies Bearer credentials, or a cookie that holds a token.

    Args:
        keys: The keys of the provider.
        issuer, audience: What the claims `iss` and `aud` have to name.
        user_claim: The claim that names the user.
        groups_claim: The claim that lists the groups. After a dot follows the name of a
            member.
        max_age: Seconds for which a yes holds.
        cookie: The name of the cookie, "" for none.
    """

    threads = 32  # of which some may wait for a URL

    def __init__(
        self,
        keys: KeySource,
        issuer: str,
        audience: str,
        *,
        user_claim: str = "sub",
        groups_claim: str = "groups",
        max_age: float = 0.0,
        cookie: str = "",
    ) -> None:
        self._keys = keys
        self._issuer = issuer
        self._audience = audience
        self._user_claim = user_claim
        self._groups_claim = groups_claim
        self._max_age = max_age
        self._cookie = cookie
        self._jwt = jwt.PyJWT({"enforce_minimum_key_length": True})

    def verify(self, attempt: LoginAttempt) -> Answer:
        """Decide on one attempt."""
        text = bearer(attempt, self._cookie)
        if isinstance(text, Answer):
            return text
        try:
            claims = self._decode(text)
        except FileFault:
            return Answer(FAILED, text="the keys of the issuer cannot be fetched")
        except tuple(kind for kind, _ in TEXTS) as error:
            return bad_token(
                next(text for kind, text in TEXTS if isinstance(error, kind))
            )
        user = claims.get(self._user_claim)
        if not isinstance(user, str) or not is_valid_name(user):
            return forbidden(f"{self._user_claim} of this token is no name of a user")
        identity = Identity(user, AUTH_TYPE, self._groups(claims))
        left = float(claims["exp"]) - time.time()
        return Answer(ALLOWED, identity, max_age=max(0.0, min(self._max_age, left)))

    def _decode(self, text: str) -> dict[str, Any]:
        """Return the claims of a token. Raises one of TEXTS, or FileFault."""
        header = jwt.get_unverified_header(text)
        name = header.get("alg")
        if name not in ASYMMETRIC:
            raise exceptions.InvalidAlgorithmError
        number = header.get("kid")
        keys = self._candidates(self._keys.get(), number, name)
        keys = keys or self._candidates(self._keys.get_newest(), number, name)
        fault: Exception = exceptions.InvalidKeyError()
        for key in keys:
            try:
                return self._jwt.decode(
                    text,
                    key,
                    algorithms=[name],
                    issuer=self._issuer,
                    audience=self._audience,
                    leeway=LEEWAY,
                    options={"require": ["exp", "iss", "aud"]},
                )
            except exceptions.InvalidSignatureError as error:
                fault = error  # of several keys without a kid, another one may fit
        raise fault

    @staticmethod
    def _candidates(keys: Any, number: object, name: str) -> list[Any]:
        return [
            key.by_algorithm[name]
            for key in keys
            if name in key.by_algorithm and (number is None or key.id == number)
        ]

    def _groups(self, claims: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the groups that have a usable name. A missing group denies only."""
        found: Any = claims.get(self._groups_claim)
        if found is None:
            found = claims
            for name in self._groups_claim.split("."):
                found = found.get(name) if isinstance(found, dict) else None
        names = found if isinstance(found, list) else []
        return tuple(name for name in names if is_valid_name(name))[:MAX_GROUPS]
