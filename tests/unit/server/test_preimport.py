"""What a server does before it forks workers: imports, and settings of malloc(3)."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

import chimirror

PROGRAM = """
import resource, sys
from chimirror.server import preimport
preimport.raise_malloc_thresholds()
def message():
    return [b"x" * (1 << 20) for _ in range(3)]
message()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(50):
    message()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


IMPORTS = """
import sys
from chimirror.config import parser
from chimirror.server import preimport
preimport.preimport(parser.parse_server(sys.argv[1:]))
print(*sys.modules)
"""
EXEC, HTTP = "chimirror.access.exec_transport", "chimirror.access.http_transport"


@pytest.mark.parametrize(
    ("options", "transports"),
    [
        ((), set()),
        (("--authorize", "exec:cat"), {EXEC}),
        (("--authorize", "http://localhost/"), {HTTP}),
    ],
)
def test_only_the_transport_in_use_is_imported(
    options: tuple[str, ...], transports: set[str]
) -> None:
    argv = [sys.executable, "-c", IMPORTS, *options, "--", "cat"]
    done = subprocess.run(argv, capture_output=True, check=True, text=True)
    found = set(done.stdout.split())
    assert found & {EXEC, HTTP} == transports
    assert any(name.startswith("chimirror.access") for name in found) == bool(options)


ALL = ("--console", "--tls-cert=x", "--user-certificate=cn", "--metrics=127.0.0.1:0")
# Of the package: other programs, and modules of the start or of no server.
PROGRAMS = ("authorize", "bridge", "client", "connect", "ctl", "services", "zygote")
UNUSED = {
    "access.endpoint",
    "config.base_path",
    "config.usage",
    "host.safe_directory",
    "io.selector_poller",
    "io.session_socket",
    "server.__main__",
}
START = "import chimirror.server.main, chimirror.server.status_endpoints"


def test_nothing_is_left_to_be_imported_by_a_running_server() -> None:
    """Otherwise an upgrade would give it a module of another version."""
    package = Path(chimirror.__file__).parent
    left = {
        ".".join(file.relative_to(package).with_suffix("").parts)
        for file in package.rglob("*.py")
        if file.name != "__init__.py"
    }
    for authorize in ("exec:cat", "http://localhost/"):
        options = (*ALL, "--authorize", authorize, "--apps", "/")
        argv = [sys.executable, "-c", f"{START}\n{IMPORTS}", *options]
        done = subprocess.run(argv, capture_output=True, check=True, text=True)
        left -= {name.removeprefix("chimirror.") for name in done.stdout.split()}
    assert {name for name in left if name.partition(".")[0] not in PROGRAMS} == UNUSED


def test_a_zygote_has_imported_what_opens_a_terminal() -> None:
    code = "import sys, chimirror.zygote; print('chimirror.process.pty' in sys.modules)"
    argv = [sys.executable, "-c", code]
    assert subprocess.run(argv, capture_output=True, text=True).stdout == "True\n"


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="its heap")
def test_memory_of_large_messages_is_used_again() -> None:
    """Without the thresholds, each of 150 blocks is mapped anew: 256 pages of 4 KiB."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=Path(chimirror.__file__).parent.parent,
        capture_output=True,
        check=True,
    )
    assert int(done.stdout) < 50
