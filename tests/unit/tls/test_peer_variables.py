"""The subject of a client's certificate, with openssl as the reference."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chimirror.tls.peer_variables import subject_text

SUBJECTS = [
    "/CN=alice",
    "/C=DE/ST=Bayern/L=München/O=Example/OU=Café/CN=alice",
    "/CN=a,b+c;d<e>f=g",
    '/CN=say "hello"',
    "/CN=back\\\\slash",
    "/CN=#hash",
    "/CN= both ends ",
    "/CN=  ",
    "/CN= ",
    "/CN=two  inner",
    "/CN=x/O=Evil\\/OU=admin",
    "/CN=a\n\t\x01b",
    "/CN=日本語 ÿ",
    "/DC=org/DC=example/UID=alice/emailAddress=a@example.org",
    "/GN=Alice/SN=Smith/title=Dr./initials=A.S./street=1 High Street",
    "/serialNumber=4711/dnQualifier=q/postalCode=1/businessCategory=b/description=d",
    "/CN=alice+UID=1+OU=two",
    "/CN=",
]


def make(directory: Path, subject: str) -> Path:
    """Make a self-signed certificate with this subject."""
    path = directory / "client.pem"
    argv = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -batch"
    argv += f" -utf8 -multivalue-rdn -keyout {directory}/key.pem"
    command = [*argv.split(), "-subj", subject, "-out", str(path)]
    subprocess.run(command, check=True, capture_output=True)
    return path


def decoded(path: Path) -> Any:
    """Return the subject of a certificate in the form of `getpeercert`."""
    test_decode = ssl._ssl._test_decode_cert  # type: ignore[attr-defined]
    return test_decode(str(path))["subject"]


@pytest.mark.parametrize("subject", SUBJECTS)
def test_subject_is_written_as_by_openssl(tmp_path: Path, subject: str) -> None:
    """Apache uses these flags of openssl."""
    path = make(tmp_path, subject)
    argv = ["openssl", "x509", "-in", str(path), "-noout", "-subject"]
    argv += ["-nameopt", "RFC2253,-esc_msb,utf8"]
    found = subprocess.run(argv, check=True, capture_output=True).stdout
    expected = found.decode().removeprefix("subject=").removesuffix("\n")
    assert subject_text(decoded(path)) == expected


def names(text: st.SearchStrategy[str]) -> st.SearchStrategy[list[list[Any]]]:
    pair = st.tuples(st.sampled_from(["commonName", "organizationName"]), text)
    return st.lists(st.lists(pair, min_size=1, max_size=2), min_size=1, max_size=3)


@given(names(st.text(max_size=8)))
@example([[("commonName", "a,CN=root")]])
@example([[("commonName", "\u202eroot\u2028\udcff")]])
@example([[("commonName", " # ")], [("commonName", "\\")]])
def test_no_value_can_imitate_a_part(subject: list[list[Any]]) -> None:
    """A reader of RFC 2253 finds the parts again, and no control character."""
    text = subject_text(subject)
    assert text.isprintable()
    parts = [split(part, "+") for part in split(text, ",")]
    assert [len(part) for part in parts] == [len(part) for part in subject[::-1]]
    for part, pairs in zip(parts, subject[::-1], strict=True):
        for written, (name, value) in zip(part, pairs[::-1], strict=True):
            short = "CN" if name == "commonName" else "O"
            kept, _, content = written.partition("=")
            assert (kept, unescape(content)) == (short, printable(value))


def printable(value: str) -> str:
    return value.encode("utf-8", "replace").decode()


def split(text: str, mark: str) -> list[str]:
    """Split at marks that have no backslash before them."""
    parts, escaped = [""], False
    for char in text:
        if char == mark and not escaped:
            parts.append("")
            continue
        parts[-1] += char
        escaped = char == "\\" and not escaped
    return parts


def unescape(text: str) -> str:
    """Undo the escapes of RFC 2253, section 3."""
    found, rest = b"", text
    while rest:
        char, rest = rest[0], rest[1:]
        if char != "\\":
            assert char not in '",+;<>'
            found += char.encode()
        elif rest[0] in ',+"\\<>;# =':
            found, rest = found + rest[0].encode(), rest[1:]
        else:
            found, rest = found + bytes.fromhex(rest[:2]), rest[2:]
    return found.decode()
