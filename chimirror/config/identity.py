"""Reads the options that tell who a client is, and checks them together.

Loaded only where one of them is given.
"""

from __future__ import annotations

from chimirror.config import identity_sources, values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

PARTS = ("subject", "cn", "email", "dns", "uri")
SOURCES = {
    "proxy": "--user-header",
    "certificate": "--user-certificate",
    "local": "--allow-uid",
    "authorizer": "--authorize",
}
_RESERVED = frozenset("authorization connection cookie host origin upgrade".split())
_MAX_HEADER = 64  # characters


def header(text: str) -> str:
    """Read the name of a field of requests. Proxies drop or confuse names with _."""
    is_name = values.is_token(text) and "_" not in text
    if not 0 < len(text) <= _MAX_HEADER or not is_name:
        raise ValueError(f'"{text}" is not the name of a field; write Remote-User')
    if text.lower() in _RESERVED or text.lower().startswith("sec-"):
        raise ValueError(f'"{text}" has a meaning of its own; write Remote-User')
    return text


def user_certificate(text: str) -> str:
    """Read the part of a certificate that names the user."""
    return values.one_of(PARTS, text)


def sources(text: str) -> tuple[str, ...]:
    """Read names of sources, from ``certificate,authorizer``."""
    names = tuple(text.split(","))
    for name in names:
        if name not in SOURCES:
            raise ValueError(
                f'"{name}" is no source; write {values.choice((*SOURCES,))}'
            )
        if names.count(name) > 1:
            raise ValueError(f'"{name}" is named twice; name each source once')
    return names


def names(text: str) -> tuple[str, ...]:
    """Read names of users or groups, from ``ann,bob``."""
    found = tuple([name.strip() for name in text.split(",")])
    if "" in found or not text.isprintable():
        raise ValueError(f'"{text}" is no list of names; write ann,bob')
    return found


def check_combination(fields: Mapping[str, Any]) -> None:
    """Check the options of this module together.

    Raises:
        ValueError: One needs another. The text begins with an option.
    """
    known = identity_sources(
        fields["user_header"],
        fields["user_certificate"],
        fields["allowed_uids"] or fields["allowed_gids"],
        fields["authorize"],
    )
    if fields["user_header"] and not fields["trusted_proxies"]:
        raise ValueError(
            "--user-header: a client could set it; name the proxy by --trusted-proxy"
        )
    if fields["groups_header"] and not fields["user_header"]:
        raise ValueError("--groups-header: there is no user; add --user-header")
    if fields["allow_anonymous"] and not known:
        raise ValueError(
            "--allow-anonymous: no source tells who a client is; add one, such as "
            "--authorize"
        )
    for name in fields["required"]:
        if name not in known:
            raise ValueError(f"--require: {name} is not set up; add {SOURCES[name]}")
    for name in known:
        if fields["required"] and name not in fields["required"]:
            raise ValueError(
                f"--require: {name} is left out; name it too, or leave {SOURCES[name]} "
                "out"
            )
    if known and fields["spares"] and not fields["control"]:
        raise ValueError(
            "--spares: a spare starts before its user is known, and only --control "
            "tells it; add that, or write --spares 0"
        )
