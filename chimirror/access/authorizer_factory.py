"""Makes the authorizer of a process, with the transport that its endpoint needs.

The modules of a transport are imported when one is made: h11 takes 20 ms and 3.7 MB.
"""

from __future__ import annotations

from chimirror.access.authorizer import Authorizer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from chimirror.access.authorizer import AuthorizerHost, Transport
    from chimirror.access.endpoint import Endpoint


def open_authorizer(
    host: AuthorizerHost,
    endpoint: Endpoint,
    timeout: float,
    fields: tuple[str, str],
    environment: Mapping[str, str],
) -> Authorizer:
    """Make the authorizer of a process. It connects with the first question.

    Args:
        host: the context of the sessions of this process.
        endpoint: the authorizer, found at the start of the program.
        timeout: seconds for each question.
        fields: of an HTTP answer, that name the user and its groups.
        environment: of a helper process.
    """
    if endpoint.argv:
        from chimirror.access.exec_transport import ExecTransport

        def make_transport(owner: Authorizer) -> Transport:
            return ExecTransport(owner, endpoint.argv, environment)
    else:
        from chimirror.access.http_transport import HttpTransport

        def make_transport(owner: Authorizer) -> Transport:
            return HttpTransport(owner, endpoint, fields)

    return Authorizer(host, endpoint.name, timeout, make_transport)
