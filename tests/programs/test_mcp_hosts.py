"""Tests hosts of MCP that reach a remote server by a local command: chimirror-connect.

The hosts are made with three official SDKs, which know nothing of chimirror. The
newest revision of the protocol is stateless and begins without `initialize`.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from mcp_hosts import (
    EXAMPLES,
    NOISY,
    SERVER,
    Host,
    python_2,
    run_host,
    running_host,
    serve,
    through,
    typescript,
    typescript_2,
)
from processes import until
from serve import preloading, server
from tls_servers import certificate, encrypted, server_url

__all__ = ["certificate"]

PRESET = "--protocol=mcp"
HANDSHAKE, STATELESS = "2025-11-25", "2026-07-28"
REMEMBER = ["remember", {"note": "é"}]
RECALL = ["recall", {}]
MILLION = 1_000_000


def entries() -> dict[str, dict[str, Any]]:
    """The servers of the configuration that the documents show."""
    servers: dict[str, dict[str, Any]]
    servers = json.loads((EXAMPLES / "mcp.json").read_text())["mcpServers"]
    return servers


def at(address: str, entry: dict[str, Any], shown: str) -> dict[str, Any]:
    """Replace the shown address in an entry by that of the test."""
    *options, url = entry["args"]
    assert shown in url
    return entry | {"args": [*options, url.replace(shown, address)]}


def test_the_configuration_of_the_examples(
    certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both servers work as they are written, except for their addresses."""
    apps = tmp_path / "apps"
    apps.mkdir()
    for file in (SERVER, SERVER.with_suffix(".toml")):
        shutil.copy(file, apps)
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
    local, remote = entries().values()
    trust = {"env": {"SSL_CERT_FILE": str(certificate.with_name("cert.pem"))}}
    with (
        server(tmp_path, [], "--apps", str(apps)) as service,
        encrypted(service, certificate) as url,
    ):
        address = f"127.0.0.1:{service.port}"
        plain = at(address, local, "127.0.0.1:30747")
        told = run_host(python_2, tmp_path, plain, REMEMBER, RECALL)
        assert told.results == [1, ["é"]], told.log
        secure = at(url.split("/")[2], remote, "notes.example.org")
        told = run_host(python_2, tmp_path, secure | trust, REMEMBER, RECALL)
        assert told.results == [1, ["é"]], told.log


@pytest.mark.parametrize(
    ("host", "sdk", "mode", "version", "sessions"),
    [
        (python_2, 1, "auto", HANDSHAKE, 1),
        (python_2, 2, "auto", STATELESS, 1),
        (python_2, 2, STATELESS, STATELESS, 1),
        (typescript, 2, "", None, 1),
        # starts a second server, to ask it for its revision
        (typescript_2, 2, "auto", STATELESS, 2),
    ],
)
def test_revisions(
    host: Host, sdk: int, mode: str, version: str, sessions: int, tmp_path: Path
) -> None:
    """A tool, a flood of notifications before their result, and a resource."""
    many = ["remember_all", {"several": ["x"] * 1000}, True]
    command, *variables = serve(sdk)
    with server(tmp_path, command, PRESET, *variables) as service:
        told = run_host(
            host,
            tmp_path,
            through(server_url(service)),
            REMEMBER,
            many,
            ["read", "notebook://all"],
            mode=mode,
        )
        service.await_ends(sessions)
        assert not service.applications()
    assert told.status == 0, told.log
    assert told.version == version
    assert told.results == [1, 1001, "é\n" + "x\n" * 1000]


def test_a_warm_copy_for_each_host(tmp_path: Path) -> None:
    shutil.copy(SERVER, tmp_path)
    with preloading(tmp_path, "mcp_server:main", PRESET) as service:
        entry = through(server_url(service))
        for _ in range(2):
            told = run_host(python_2, tmp_path, entry, REMEMBER, RECALL)
            assert told.results == [1, ["é"]], told.log


