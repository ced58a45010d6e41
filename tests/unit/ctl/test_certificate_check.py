"""The certificates of a command line: each state of a file, with its cure."""

from __future__ import annotations

from pathlib import Path

import pytest

from chimirror import program
from chimirror.config import parser
from chimirror.ctl import certificate_check, unit_probe
from tls_authority import Authority, Pair

DAY = certificate_check.DAY


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority")


@pytest.fixture
def pair(authority: Authority) -> Pair:
    return authority.issue("chat.example", days=(-1, 30))


def probe(*words: str) -> dict[str, object]:
    """Return the finding about the certificate. One about the command follows."""
    found, command = unit_probe.probe("chimirror-server", [*words, "cat"])
    assert command == {"name": "", "text": "cat", "absent": [], "script": ""}
    assert found["about"] == "certificate"
    return found


def test_dates(pair: Pair) -> None:
    config = parser.parse_bridge(["--tls-cert", str(pair.both), "cat"])
    certificates = program.open_certificates(config)
    assert certificates
    ((begin, end),) = certificates.validity()
    assert end - begin == 31 * DAY
    soon = end - certificate_check.SOON * DAY
    for now, text, keys in (
        (begin - 1, "it is not valid before ", {"cure"}),
        (begin, "it is valid until ", set()),
        (soon - 1, "it is valid until ", set()),
        (soon, "it ends on ", {"cure", "is_warning"}),
        (end - 1, "it ends on ", {"cure", "is_warning"}),
        (end, "it ended on ", {"cure"}),
    ):
        (found,) = certificate_check.review(config, now)
        date = certificate_check._date(begin if "before" in text else end)
        assert found["text"] == text + date
        assert found.keys() & {"cure", "is_warning"} == keys
        assert (found["file"], found["line"]) == (str(pair.both), None)


def test_several_certificates(authority: Authority, pair: Pair) -> None:
    old = authority.issue("old.example", days=(-3, -1))
    words = ("--tls-cert", str(pair.both), "--tls-cert", str(old.both))
    first, second, _ = unit_probe.probe("chimirror-bridge", [*words, "cat"])
    assert ("cure" in first, "cure" in second) == (False, True)
    assert (first["file"], second["file"]) == (str(pair.both), str(old.both))


def test_faults(authority: Authority, pair: Pair, tmp_path: Path) -> None:
    other = authority.issue("chat.example")
    empty = tmp_path / "empty.pem"
    empty.touch()
    for words, file, text in (
        (("--tls-cert", "/no/such"), "/no/such", "No such file or directory"),
        (("--tls-cert", str(empty)), empty, "no certificate in PEM is in this file"),
        (("--tls-cert", str(pair.cert)), pair.cert, "no private key in PEM is in"),
        (
            ("--tls-cert", str(pair.cert), "--tls-key", str(other.key)),
            other.key,
            f"not the key of the certificate in {pair.cert}",
        ),
        (
            ("--tls-cert", str(pair.both), "--tls-client-ca", "/no/such"),
            "/no/such",
            "No such file or directory",
        ),
    ):
        found = probe(*words)
        assert found["file"] == str(file)
        assert str(found["text"]).startswith(text)
        assert found["cure"] == certificate_check.READ_CURE


def test_credentials(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file of the unit is not the copy that the service reads."""
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / "tls-cert").write_bytes(pair.cert.read_bytes())
    found = probe()
    assert str(found["text"]).startswith("credential tls-cert: no private key in")
    assert (found["file"], found["setting"]) == (None, "LoadCredential")
    (tmp_path / "tls-key").write_bytes(pair.key.read_bytes())
    found = probe()
    assert str(found["text"]).startswith("credential tls-cert: it is valid until ")
    assert "cure" not in found


def test_without_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    for name in unit_probe.PARSERS:
        (found,) = unit_probe.probe(name, ["cat"])
        assert "about" not in found


def test_an_application_whose_clients_have_no_certificate(
    pair: Pair, tmp_path: Path
) -> None:
    (tmp_path / "one.toml").write_text('command = ["cat"]\ntls-client = "required"\n')
    words = ["--apps", str(tmp_path), "--tls-cert", str(pair.both)]
    _, found = unit_probe.probe("chimirror-server", words)
    assert "clients are asked for no certificate" in str(found["text"])
    words += ["--tls-client-ca", str(pair.cert)]
    _, found = unit_probe.probe("chimirror-server", words)
    assert found["text"] == "cat"
