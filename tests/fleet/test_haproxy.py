"""The configuration of examples/fleet for HAProxy is accepted without a warning."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_haproxy_accepts_the_configuration(tmp_path: Path) -> None:
    make = ["openssl", "req", "-x509", "-newkey", "ec", "-nodes", "-subj", "/CN=fleet"]
    curve = ["-pkeyopt", "ec_paramgen_curve:P-256"]
    pem = str(tmp_path / "chimirror.pem")
    files = ["-keyout", pem, "-out", str(tmp_path / "crt")]
    subprocess.run([*make, *curve, *files], check=True, capture_output=True)
    with (tmp_path / "chimirror.pem").open("a") as file:
        file.write((tmp_path / "crt").read_text())
    content = (EXAMPLES / "fleet" / "haproxy.cfg").read_text()
    config = tmp_path / "haproxy.cfg"
    config.write_text(re.sub("/etc/haproxy/", f"{tmp_path}/", content))
    argv = ["haproxy", "-dW", "-c", "-f", str(config)]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
