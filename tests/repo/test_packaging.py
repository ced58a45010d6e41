"""The wheel, and `chimirror-bridge` after each way of installing it.

The wheel is built once. Each installation serves a whole session, started in a
directory with another `chimirror`, which fails when it is imported.

No package index is used: the libraries of the tests are lent to the installations.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import zipfile
from email.message import Message
from email.parser import BytesParser
from importlib.metadata import EntryPoint, distribution
from pathlib import Path

import pytest

import built_packages
import chimirror
from built_packages import ROOT, build, run
from websocket_peer import CONTINUATION, TEXT, Closed, Peer, frame

wheel, sdist = built_packages.wheel, built_packages.sdist

LIBRARIES = ("docopt", "h11", "orjson", "pybase64", "sdnotify", "websockets", "wsproto")
# dependencies of the libraries
DIRECTORY = Path(str(distribution("wsproto").locate_file("")))
BASE = getattr(sys, "_base_executable", sys.executable)  # packages that a venv contains
VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"


LINES = ("--framing", "lines")
EXTENSION = "chimirror/process/_fast_spawn.abi3.so"
# options that the launcher gives the interpreter
FAST, ISOLATED, BARE = "-IS", "-I", "-E"


def install(python: str | Path, *argv: str | Path, **env: str) -> None:
    """Install with the pip of the tests. Debian's python needs the last option."""
    pip = (sys.executable, "-m", "pip", "--python", python, "install", *argv)
    run(
        *pip,
        "--no-deps",
        "--no-index",
        "--no-compile",
        "--ignore-installed",
        PIP_BREAK_SYSTEM_PACKAGES="1",
        **env,
    )


def link_libraries(site: Path) -> None:
    """Make the libraries importable where pip would have installed them."""
    for name in LIBRARIES:
        (site / name).symlink_to(DIRECTORY / name)


def make_environment(directory: Path) -> Path:
    """Create a virtual environment. Returns its site-packages."""
    run(sys.executable, "-m", "venv", "--without-pip", directory)
    return directory / "lib" / VERSION / "site-packages"


def find_launcher(directory: Path) -> Path:
    """Find the launcher. Debian installs with `--prefix` into `local` below it."""
    (found,) = directory.rglob("bin/chimirror-bridge")
    return found


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the launcher in a virtual environment, the usual installation."""
    directory = tmp_path_factory.mktemp("with space") / "it's a venv"
    site = make_environment(directory)
    install(directory / "bin" / "python", wheel)
    link_libraries(site)
    return find_launcher(directory)


@pytest.fixture
def foreign_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a working directory on PYTHONPATH with another package chimirror."""
    directory = tmp_path / "decoy"
    (directory / "chimirror").mkdir(parents=True)
    (directory / "chimirror" / "__init__.py").write_text("raise SystemExit(99)")
    monkeypatch.chdir(directory)
    monkeypatch.setenv("PYTHONPATH", str(directory))
    return directory


PTRACE_TRACEME, PTRACE_CONT, PTRACE_DETACH = 0, 7, 17


def trace_me() -> None:
    """Stop this process at each execve(2), for its parent."""
    ctypes.CDLL(None).ptrace(PTRACE_TRACEME, 0, 0, 0)


def executed_command_line(pid: int) -> list[str]:
    """Return the command line of the interpreter that a traced launcher executes.

    Read in the stop at its execve(2), since the bridge changes it: ptrace(2).
    """
    ptrace = ctypes.CDLL(None).ptrace
    while True:
        _, status = os.waitpid(pid, 0)
        assert os.WIFSTOPPED(status), status
        words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        program = Path(f"/proc/{pid}/exe").readlink().name
        if os.WSTOPSIG(status) != signal.SIGTRAP:
            ptrace(PTRACE_CONT, pid, 0, os.WSTOPSIG(status))
        elif "-c" not in words or not program.startswith("python"):
            ptrace(PTRACE_CONT, pid, 0, 0)
        else:
            ptrace(PTRACE_DETACH, pid, 0, 0)
            return words


