"""nginx in front asks chimirror-authorize by auth_request, and names the user.

tests/access has the same for Caddy and Envoy.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from login_proxies import nginx
from proxied_logins import (
    KINDS,
    check_login,
    check_refusals,
    check_the_way_around,
    serving,
)


@pytest.mark.parametrize("kind", KINDS)
def test_auth_request_of_nginx(tmp_path: Path, kind: str) -> None:
    with serving(tmp_path, nginx, kind) as place:
        check_refusals(place)
        check_login(place)
        check_the_way_around(place)
