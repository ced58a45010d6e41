"""The log gets one line for each change of files that a worker cannot use."""

from __future__ import annotations

from pathlib import Path

import pytest

from chimirror.config import parser
from chimirror.server.certificate_failures import CertificateFailures

FIRST, SECOND = 0, 1  # numbers of workers


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "server.pem"
    path.write_text("none")
    return path


@pytest.fixture
def failures(file: Path) -> CertificateFailures:
    line = ["--tls-cert", str(file), "--tls-client-ca", f"{file}.missing", "--", "cat"]
    return CertificateFailures(parser.parse_server(line))


def is_known(failures: CertificateFailures, number: int = FIRST) -> bool:
    """Try once, and fail."""
    failures.on_try(number)
    known = failures.is_known(number)
    failures.on_worker_exit(number, failed=True)
    return known


def test_equal_files(failures: CertificateFailures) -> None:
    assert [is_known(failures) for _ in range(3)] == [False, True, True]


def test_each_worker_for_itself(failures: CertificateFailures) -> None:
    assert [is_known(failures), is_known(failures, SECOND)] == [False, False]
    assert [is_known(failures), is_known(failures, SECOND)] == [True, True]


def test_changes(failures: CertificateFailures, file: Path) -> None:
    assert not is_known(failures)
    file.write_text("still none")
    assert not is_known(failures)
    file.unlink()
    assert not is_known(failures)
    assert is_known(failures)
    Path(f"{file}.missing").write_text("none either")
    assert not is_known(failures)


def test_a_change_within_a_try(failures: CertificateFailures, file: Path) -> None:
    """The worker may have read the files before or after it."""
    failures.on_try(FIRST)
    file.write_text("still none")
    failures.on_worker_exit(FIRST, failed=True)
    assert not is_known(failures)


def test_the_same_failure_after_a_success(
    failures: CertificateFailures, file: Path
) -> None:
    file.unlink()
    assert not is_known(failures)
    failures.on_try(FIRST)
    failures.on_worker_exit(FIRST, failed=False)
    assert not is_known(failures)
