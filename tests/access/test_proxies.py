"""Caddy and Envoy in front ask chimirror-authorize, and name the user."""

from __future__ import annotations

from pathlib import Path

import pytest

from login_proxies import Proxy, caddy, envoy
from proxied_logins import (
    KINDS,
    check_login,
    check_refusals,
    check_the_way_around,
    serving,
)

PROXIES: dict[str, Proxy] = {
    "forward_auth of Caddy": caddy,
    "ext_authz of Envoy": envoy,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", PROXIES)
def test_login(tmp_path: Path, name: str, kind: str) -> None:
    with serving(tmp_path, PROXIES[name], kind) as place:
        check_refusals(place)
        check_login(place)
        check_the_way_around(place)
