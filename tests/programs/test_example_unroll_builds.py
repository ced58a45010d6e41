"""Tests the builds of examples/unroll: linkages, executable memory, command line."""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

import syscall_filter
from unroll_programs import (
    EXAMPLES,
    LINKAGES,
    NATIVE,
    SUM,
    UnrollProcess,
    build,
    meaning,
    nested,
    plain_directory,
    programs_directory,
)

__all__ = ["plain_directory", "programs_directory"]  # fixtures

pytestmark = pytest.mark.timeout(300)  # the compiler is slow on a busy machine

FILTER = (sys.executable, syscall_filter.__file__)

# Linkages


def test_all_linkages_give_the_same_results(programs_directory: Path) -> None:
    texts = [SUM, nested(2), "print 1 / 0;", "$", "for (i = 0; i < 2; ++i) { i = 0; }"]
    found = []
    for name in LINKAGES:
        with UnrollProcess(programs_directory / name) as process:
            answers = [process.ask(text) for text in texts]
            found.append([meaning(answer) for answer in answers])
            assert answers[0]["ran"] == NATIVE
    assert found[0] == found[1] == found[2]


def moved(directory: Path, name: str, target: Path) -> Path:
    """Copy a file to another directory. Returns its path."""
    target.mkdir(exist_ok=True)
    copy = target / name
    copy.write_bytes((directory / name).read_bytes())
    copy.chmod(0o755)
    return copy


def test_which_programs_need_the_shared_library(
    plain_directory: Path, tmp_path: Path
) -> None:
    static, shared, loaded = (
        moved(plain_directory, name, tmp_path) for name in LINKAGES
    )
    with UnrollProcess(static) as process:
        assert process.ask(SUM)["variables"]["s"] == 45
    for program, status in ((shared, 127), (loaded, os.EX_UNAVAILABLE)):
        done = subprocess.run([program], capture_output=True, input=b"")
        assert done.returncode == status
        assert b"libunroll.so" in done.stderr
    moved(plain_directory, "libunroll.so", tmp_path)
    for program in (shared, loaded):
        with UnrollProcess(program) as process:
            assert process.ask(SUM)["variables"]["s"] == 45


def section_sizes(file: Path) -> dict[str, int]:
    """Return the size of each section of all objects."""
    said = subprocess.check_output(["size", "-A", file], text=True)
    found: dict[str, int] = {}
    for name, size in re.findall(r"^(\.\S+)\s+(\d+)", said, re.MULTILINE):
        found[name] = found.get(name, 0) + int(size)
    return found


def symbols(*argv: str) -> dict[str, set[str]]:
    """Return the symbols that nm prints, by their type."""
    done = subprocess.run(["nm", *argv], capture_output=True, text=True, check=True)
    found: dict[str, set[str]] = {}
    for line in done.stdout.splitlines():
        if found_symbol := re.fullmatch(r"[0-9a-f ]{17}(\w) (\S+)", line):
            kind, name = found_symbol.groups()
            found.setdefault(kind, set()).add(name.partition("@")[0])
    return found


def test_the_library_prints_nothing_and_has_no_state(plain_directory: Path) -> None:
    sizes = section_sizes(plain_directory / "libunroll.a")
    writable = {".data", ".data.rel", ".data.rel.local", ".bss", ".tdata", ".tbss"}
    assert sizes[".text"]
    assert not {name for name in writable if sizes.get(name)}
    used = symbols(str(plain_directory / "libunroll.a"))["U"]
    assert not used & {"exit", "_exit", "abort", "printf", "puts", "write", "getenv"}
    assert not {"stdout", "stderr", "environ", "signal", "sigaction"} & used


def test_both_libraries_export_only_their_header(plain_directory: Path) -> None:
    header = (EXAMPLES / "unroll" / "unroll.h").read_text()
    for option, file in (("-D", "libunroll.so"), ("-g", "libunroll.a")):
        path = str(plain_directory / file)
        (names,) = symbols(option, "--defined-only", path).values()
        assert names == {
            f"unroll_{n}" for n in "compile inspect run clear free".split()
        }
        assert all(f"{name}(" in header for name in names)


# Executable memory


def test_the_interpreter_on_request(
    plain_directory: Path,
) -> None:
    program = plain_directory / "unroll-static"
    with UnrollProcess(program, "--interpret") as other:
        answer = other.ask(SUM)
    with UnrollProcess(program) as process:
        native = process.ask(SUM)
    assert answer["ran"] == "interpreter"
    assert answer["why"]
    assert "bytes" not in answer
    assert meaning(answer) == meaning(native)


