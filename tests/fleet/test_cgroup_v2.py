"""Tests session limits on cgroup v2 with all controllers, as on every current host.

The machines of the other tests share a kernel, which may have its controllers on v1.
This machine has its own kernel. It is emulated and slow, so cgroup_v2_servers.py and
cgroup_v2_program.py run their few tests in one boot, with the installation of the other
machine.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from systemd_machine import ROOT, Machine, disk

pytestmark = pytest.mark.timeout(900)

KERNEL = ROOT / "build" / "kernel"
WITH_SYSTEMD_VM = ROOT / "tests" / "support" / "with-systemd-vm"
TESTS = [
    str(ROOT / "tests" / "support" / f"cgroup_v2_{name}.py")
    for name in ("servers", "program")  # the latter leaves limits
]
# Inside, the source tree is read-only.
ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith("COVERAGE_")}
ENVIRONMENT["PYTHONDONTWRITEBYTECODE"] = "1"
# Importing all plugins would take as long as the tests.
ENVIRONMENT["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
PLUGINS = ("-p", "pytest_timeout", "-p", "xdist")


def missing() -> str:
    """Return the reason why no machine can be emulated here. Empty if one can."""
    if not (KERNEL / "vmlinuz").exists():
        return f"no kernel; fetch one: .ci/kernel {KERNEL}"
    programs = ("qemu-system-x86_64", "busybox")
    return " ".join(f"no {name}" for name in programs if not shutil.which(name))


def test_on_a_kernel_of_its_own(host: Machine) -> None:
    if lacking := missing():
        pytest.skip(lacking)
    options = ("-q", "-x", "-p", "no:cacheprovider", "--no-skips", "--durations=0")
    inside = [sys.executable, "-P", "-m", "pytest", *PLUGINS, *options]
    with disk(host) as over:
        done = subprocess.run(
            [
                str(WITH_SYSTEMD_VM),
                *("--verbose", "--timeout", "900"),
                *("--kernel", str(KERNEL), "--over", str(over)),
                *("--bind-ro", str(ROOT), "--bind-ro", sys.prefix),
                *("--", *inside, *TESTS),
            ],
            cwd=ROOT,
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    print(done.stdout)  # prints the duration of each step
    assert done.returncode == 0, done.stdout
