"""What the bridge imports before its first byte: few modules, and none that is dear.

A module of the package costs about 0.16 ms of a start that may take twice as long as
that of a bare interpreter.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import trustme

import chimirror
from tls_peers import write_certificate

PACKAGE = Path(chimirror.__file__).parent
MAX_MODULES = 37
# Beyond a bare interpreter: modules that are built into it, and one file of constants.
CHEAP = {
    "__future__",
    "_collections",
    "_json",
    "_sha1",
    "_socket",
    "_stat",
    "binascii",
    "gc",
    "select",
}


# With TLS, beyond a bridge without it: those that ssl needs, and no more.
MAX_TLS_MODULES = 8
IMPORTS = """
import sys
sys.path.insert(0, sys.argv[1])
import chimirror.bridge
"""
TLS_IMPORTS = f"""{IMPORTS}
import chimirror.program, chimirror.config.parser
before = set(sys.modules)
line = ["--tls-cert", sys.argv[2], "--", "cat"]
config = chimirror.config.parser.parse_bridge(line)
chimirror.program.open_certificates(config)
import chimirror.session.tls_connection
print(*set(sys.modules) - before)"""


def modules_of(program: str, *arguments: str) -> set[str]:
    """Return the modules that a program prints, run by a bare interpreter."""
    argv = [sys.executable, "-I", "-S", "-c", program, *arguments]
    done = subprocess.run(argv, capture_output=True, check=True, text=True)
    return set(done.stdout.split())


@pytest.fixture(scope="module")
def loaded() -> set[str]:
    """The modules that `import chimirror.bridge` loads in a bare interpreter."""
    program = f"import sys\nbefore = set(sys.modules){IMPORTS}"
    return modules_of(
        f"{program}print(*set(sys.modules) - before)", str(PACKAGE.parent)
    )


@pytest.fixture(scope="module")
def loaded_for_tls(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The modules that a bridge loads besides, until it has its certificate."""
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    file = write_certificate(path, trustme.CA(), "localhost")
    return modules_of(TLS_IMPORTS, str(PACKAGE.parent), file)


def own_of(modules: set[str]) -> set[str]:
    return {name for name in modules if name.split(".")[0] == "chimirror"}


def test_own_modules_are_few(loaded: set[str]) -> None:
    own = own_of(loaded)
    assert "chimirror.session.session" in own
    assert len(own) <= MAX_MODULES, sorted(own)


def test_other_modules_are_cheap(loaded: set[str]) -> None:
    assert not loaded - own_of(loaded) - CHEAP


def test_own_modules_of_tls_are_few(loaded_for_tls: set[str]) -> None:
    own = own_of(loaded_for_tls)
    assert "chimirror.tls.channel" in own
    assert len(own) <= MAX_TLS_MODULES, sorted(own)


def test_tls_loads_no_others_than_ssl(loaded_for_tls: set[str]) -> None:
    program = "import sys; import ssl; print(*sys.modules)"
    others = loaded_for_tls - own_of(loaded_for_tls)
    assert "ssl" in others
    assert not others - modules_of(program)


def test_a_server_without_metrics_loads_nothing_of_them() -> None:
    program = "import sys, chimirror.server.main, chimirror.server.worker_main"
    argv = [sys.executable, "-P", "-c", f"{program}; print(*sys.modules)"]
    done = subprocess.run(argv, capture_output=True, check=True, text=True)
    loaded = own_of(set(done.stdout.split()))
    assert "chimirror.server.supervisor" in loaded
    words = ("metrics", "agent", "status_endpoints", "session_counters", "loop_lag")
    assert not [name for name in loaded if any(word in name for word in words)]