@pytest.mark.parametrize("host", [python_2, typescript])
def test_large_results(host: Host, tmp_path: Path) -> None:
    """The TypeScript SDK uses its WebSocket transport: on pipes it takes 10 MiB."""
    command, *variables = serve(2, NOISY)
    sizes = [1_200_000, 12 * MILLION]
    steps = [["read", f"sized://{size}"] for size in sizes]
    with server(tmp_path, command, PRESET, *variables) as service:
        url = server_url(service)
        entry = through(url) if host is python_2 else {"url": url}
        told = run_host(host, tmp_path, entry, *steps)
    assert [len(result) for result in told.results] == sizes, told.log


@pytest.mark.parametrize("pipes", [True, False])
def test_a_noisy_server(pipes: bool, tmp_path: Path) -> None:
    """Text between the messages ends no session, and stderr reaches a log.

    Version 2 of the SDK sends everything else that is printed to stderr.
    """
    command, *variables = serve(1, NOISY)
    with server(tmp_path, command, PRESET, *variables) as service:
        url = server_url(service)
        told = run_host(
            typescript,
            tmp_path,
            through(url) if pipes else {"url": url},
            ["print_line", {"text": "Loading..."}],
            ["print_line", {"text": ""}],
            ["log_line", {"size": 300_000}],
            RECALL,
        )
        service.await_ends(1)
    assert told.results == ["printed", "printed", "logged", []], told.log
    assert told.log.count("is not valid JSON") == 1
    where = told.log if pipes else service.log.read_text()
    assert where.count("e" * 50) > 5000
    assert "eee end" in where


def test_the_host_is_killed(tmp_path: Path) -> None:
    command, *variables = serve(2)
    with server(tmp_path, command, PRESET, *variables) as service:
        entry = through(server_url(service))
        wait = ["wait_for", {"word": "never"}]
        with running_host(
            python_2, tmp_path, entry, REMEMBER, wait, mode="auto"
        ) as process:
            assert process.stdout
            assert process.stdout.readline()
            assert json.loads(process.stdout.readline())["result"] == 1
            assert service.applications()
            process.kill()
            until(lambda: not service.applications(), "the MCP server has gone")
        service.await_ends(1)


def test_the_server_crashes(tmp_path: Path) -> None:
    """The host reports it, the log of the server has the status."""
    command, *variables = serve(2, NOISY)
    with server(tmp_path, command, PRESET, *variables) as service:
        entry = through(server_url(service))
        told = run_host(
            python_2, tmp_path, entry, REMEMBER, ["end_at_once", {"status": 3}]
        )
        service.await_ends(1)
        assert '"CHIMIRROR_EXIT":"exit 3"' in service.log.read_text()
    assert told.results == [1]
    assert told.status
    assert "Connection closed" in told.log


def test_the_server_is_drained(tmp_path: Path) -> None:
    """The log of the host says why its server has gone."""
    command, *variables = serve(2)
    brief = "--drain-timeout=1ms"
    with server(tmp_path, command, brief, PRESET, *variables) as service:
        entry = through(server_url(service))
        wait = ["wait_for", {"word": "never"}]
        with running_host(
            python_2, tmp_path, entry, REMEMBER, wait, mode="auto"
        ) as process:
            assert process.stdout
            assert process.stdout.readline()
            assert process.stdout.readline()
            service.stop()
            _, log = process.communicate()
    assert process.returncode
    assert "close 1001 (going away): drain (the server is shutting down)" in log


def test_a_wrong_name(tmp_path: Path) -> None:
    """The log of the host has the nearest name."""
    with server(tmp_path, [], "--apps", str(EXAMPLES)) as service:
        entry = through(f"{server_url(service)}mcp-server")
        told = run_host(python_2, tmp_path, entry, RECALL)
    assert told.status
    assert told.version is None
    assert "chimirror-connect: 404 Not Found: " in told.log
    assert "mcp_server" in told.log
