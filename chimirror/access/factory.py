"""Makes the access control of a process from its options."""

from __future__ import annotations

from chimirror.access.access_control import AccessControl
from chimirror.access.local_sources import CertificateSource, LocalSource, ProxySource

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from chimirror.access.authorizer import Authorizer, AuthorizerHost
    from chimirror.access.endpoint import Endpoint
    from chimirror.access.local_sources import Source
    from chimirror.config import Config


def make_access_control(
    config: Config,
    host: AuthorizerHost,
    endpoint: Endpoint | None,
    environment: Mapping[str, str],
) -> AccessControl:
    """Make the sources of a command line.

    Args:
        config: has at least one source.
        host: the context of the sessions of this process.
        endpoint: of the authorizer, None without one.
        environment: of an authorizer that this process starts.
    """
    sources: dict[str, Source] = {}
    if config.user_header is not None:
        groups = config.groups_header or ""
        sources["proxy"] = ProxySource(config.user_header, groups)
    if config.user_certificate is not None:
        sources["certificate"] = CertificateSource(
            config.user_certificate,
            of_proxies=config.required[-1:] not in ((), ("certificate",)),
        )
    if config.allowed_uids or config.allowed_gids:
        sources["local"] = LocalSource(config.allowed_uids, config.allowed_gids)
    authorizer: Authorizer | None = None
    if endpoint is not None:
        from chimirror.access.authorizer_factory import open_authorizer

        authorizer = open_authorizer(
            host,
            endpoint,
            config.authorize_timeout,
            config.authorize_fields,
            environment,
        )
    return AccessControl(
        sources,
        authorizer,
        config.required,
        host.loop.clock,
        allow_anonymous=config.allow_anonymous,
    )
