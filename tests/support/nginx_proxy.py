"""Runs the real nginx as a proxy in front of the servers of a test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from getpass import getuser
from pathlib import Path

from serve import Service, await_port, reserved, running

NGINX = """\
daemon off;
user {user}; # reads the file of users, in the directory of this test
pid {directory}/nginx.pid;
error_log stderr;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {directory};
    proxy_temp_path {directory};
    fastcgi_temp_path {directory};
    uwsgi_temp_path {directory};
    scgi_temp_path {directory};
    include {directory}/site.conf;
}}
"""
UPGRADING = """
proxy_http_version 1.1;
proxy_set_header Upgrade $http_upgrade;
proxy_set_header Connection upgrade;
"""
SAME_HOST = "proxy_set_header Host $http_host;"


@contextmanager
def running_nginx(directory: Path, site: str, port: int) -> Iterator[Service]:
    """Run nginx with this part of its http block, which listens on this port."""
    (directory / "site.conf").write_text(site)
    config = directory / "nginx.conf"
    config.write_text(NGINX.format(directory=directory, user=getuser()))
    argv = ["nginx", "-e", "stderr", "-p", str(directory), "-c", str(config)]
    with running(directory, argv, f"nginx{port}") as service:
        await_port(service, port)
        yield service


@contextmanager
def nginx_in_front(
    directory: Path, port: int, *directives: str, location: str = "/", path: str = ""
) -> Iterator[int]:
    """Run nginx with one location for one server. Yields the port of nginx.

    Args:
        directory: For its files.
        port: The port of the server.
        directives: Further ones of the location.
        location: The prefix of the paths that it passes on.
        path: What replaces the prefix. Empty: the paths are passed on as they are.
    """
    with reserved() as own:
        site = (
            f"server {{ listen 127.0.0.1:{own}; location {location} {{\n"
            f"{' '.join(directives)}\nproxy_pass http://127.0.0.1:{port}{path};\n}} }}"
        )
        with running_nginx(directory, site, own):
            yield own
