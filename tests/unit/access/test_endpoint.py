"""Authorizers are found when a program starts, with a clear error if they are not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from chimirror.access.endpoint import EndpointError, find_endpoint
from chimirror.config.authorize_target import parse

PATH = os.environ["PATH"]


def test_an_address_is_kept() -> None:
    endpoint = find_endpoint(parse("http://127.0.0.1:9090/a?token=1"), PATH)
    assert [address for _, address in endpoint.addresses] == [("127.0.0.1", 9090)]
    assert endpoint.authority == "127.0.0.1:9090"
    assert endpoint.uri == "/a?token=1"
    assert endpoint.name == "http://127.0.0.1:9090/a"


def test_a_name_is_resolved() -> None:
    endpoint = find_endpoint(parse("http://localhost/"), PATH)
    assert ("127.0.0.1", 80) in [address for _, address in endpoint.addresses]
    assert endpoint.authority == "localhost"


def test_an_ipv6_address_has_brackets() -> None:
    endpoint = find_endpoint(parse("http://[::1]:9090"), PATH)
    assert endpoint.authority == "[::1]:9090"


def test_a_name_that_does_not_exist() -> None:
    with pytest.raises(EndpointError, match=r'^--authorize: "no\.such\.invalid": '):
        find_endpoint(parse("http://no.such.invalid:9090/"), PATH)


def test_a_socket() -> None:
    endpoint = find_endpoint(parse("http+unix:/run/x:/auth"), PATH)
    assert endpoint.addresses[0][1] == "/run/x"
    assert (endpoint.authority, endpoint.uri) == ("localhost", "/auth")
    assert endpoint.name == "http+unix:/run/x"


def test_a_command_is_found_in_path() -> None:
    endpoint = find_endpoint(parse("exec:sh -c 'echo x'"), PATH)
    assert endpoint.argv == ("sh", "-c", "echo x")
    assert endpoint.name == "exec:sh"


def test_a_relative_command_is_kept_when_the_directory_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "helper"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    endpoint = find_endpoint(parse("exec:./helper x"), PATH)
    assert endpoint.argv == (f"{tmp_path}/./helper", "x")


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("no-such-helper", 'there is no program "no-such-helper" in PATH'),
        ("/no/helper", "/no/helper: there is no such file; write its whole path"),
        ("/etc/passwd", "/etc/passwd"),
    ],
)
def test_an_unknown_command(command: str, reason: str) -> None:
    with pytest.raises(EndpointError, match="--authorize: ") as caught:
        find_endpoint(parse(f"exec:{command}"), PATH)
    assert reason in str(caught.value)
