"""The options about the client's identity: texts, and their dependencies."""

from __future__ import annotations

import pytest

from chimirror import program
from chimirror.config import identity, parser

AUTHORIZE = "--authorize=http://127.0.0.1:9090/"
PROXY = ("--user-header=Remote-User", "--trusted-proxy=10.0.0.0/8")


def refusal(*options: str) -> str:
    with pytest.raises(parser.UsageError) as caught:
        parser.parse_server([*options, "cat"])
    return caught.value.text


@pytest.mark.parametrize(
    "name", ["", "a b", "X_User", "Remote-User:", "é", "x" * 65, "Cookie", "sec-a"]
)
def test_these_are_no_fields_of_a_user(name: str) -> None:
    reason = refusal("--trusted-proxy=unix", f"--user-header={name}")
    assert reason.startswith(f'--user-header: "{name}" ')
    assert reason.endswith("write Remote-User")


def test_only_a_trusted_proxy_names_a_user() -> None:
    assert refusal("--user-header=Remote-User") == (
        "--user-header: a client could set it; name the proxy by --trusted-proxy"
    )
    reason = "--groups-header: there is no user; add --user-header"
    assert refusal("--groups-header=Remote-Groups") == reason


def test_a_part_of_a_certificate_is_known() -> None:
    assert refusal("--user-certificate=name") == (
        '--user-certificate: "name" is not known; write subject, cn, email, dns or uri'
    )


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        ("--users=", '"" is no list of names; write ann,bob'),
        ("--groups=a,,b", '"a,,b" is no list of names; write ann,bob'),
        ("--allow-uid=ann", '"ann" is not a user id; write 1000'),
        ("--allow-gid=-1", '"-1" is not a group id; write 1000'),
        (
            "--require=proxy,tls",
            '"tls" is no source; write proxy, certificate, local or authorizer',
        ),
        ("--require=proxy,proxy", '"proxy" is named twice; name each source once'),
    ],
)
def test_the_error_says_what_to_write(option: str, reason: str) -> None:
    assert refusal(option) == f"{option.partition('=')[0]}: {reason}"


NO_SOURCE = "no source tells who a client is; add one, such as --authorize"


def test_a_client_without_a_name_needs_a_source() -> None:
    assert refusal("--allow-anonymous") == f"--allow-anonymous: {NO_SOURCE}"
    parser.parse_server(["--allow-anonymous", AUTHORIZE, "cat"])


@pytest.mark.parametrize("option", ["--users", "--groups"])
def test_a_name_needs_a_source(option: str) -> None:
    config = parser.parse_server([option, "ann", "cat"])
    with pytest.raises(parser.UsageError, match=f"{option}: {NO_SOURCE}"):
        program.with_credentials("chimirror-server", config, {})
    config = parser.parse_server([option, "ann", AUTHORIZE, "cat"])
    assert program.with_credentials("chimirror-server", config, {}) is config


def test_all_sources_are_required_or_none() -> None:
    assert refusal("--require=authorizer", *PROXY) == (
        "--require: authorizer is not set up; add --authorize"
    )
    assert refusal("--require=authorizer", AUTHORIZE, *PROXY) == (
        "--require: proxy is left out; name it too, or leave --user-header out"
    )
    parser.parse_server(["--require=proxy,authorizer", AUTHORIZE, *PROXY, "cat"])


def test_a_spare_learns_its_user_by_control_alone() -> None:
    assert refusal("--spares=1", AUTHORIZE).startswith("--spares: a spare starts ")
    parser.parse_server(["--spares=1", "--control", AUTHORIZE, "cat"])


@pytest.mark.parametrize("option", ["--allow-uid=0", "--allow-gid=0"])
def test_a_proxy_is_no_local_user(option: str) -> None:
    for other in ("--proxy-protocol", "--trusted-proxy=unix"):
        config = parser.parse_server([option, other, "cat"])
        with pytest.raises(ValueError, match="makes every peer on a Unix") as caught:
            program.check_clients(config)
        name = other.replace("=", " ")
        assert str(caught.value).startswith(f"{option.partition('=')[0]}: {name} ")
    program.check_clients(
        parser.parse_server([option, "--trusted-proxy=10.0.0.0/8", "cat"])
    )


def test_sources_are_listed_in_their_order() -> None:
    options = ["--allow-gid=1", AUTHORIZE, *PROXY, "--user-certificate=cn"]
    config = parser.parse_bridge([*options, "cat"])
    assert config.sources == tuple(identity.SOURCES)
    assert parser.parse_bridge(["cat"]).sources == ()
