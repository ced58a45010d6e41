""".ci/packages and .ci/kernel, with a fake dpkg and a fake apt.

The scripts install or fetch only missing packages.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / ".ci" / "packages"
FAKES = {
    # Prints the status of its last argument, as dpkg-query does.
    "dpkg-query": """\
for name; do :; done
case $name in
    socat) printf installed ;;
    xinetd) printf config-files ;;
    *) exit 1 ;;
esac""",
    "apt-get": 'echo "apt-get $*" >>"$LOG"',
}


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in FAKES.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("LOG", str(tmp_path / "log"))
    return tmp_path / "log"


def run_as(user: int, log: Path) -> None:
    """Make the scripts believe that this user runs them."""
    (log.parent / "id").write_text(f"#!/bin/sh\necho {user}\n")
    (log.parent / "id").chmod(0o755)


def packages(*names: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([SCRIPT, *names], capture_output=True, text=True)


def test_nothing_missing(log: Path) -> None:
    run_as(0, log)
    result = packages("socat")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert not log.exists()


def test_root_installs_missing_packages(log: Path) -> None:
    run_as(0, log)
    assert packages("socat", "xinetd", "mandoc").returncode == 0
    assert log.read_text().splitlines() == [
        "apt-get -qq update",
        "apt-get -qq install --no-install-recommends xinetd mandoc",
    ]


def test_other_users_see_the_command(log: Path) -> None:
    run_as(1000, log)
    result = packages("socat", "xinetd", "mandoc")
    assert result.returncode == 1
    assert result.stderr == (
        "missing Debian packages; as root: apt-get install xinetd mandoc\n"
    )
    assert not log.exists()


def test_no_dpkg(log: Path) -> None:
    (log.parent / "dpkg-query").unlink()
    (log.parent / "sh").symlink_to("/bin/sh")
    result = subprocess.run(
        ["/bin/sh", SCRIPT, "mandoc"], env={"PATH": str(log.parent)}
    )
    assert result.returncode == 0


# The kernel

MODULES = ("fuse.ko", "overlay.ko", "virtio.ko", "virtio_console.ko")


@pytest.fixture
def kernel(log: Path) -> Path:
    """Return the path of the kernel, which a package of Debian's shape provides."""
    content = log.parent / "content"
    for name in ("boot/vmlinuz-6.1", "lib/other.ko", *(f"lib/a/{m}" for m in MODULES)):
        (content / name).parent.mkdir(parents=True, exist_ok=True)
        (content / name).write_text(name)
    fakes = {
        "apt-cache": "echo linux-image-cloud-amd64; echo '  Depends: linux-image-6.1'",
        "apt-get": FAKES["apt-get"]
        + "\ncase $* in *download*) : >linux-image-6.1_1_amd64.deb ;; esac",
        "dpkg": f"tar -c -C {content} .",
    }
    for name, text in fakes.items():
        (log.parent / name).write_text(f"#!/bin/sh\n{text}\n")
        (log.parent / name).chmod(0o755)
    return log.parent / "build" / "kernel"


def fetch(directory: Path) -> None:
    subprocess.run([SCRIPT.parent / "kernel", directory], check=True)


def test_a_kernel_is_fetched_once_and_not_installed(log: Path, kernel: Path) -> None:
    run_as(0, log)
    fetch(kernel)
    logged = log.read_text()
    fetch(kernel)
    assert log.read_text() == logged
    assert "install" not in logged
    found = {path.name: path.read_text() for path in kernel.iterdir()}
    assert found.pop("vmlinuz") == "boot/vmlinuz-6.1"
    assert found == {name: f"lib/a/{name}" for name in MODULES}


def test_only_root_fetches_a_kernel(log: Path, kernel: Path) -> None:
    run_as(1000, log)
    fetch(kernel)
    assert not kernel.exists()


def test_no_kernel_in_apt(log: Path, kernel: Path) -> None:
    run_as(0, log)
    (log.parent / "apt-cache").write_text("#!/bin/sh\nexit 100\n")
    fetch(kernel)
    assert not kernel.exists()