def test_a_build_for_other_processors(plain_directory: Path, tmp_path: Path) -> None:
    other = build(tmp_path, "CPPFLAGS=-DUNROLL_INTERPRET")
    answers = []
    for directory in (plain_directory, other):
        with UnrollProcess(directory / "unroll-shared") as process:
            answers.append(process.ask(SUM))
    assert [answer["ran"] for answer in answers] == [NATIVE, "interpreter"]
    assert "x86-64" in answers[1]["why"]
    assert meaning(answers[0]) == meaning(answers[1])


def test_executable_memory_that_is_refused(plain_directory: Path) -> None:
    """As a systemd unit with MemoryDenyWriteExecute= refuses it."""
    with UnrollProcess(
        plain_directory / "unroll-static", before=(*FILTER, "refuse")
    ) as process:
        answer = process.ask(SUM)
    assert (answer["ran"], answer["variables"]["s"]) == ("interpreter", 45)
    assert "memory" in answer["why"]


def test_no_memory_is_writable_and_executable(plain_directory: Path) -> None:
    """The kernel would kill the process."""
    with UnrollProcess(
        plain_directory / "unroll-static", before=(*FILTER, "kill")
    ) as process:
        for text in (SUM, nested(2)):
            assert process.ask(text)["ran"] == NATIVE


def test_memory_that_is_refused(plain_directory: Path) -> None:
    """The process lives on, without the memory for a large program."""
    large = nested(2).replace("}", "v0 = v0 * 1; }", 1)
    with UnrollProcess(plain_directory / "unroll-static") as process:
        process.ask(SUM)  # the program has started
        pages = Path(f"/proc/{process.process.pid}/statm").read_text().split()[0]
        limit = int(pages) * resource.getpagesize() + 2**20
        resource.prlimit(process.process.pid, resource.RLIMIT_AS, (limit, limit))
        answer = process.ask(large)
        assert answer.keys() == {"error", "kind"}
        assert answer["kind"] == "memory"
        assert process.ask(SUM)["variables"]["s"] == 45


@pytest.mark.parametrize(
    "option",
    ["--help", "--max-steps=x", "--max-steps=-1", "--max-values=4294967296", "x"],
)
def test_usage(plain_directory: Path, option: str) -> None:
    argv = [str(plain_directory / "unroll-static"), option]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True)
    assert (done.returncode, done.stdout) == (os.EX_USAGE, b"")
    assert b"usage: " in done.stderr


def test_output_that_cannot_be_written(plain_directory: Path) -> None:
    with open("/dev/full", "wb") as full:
        argv = [plain_directory / "unroll-static"]
        done = subprocess.run(argv, input=b"print 1;\n", stdout=full)
    assert done.returncode == os.EX_IOERR


def test_a_last_line_without_end(plain_directory: Path) -> None:
    argv = [plain_directory / "unroll-static"]
    done = subprocess.run(argv, input=b"print 1;\nprint 2;", capture_output=True)
    printed = [json.loads(line)["printed"] for line in done.stdout.splitlines()]
    assert (printed, done.returncode, done.stderr) == ([[1], [2]], 0, b"")


# README.md of the example

README = (EXAMPLES / "unroll" / "README.md").read_text()


def test_the_answer_in_the_manual(plain_directory: Path) -> None:
    (text,) = re.findall(r"echo '(.*)' \| build/examples/(?:\S+)", README)
    (answer,) = re.findall(r"```json\n(.*?)```", README, re.DOTALL)
    with UnrollProcess(plain_directory / "unroll-static") as process:
        found = process.ask_raw(text.encode())
    written = json.loads(answer)
    assert written.keys() == found.keys()
    for name in ("printed", "variables", "loops"):
        assert written[name] == found[name]


def test_the_table_in_the_manual(plain_directory: Path) -> None:
    """All except the times and sizes, which depend on machine and library."""
    gain = EXAMPLES / "unroll" / "gain.py"
    argv = [sys.executable, str(gain), str(plain_directory / "unroll-static")]
    said = subprocess.check_output(argv, text=True).splitlines()
    assert README.find("\n".join(said[:2])) > 0
    for line in said[2:]:
        assert f"\n{line.split('|')[1].join('||')}" in README
