"""Proxies that ask chimirror-authorize who a client is, and name it to the server.

Each removes the fields of a client that would name a user, and the password or token,
as its manual says. The authorizer listens on a Unix socket.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from nginx_proxy import UPGRADING, running_nginx
from serve import Service, await_port, reserved, running

USER, GROUPS = "Remote-User", "Remote-Groups"
OPTIONS = ("--user-header", USER, "--groups-header", GROUPS)
NGINX = """
server {{
    listen 127.0.0.1:{port};
    location / {{
        auth_request /authorize;
        auth_request_set $user $upstream_http_remote_user;
        auth_request_set $groups $upstream_http_remote_groups;
        proxy_set_header Remote-User $user;
        proxy_set_header Remote-Groups $groups;
        proxy_set_header Authorization "";
        proxy_set_header Host $http_host;
        {upgrading}
        proxy_pass http://127.0.0.1:{behind};
    }}
    location = /authorize {{
        internal;
        proxy_pass_request_body off;
        proxy_set_header Content-Length "";
        proxy_set_header X-Original-URI $request_uri;
        proxy_set_header X-Original-Method $request_method;
        proxy_set_header X-Forwarded-For $remote_addr;
        proxy_pass http://unix:{authorizer}:/;
    }}
}}
"""
# Without `route`, Caddy would remove the fields after it has set them.
CADDY = """
{{
    admin off
    auto_https off
    persist_config off
    storage file_system {directory}/caddy
}}
http://:{port} {{
    bind 127.0.0.1
    route {{
        request_header -Remote-User
        request_header -Remote-Groups
        forward_auth unix/{authorizer} {{
            uri /
            copy_headers Remote-User Remote-Groups
        }}
        reverse_proxy 127.0.0.1:{behind} {{
            header_up -Authorization
        }}
    }}
}}
"""
ENVOY = """
static_resources:
  listeners:
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.\
http_connection_manager.v3.HttpConnectionManager
          stat_prefix: chimirror
          upgrade_configs: [{{upgrade_type: websocket}}]
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              request_headers_to_remove: [authorization]
              routes:
              - match: {{prefix: /}}
                route: {{cluster: chimirror, timeout: 0s}}
          http_filters:
          - name: envoy.filters.http.header_mutation
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.\
header_mutation.v3.HeaderMutation
              mutations:
                request_mutations: [{{remove: remote-user}}, {{remove: remote-groups}}]
          - name: envoy.filters.http.ext_authz
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.\
ext_authz.v3.ExtAuthz
              http_service:
                server_uri:
                  {{uri: "http://localhost", cluster: authorizer, timeout: 5s}}
                authorization_response:
                  allowed_upstream_headers:
                    patterns: [{{exact: remote-user}}, {{exact: remote-groups}}]
          - name: envoy.filters.http.router
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.\
router.v3.Router
  clusters:
  - name: chimirror
    load_assignment:
      cluster_name: chimirror
      endpoints:
      - lb_endpoints:
        - endpoint:
            address: {{socket_address: {{address: 127.0.0.1, port_value: {behind}}}}}
  - name: authorizer
    load_assignment:
      cluster_name: authorizer
      endpoints:
      - lb_endpoints: [{{endpoint: {{address: {{pipe: {{path: {authorizer}}}}}}}}}]
"""

Proxy = Callable[[Path, int, Path], AbstractContextManager[Service]]


@contextmanager
def nginx(directory: Path, behind: int, authorizer: Path) -> Iterator[Service]:
    """Run nginx with auth_request."""
    with reserved() as port:
        site = NGINX.format(
            port=port, behind=behind, authorizer=authorizer, upgrading=UPGRADING
        )
        with running_nginx(directory, site, port) as service:
            yield service


@contextmanager
def caddy(directory: Path, behind: int, authorizer: Path) -> Iterator[Service]:
    """Run Caddy with forward_auth."""
    with reserved() as port:
        file = directory / "Caddyfile"
        config = CADDY.format(
            directory=directory, port=port, behind=behind, authorizer=authorizer
        )
        file.write_text(config)
        argv = [_program("caddy"), "run", "--adapter=caddyfile", f"--config={file}"]
        with running(directory, argv, f"caddy{port}") as service:
            await_port(service, port)
            yield service


@contextmanager
def envoy(directory: Path, behind: int, authorizer: Path) -> Iterator[Service]:
    """Run Envoy with ext_authz over HTTP."""
    with reserved() as port:
        file = directory / "envoy.yaml"
        file.write_text(ENVOY.format(port=port, behind=behind, authorizer=authorizer))
        argv = [_program("envoy"), "--config-path", str(file), "--disable-hot-restart"]
        with running(
            directory, [*argv, "--concurrency", "1"], f"envoy{port}"
        ) as service:
            await_port(service, port)
            yield service


def _program(name: str) -> str:
    """Return a program that is installed beside this interpreter."""
    return str(Path(sys.executable).with_name(name))
