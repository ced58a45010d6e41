"""Credentials of a unit, read by one user and written for another."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from chimirror.bridge import credentials
from chimirror.builtin_modules import environ_dict


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Set the environment of a unit with one credential."""
    directory = tmp_path / "directory"
    directory.mkdir()
    (directory / "token").write_bytes(b"secret\0")
    variables = {b"CREDENTIALS_DIRECTORY": str(directory).encode()}
    monkeypatch.setattr("posix.environ", variables)
    return directory


def test_credentials_are_passed_on(directory: Path, tmp_path: Path) -> None:
    secrets = credentials.read_credentials()
    assert secrets == {"token": b"secret\0"}
    credentials.write_credentials(secrets, str(tmp_path))
    directory = Path(environ_dict()["CREDENTIALS_DIRECTORY"])
    assert directory == tmp_path / f"credentials-{os.getuid()}"
    assert stat.S_IMODE(directory.stat().st_mode) == 0o500
    assert stat.S_IMODE((directory / "token").stat().st_mode) == 0o400
    assert (directory / "token").read_bytes() == b"secret\0"
    with pytest.raises(FileExistsError):
        credentials.write_credentials(secrets, str(tmp_path))


def test_no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("posix.environ", {})
    assert credentials.read_credentials() == {}
    credentials.write_credentials({}, str(tmp_path))
    assert not list(tmp_path.iterdir())
    assert not environ_dict()
