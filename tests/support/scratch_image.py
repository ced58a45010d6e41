"""An image with the installed chimirror, from files of this machine and no registry.

It has what examples/kubernetes/deployment.yaml asks of an image: chimirror-server and
chimirror-ctl in PATH, and a shell. Its Python is that of Debian, its tools are busybox.
The image of `make image` has tests of its own.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sysconfig
from pathlib import Path

PACKAGES = "chimirror docopt h11 orjson pybase64 sdnotify websockets wsproto".split()
TOOLS = "sh cat sleep kill".split()
PYTHON = Path("/usr/bin/python3").resolve()
STANDARD_LIBRARY = Path(f"/usr/lib/{PYTHON.name}")
PROGRAM = """\
#!{python} -EsP
import sys
sys.path.insert(0, "/opt/chimirror")
from chimirror.{name}.main import main
sys.exit(main())
"""


def make_archive(directory: Path) -> Path:
    """Write the file system of the image to a tar archive below `directory`."""
    root = directory / "root"
    for name in ("usr/bin", "tmp", "run", "proc", "sys", "dev", "etc", "opt/chimirror"):
        (root / name).mkdir(parents=True)
    (root / "bin").symlink_to("usr/bin")
    shutil.copy(PYTHON, root / "usr/bin")
    shutil.copytree(STANDARD_LIBRARY, root / f"usr/lib/{PYTHON.name}", symlinks=True)
    site = Path(sysconfig.get_path("platlib"))
    for name in PACKAGES:
        shutil.copytree(site / name, root / "opt/chimirror" / name)
    shutil.copy("/bin/busybox", root / "usr/bin")
    for tool in TOOLS:
        (root / "usr/bin" / tool).symlink_to("busybox")
    for name in ("server", "ctl"):
        path = root / f"usr/bin/chimirror-{name}"
        path.write_text(PROGRAM.format(python=PYTHON, name=name))
        path.chmod(0o755)
    copy_libraries(root)
    return Path(shutil.make_archive(str(directory / "image"), "tar", root))


def copy_libraries(root: Path) -> None:
    """Copy the libraries that the programs and extensions of the image load."""
    objects = [str(path) for path in root.rglob("*.so")]
    argv = ["ldd", str(PYTHON), *objects]
    found = subprocess.run(argv, capture_output=True, text=True).stdout
    for name in set(re.findall(r"(?:=> )?(/\S+) \(0x", found)):
        target = root / name.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(name, target)
