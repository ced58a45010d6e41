"""Runs an OpenID provider, and Apache with mod_auth_openidc as the proxy of a server.

All is on 127.0.0.1, without TLS: browsers treat that address as secure.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from npm import ACCESS, NODE, with_packages
from serve import Service, await_port, reserved, running

PROVIDER = Path(__file__).with_name("oidc_provider.mjs")
MODULES = (
    *("mpm_event", "authn_core", "authz_core", "authz_user", "auth_openidc", "headers"),
    *("proxy", "proxy_http"),
)
APACHE = """
ServerRoot {directory}
ServerName 127.0.0.1
PidFile {directory}/apache.pid
DefaultRuntimeDir {directory}
Mutex pthread
ErrorLog /dev/stderr
User nobody
Group nogroup
{modules}
Listen 127.0.0.1:{port}

OIDCProviderMetadataURL {issuer}/.well-known/openid-configuration
OIDCClientID chimirror
OIDCClientSecret {secret}
OIDCRedirectURI {redirect}
OIDCCryptoPassphrase {secret}
OIDCPKCEMethod S256
OIDCRemoteUserClaim sub

<Location />
    AuthType openid-connect
    Require valid-user
    RequestHeader set Remote-User "expr=%{{REMOTE_USER}}"
    RequestHeader unset Cookie
    ProxyPass http://127.0.0.1:{behind}/ upgrade=websocket
</Location>
ProxyPreserveHost On
"""


@contextmanager
def openid_front(directory: Path, behind: int) -> Iterator[Service]:
    """Run the provider, and Apache in front of the server on this port."""
    with reserved() as port, reserved() as login:
        secret = secrets.token_hex()
        redirect = f"http://127.0.0.1:{port}/redirect"
        script = with_packages(PROVIDER, directory, ACCESS)
        argv = [str(NODE), str(script), str(login), redirect, secret]
        with running(directory, argv, f"oidc{login}") as provider:
            await_port(provider, login)
            config = directory / "apache.conf"
            content = APACHE.format(
                directory=directory,
                modules="\n".join(map(_load, MODULES)),
                port=port,
                issuer=f"http://127.0.0.1:{login}",
                redirect=redirect,
                secret=secret,
                behind=behind,
            )
            config.write_text(content)
            argv = ["apache2", "-DFOREGROUND", "-f", str(config)]
            with running(directory, argv, f"apache{port}") as front:
                await_port(front, port)
                yield front


def _load(name: str) -> str:
    return f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so"
