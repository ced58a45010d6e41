"""Limits where cgroup v2 has all controllers, as on every host of today.

Law: the machines of the other tests may have the controllers of the kernel that they
share, which may be those of v1; this one has a kernel of its own. It is emulated, and
slow: one boot, with what the other machine has installed, for the few of unified.py.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from machine import ROOT, Machine, disk

pytestmark = pytest.mark.timeout(550)

KERNEL = ROOT / "build" / "kernel"
WITH_SYSTEMD_VM = ROOT / "tests" / "with-systemd-vm"
TESTS = ROOT / "tests" / "unified.py"
# Inside, nothing of ours can be written to.
ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith("COVERAGE_")}
ENVIRONMENT["PYTHONDONTWRITEBYTECODE"] = "1"


def missing() -> str:
    """What keeps this machine from emulating another one; empty: nothing."""
    if not (KERNEL / "vmlinuz").exists():
        return f"no kernel; fetch one: .ci/kernel {KERNEL}"
    programs = ("qemu-system-x86_64", "busybox")
    return " ".join(f"no {name}" for name in programs if not shutil.which(name))


def test_on_a_kernel_of_its_own(host: Machine) -> None:
    if lacking := missing():
        pytest.skip(lacking)
    options = "-q -x -p no:cacheprovider --no-cov --no-skips --durations=0"
    pytest_inside = [sys.executable, "-P", "-m", "pytest", *options.split(), str(TESTS)]
    with disk(host) as over:
        done = subprocess.run(
            [
                str(WITH_SYSTEMD_VM),
                *("--verbose", "--kernel", str(KERNEL), "--over", str(over)),
                *("--bind-ro", str(ROOT), "--bind-ro", sys.prefix),
                *("--", *pytest_inside),
            ],
            cwd=ROOT,
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    print(done.stdout)  # how long each step took
    assert done.returncode == 0, done.stdout