def run_session(*argv: str | Path) -> list[str]:
    """Run one session with `cat`. Returns the command line that the launcher executed.

    The fragmented message needs wsproto, so the libraries have to be found too.
    """
    ours, theirs = socket.socketpair()
    command = [*map(str, argv), "--", "cat"]
    with theirs:
        end = theirs.fileno()
        bridge = subprocess.Popen(
            command,
            stdin=end,
            stdout=end,
            preexec_fn=trace_me,  # noqa: PLW1509 (no threads here)
        )
    with bridge, Peer(ours) as peer:
        words = executed_command_line(bridge.pid)
        peer.open(framing="lines")
        peer.send_raw(
            frame(TEXT, b"in two ", fin=False) + frame(CONTINUATION, b"parts")
        )
        assert peer.receive() == b"in two parts"
        peer.send_close()
        assert isinstance(peer.receive(), Closed)
        peer.close()
        assert bridge.wait(30) == 0
    return words


# The content of the wheel


def metadata(wheel: zipfile.ZipFile) -> Message:
    (name,) = (n for n in wheel.namelist() if n.endswith(".dist-info/METADATA"))
    return BytesParser().parsebytes(wheel.read(name))


def test_wheel_holds_exactly_the_modules(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {
            n for n in archive.namelist() if "-info/" not in n and ".data/" not in n
        }
    sources = [
        *(ROOT / "chimirror").rglob("*.py"),
        *(ROOT / "chimirror").rglob("*.pyi"),
    ]
    modules = {str(f.relative_to(ROOT)) for f in sources}
    files = [f for f in (ROOT / "chimirror" / "web").rglob("*") if f.is_file()]
    web = {str(f.relative_to(ROOT)) for f in files}
    assert names == modules | web | {"chimirror/py.typed", EXTENSION}


def oldest_platform(wheel: Path) -> str:
    """Return the platform tag that auditwheel finds for this wheel: PEP 600."""
    pytest.importorskip("auditwheel")
    report = subprocess.check_output(
        [sys.executable, "-m", "auditwheel", "show", wheel],
        text=True,
        stderr=subprocess.DEVNULL,
    )
    found = re.search(r'platform\s+tag:\s+"(\w+)"', report)
    assert found, report
    return found[1]


def platform_of(wheel: Path) -> str:
    """Return the platform in the name of a wheel."""
    return wheel.stem.rpartition("-")[2]


def test_wheel_for_all_versions_of_python_and_old_systems(wheel: Path) -> None:
    """Its tag names the lowest version of glibc with which it can be loaded."""
    name = r"chimirror-[^-]+-cp311-abi3-manylinux_2_\d+_\w+\.whl"
    assert re.fullmatch(name, wheel.name)
    assert platform_of(wheel) == oldest_platform(wheel)


def test_wheel_for_another_architecture(wheel: Path, tmp_path: Path) -> None:
    if not shutil.which("aarch64-linux-gnu-gcc"):
        pytest.skip("the cross compiler is not installed")
    built = build(
        "wheel",
        tmp_path,
        CC="aarch64-linux-gnu-gcc -Werror",
        _PYTHON_HOST_PLATFORM="linux-aarch64",
    )
    platform = oldest_platform(built)
    assert platform.endswith("_aarch64")
    assert built.name == wheel.name.replace(platform_of(wheel), platform)


def test_each_system_gets_the_wheel_that_it_can_load(
    wheel: Path, tmp_path: Path
) -> None:
    """Beside the pure wheel in one index. None names the system of the tests."""
    pure = build("wheel", tmp_path / "pure", CC="false")
    assert pure.name.endswith("-py3-none-any.whl")
    lowest = platform_of(wheel)
    _, major, minor, machine = lowest.split("_", 3)
    older = f"manylinux_{major}_{int(minor) - 1}_{machine}"
    musl = f"musllinux_1_2_{machine}"
    download = (sys.executable, "-m", "pip", "download", "--no-index", "--no-deps")
    links = [f"--find-links={file.parent}" for file in (wheel, pure)]
    for system, each in {None: wheel, lowest: wheel, older: pure, musl: pure}.items():
        found = tmp_path / str(system)
        options = ["--only-binary=:all:", *(["--platform", system] if system else [])]
        run(*download, *links, *options, "--dest", found, "chimirror")
        assert [file.name for file in found.iterdir()] == [each.name]


def starter_of(python: Path) -> str:
    """Return which process starts applications, as `--version` tells."""
    server = python.with_name("chimirror-server")
    return subprocess.check_output([server, "--version"], text=True).splitlines()[1]


WITHOUT = "the zygote: the C extension is not installed"
STARTERS = {"cc": "the workers", "no-such-compiler": WITHOUT, "cc -nostdinc": WITHOUT}


@pytest.mark.parametrize("compiler", STARTERS)
def test_sdist_installs_with_and_without_a_compiler(
    compiler: str, sdist: Path, tmp_path: Path
) -> None:
    """The last compiler finds no headers."""
    site = make_environment(tmp_path)
    (site / "others.pth").write_text(str(DIRECTORY))
    python = tmp_path / "bin" / "python"
    install(python, "--no-build-isolation", sdist, CC=compiler)
    assert starter_of(python) == f"applications are started by {STARTERS[compiler]}"


def test_wheel_holds_pages_units_and_examples(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = [n.partition(".data/data/")[2] for n in archive.namelist()]
    held = {f"share/man/man{f.suffix[1]}/{f.name}" for f in (ROOT / "man").iterdir()}
    assert held
    for directory in ("systemd", "examples"):
        files = [f for f in (ROOT / directory).rglob("*") if f.is_file()]
        held |= {
            f"share/chimirror/{file.relative_to(ROOT)}"
            for file in files
            if not file.parent.name.startswith((".", "__", "debian"))
        }
    completions = ("bash-completion/completions/", "zsh/site-functions/_")
    held |= {f"share/{place}chimirror-ctl" for place in completions}
    assert {name for name in names if name} == held


def test_wheel_holds_the_launcher_as_it_is(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (info,) = (i for i in archive.infolist() if ".data/scripts/" in i.filename)
        assert info.filename.endswith("/chimirror-bridge")
        assert stat.S_IMODE(info.external_attr >> 16) == 0o755
        assert archive.read(info) == (ROOT / "chimirror" / "launcher.sh").read_bytes()


def test_metadata(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        fields = metadata(archive)
        assert [n for n in archive.namelist() if n.endswith("/licenses/LICENSE")]
    assert fields["Version"] == chimirror.__version__
    assert fields["Requires-Python"] == ">=3.11"
    assert fields["License-Expression"] == "MIT"
    assert fields["Description-Content-Type"] == "text/markdown"
    description = fields.get_payload()
    assert isinstance(description, str)
    assert description.startswith("# chimirror\n\nAny program")
    # An index has none of the files.
    assert "<picture" not in description
    assert not re.findall(r"\]\((?!\w+://)[^)]*\)", description)
    required = [text for text in fields.get_all("Requires-Dist", ()) if ";" not in text]
    assert {text.partition(">")[0] for text in required} == {
        "docopt-ng",
        "h11",
        "orjson",
        "pybase64",
        "sdnotify",
        "websockets",
        "wsproto",
    }


@pytest.mark.parametrize("program", ["server.main", "connect.main", "ctl.main"])
def test_programs_are_there(program: str) -> None:
    last = program.removesuffix(".main").rpartition(".")[2]
    name = f"chimirror-{last}"
    assert callable(EntryPoint(name, f"chimirror.{program}:main", "").load())
    declared = f'{name} = "chimirror.{program}:main"'
    assert declared in (ROOT / "pyproject.toml").read_text()


# The ways to install it


@pytest.mark.usefixtures("foreign_directory")
def test_virtual_environment(installed: Path) -> None:
    words = run_session(installed, *LINES)
    assert words[0] == str(installed.parent / VERSION)
    assert words[1] == FAST


@pytest.mark.usefixtures("foreign_directory")
def test_arguments_arrive_as_they_are(installed: Path) -> None:
    words = run_session(installed, *LINES, "--env", "A= b  *\n'\"$(c)", "--env", "B=")
    assert words[-9:] == [
        *LINES,
        "--env",
        "A= b  *\n'\"$(c)",
        "--env",
        "B=",
        "--",
        "cat",
        "",
    ]


@pytest.mark.usefixtures("foreign_directory")
def test_symbolic_links(installed: Path, tmp_path: Path) -> None:
    """The launcher follows links as pipx makes them, relative links and chains too."""
    (tmp_path / "app").symlink_to(installed.parent)
    (tmp_path / "first").symlink_to("app/chimirror-bridge")
    (tmp_path / "second").symlink_to("first")
    words = run_session(tmp_path / "second", *LINES)
    assert words[:2] == [str(installed.parent / VERSION), FAST]


@pytest.mark.parametrize(
    "how", ["./chimirror-bridge", "chimirror-bridge", "../bin/{}", "sh"]
)
def test_relative_paths(
    installed: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The package is still found after the bridge has changed its directory."""
    monkeypatch.chdir(installed.parent)
    monkeypatch.setenv("PATH", f".:{os.environ['PATH']}")
    argv = (
        ["sh", "chimirror-bridge"] if how == "sh" else [how.format("chimirror-bridge")]
    )
    assert run_session(*argv, *LINES, "--directory", "/")[1] == FAST


@pytest.mark.usefixtures("foreign_directory")
def test_target(wheel: Path, tmp_path: Path) -> None:
    directory = tmp_path / "a target"
    install(sys.executable, "--target", directory, wheel)
    link_libraries(directory)
    assert run_session(directory / "bin" / "chimirror-bridge", *LINES)[1] == FAST


@pytest.mark.usefixtures("foreign_directory")
def test_prefix(wheel: Path, tmp_path: Path) -> None:
    install(BASE, "--prefix", tmp_path / "prefix", wheel)
    script = find_launcher(tmp_path / "prefix")
    (package,) = (tmp_path / "prefix").rglob("*-packages")
    link_libraries(package)
    python, mode, *_ = run_session(script, *LINES)
    assert (Path(python).name, mode) == (VERSION, FAST)


@pytest.mark.usefixtures("foreign_directory")
def test_user(wheel: Path, tmp_path: Path) -> None:
    install(BASE, "--user", wheel, PYTHONUSERBASE=str(tmp_path))
    (package,) = (tmp_path / "lib").rglob("site-packages")
    link_libraries(package)
    python, mode, *_ = run_session(find_launcher(tmp_path), *LINES)
    assert (Path(python).name, mode) == (VERSION, FAST)


@pytest.mark.usefixtures("foreign_directory")
def test_several_versions_in_one_prefix(wheel: Path, tmp_path: Path) -> None:
    """The launcher takes the interpreter of the directory of the package."""
    install(BASE, "--user", wheel, PYTHONUSERBASE=str(tmp_path))
    for other in ("python3.1", "python3.99"):
        (tmp_path / "lib" / other / "site-packages" / "chimirror").mkdir(parents=True)
    (package,) = (tmp_path / "lib" / VERSION).rglob("site-packages")
    link_libraries(package)
    python, mode, *_ = run_session(find_launcher(tmp_path), *LINES)
    assert (Path(python).name, mode) == (VERSION, FAST)


@pytest.mark.usefixtures("foreign_directory")
def test_libraries_in_another_directory(wheel: Path, tmp_path: Path) -> None:
    """As with `--system-site-packages`: only `site` knows the directory."""
    site = make_environment(tmp_path / "venv")
    (site / "others.pth").write_text(str(DIRECTORY))
    install(tmp_path / "venv" / "bin" / "python", wheel)
    words = run_session(find_launcher(tmp_path / "venv"), *LINES)
    assert words[:2] == [str(tmp_path / "venv" / "bin" / VERSION), ISOLATED]


@pytest.mark.usefixtures("foreign_directory")
def test_editable(tmp_path: Path) -> None:
    site = make_environment(tmp_path)
    (site / "others.pth").write_text(str(DIRECTORY))  # hatchling is one of them
    install(tmp_path / "bin" / "python", "--no-build-isolation", "--editable", ROOT)
    words = run_session(tmp_path / "bin" / "chimirror-bridge", *LINES)
    assert words[:2] == [str(tmp_path / "bin" / "python3"), BARE]


def test_no_interpreter(installed: Path, tmp_path: Path) -> None:
    script = tmp_path / "chimirror-bridge"
    script.write_bytes(installed.read_bytes())
    result = subprocess.run(
        ["/bin/sh", script, "cat"], env={"PATH": "/nowhere"}, capture_output=True
    )
    assert result.returncode == os.EX_UNAVAILABLE
    assert result.stderr.startswith(b"chimirror-bridge: no python3 in PATH")


def test_entries_of_the_top_folder() -> None:
    """The top folder holds only these. Hidden files belong to tools."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    top = {name.partition("/")[0] for name in listed.stdout.split("\0") if name}
    visible = {name for name in top if not name.startswith(".")}
    assert visible == {
        "LICENSE",
        "Makefile",
        "README.md",
        "chimirror",
        "examples",
        "man",
        "pyproject.toml",
        "systemd",
        "tests",
    }
