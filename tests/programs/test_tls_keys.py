"""The key of the server is not in the memory of preloaded applications."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from processes import name_of
from serve import preloading
from tls_authority import Authority, authority, stranger
from tls_peers import connect
from websocket_peer import stdin

__all__ = ["authority", "stranger"]  # fixtures

OPTIONS = ("--workers=2", "--framing", "stdio")


root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may read this memory")


def key_bytes(pair: Path) -> bytes:
    """Return the secret number of a key, as it is in memory of OpenSSL."""
    argv = ["openssl", "ec", "-in", str(pair), "-noout", "-text"]
    text = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    digits = re.search(r"priv:\s*([0-9a-f:\s]+)pub:", text)
    assert digits
    return bytes.fromhex(re.sub(r"[:\s]", "", digits[1])).lstrip(b"\0")


def memory_has(pid: int, secrets: list[bytes]) -> bool:
    """Search all readable memory of a process."""
    with (
        Path(f"/proc/{pid}/maps").open() as maps,
        Path(f"/proc/{pid}/mem").open("rb", 0) as memory,
    ):
        for line in maps:
            area, rights, *_ = line.split()
            if not rights.startswith("r") or "[v" in line:
                continue
            first, last = (int(part, 16) for part in area.split("-"))
            memory.seek(first)
            try:
                data = memory.read(last - first)
            except OSError:
                continue
            if any(secret in data for secret in secrets):
                return True
    return False


@root
def test_copies_have_no_key_in_their_memory(
    tmp_path: Path, authority: Authority
) -> None:
    (tmp_path / "toy.py").write_text(
        "import sys\ndef main():\n    for line in sys.stdin: print(line, flush=True)\n"
    )
    pair = authority.issue("localhost")
    secret = key_bytes(pair.key)
    text = pair.key.read_bytes().splitlines()[1]
    forms = [secret, secret[::-1], text]  # numbers of OpenSSL begin with the last byte
    options = ("--tls-cert", str(pair.cert), "--tls-key", str(pair.key), *OPTIONS)
    with (
        preloading(tmp_path, "toy:main", *options) as service,
        connect(service, authority) as peer,
    ):
        peer.open(framing="stdio")
        peer.send(stdin(b"hello\n"))
        assert peer.output(6).startswith(b"hello\n")
        assert any(memory_has(pid, forms) for pid in service.workers())
        copies = service.applications()
        assert copies
        for pid in (*copies, *service.zygotes(), service.pid, service.process.pid):
            assert not memory_has(pid, forms), name_of(pid)
        peer.send_close()
        peer.transcript()
