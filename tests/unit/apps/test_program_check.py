"""Faults of a program are found without starting it."""

from __future__ import annotations

import os
import stat
import struct
import sys
from pathlib import Path

import pytest

from chimirror.apps import Application, program_check
from chimirror.config import parser
from chimirror.process.spawner import Program
from processes import let_others_in

NOBODY = (65534, 65534)
ROOT = os.geteuid() == 0
ELF = Path(os.path.realpath("/bin/cat")).read_bytes()[: program_check.MAX_HEAD]


def file(path: Path, text: str | bytes, mode: int = 0o755) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(mode)
    return path


def fault(
    name: str,
    directory: str | None = None,
    user_ids: tuple[int, ...] = (),
    *,
    path: str | None = "/usr/bin:/bin",
    env: str = "PATH=/usr/bin:/bin",
) -> str:
    app = Application("", parser.parse_server([f"--env={env}", "--", name]), {})
    app.program = Program((name,), directory, user_ids=user_ids)
    found = program_check.find_fault(app, path)
    assert found is None or str(found) == f"{found.reason}; {found.cure}"
    return str(found or "")


@pytest.mark.parametrize("name", ["cat", "/bin/cat", sys.executable])
def test_programs_that_can_be_started(name: str) -> None:
    assert fault(name) == ""


def test_without_path_it_is_searched_as_the_c_library_does() -> None:
    assert fault("cat", path=None) == ""


def test_a_name_that_is_nowhere_in_path() -> None:
    assert fault("nosuch", path="/usr/bin:/no/such") == (
        'there is no program "nosuch" in PATH (/usr/bin:/no/such); install it, or '
        "write its whole path"
    )


def test_relative_names_are_found_from_the_directory(tmp_path: Path) -> None:
    file(tmp_path / "run", "#!/bin/sh\n")
    assert fault("./run", str(tmp_path)) == ""
    assert fault("run", str(tmp_path), path="/usr/bin:") == ""
    reason = f"./walk: there is no such file in {tmp_path}; write its whole path"
    assert fault("./walk", str(tmp_path)) == reason
    assert fault("./walk").startswith(f"./walk: there is no such file in {os.getcwd()}")


def test_a_missing_directory() -> None:
    assert fault("cat", "/no/such").startswith("/no/such: No such file or directory; ")


@pytest.mark.parametrize(
    ("text", "mode", "reason"),
    [
        ("#!/bin/sh\n", 0o644, "it is not executable; chmod +x {}, or write its"),
        ("echo\n", 0o755, "neither a program nor a script; begin it with #! and an"),
        ("", 0o755, "neither a program nor a script; begin it with #! and an"),
        ("#!/no/such\n", 0o755, "its interpreter: /no/such: there is no such file; i"),
        ("#!/no/such", 0o755, "its interpreter: /no/such: there is no such file; in"),
        ("#! /no/such -x\n", 0o755, "its interpreter: /no/such: there is no such fil"),
        ("#!/etc\n", 0o755, "its interpreter: /etc: this is a directory; install it"),
        ("#!/bin/sh\r\n", 0o755, "its interpreter: /bin/sh\\x0d: there is no such f"),
        ("#!\n", 0o755, "no interpreter after #!; write #!/bin/sh"),
        (
            "#!/usr/bin/env nosuch\n",
            0o755,
            'its interpreter: there is no program "nosuch" in PATH (/usr/bin:/bin)',
        ),
        ("#!/usr/bin/env cat\r\n", 0o755, "its interpreter: there is no program "),
        (
            "#!/usr/bin/env -S A=B nosuch -u\n",
            0o755,
            'its interpreter: there is no program "nosuch" in PATH (/usr/bin:/bin)',
        ),
        ("#!{}\n", 0o755, "its interpreter: {}: its interpreter: "),
    ],
)
def test_files(tmp_path: Path, text: str, mode: int, reason: str) -> None:
    path = file(tmp_path / "file", text.format(tmp_path / "file"), mode)
    assert fault(str(path)).startswith(f"{path}: {reason.format(path)}")


@pytest.mark.parametrize(
    "text",
    [
        "#!/bin/sh\n",
        "#! /bin/sh -e\n",
        "#!/usr/bin/env sh\n",
        "#!/usr/bin/env -S A=B sh -u\n",
        "#!/usr/bin/env -i nosuch\n",
        "#!/usr/bin/env -S\n",
        b"\0not judged",
        b"\x7fELF",
        ELF[:64],
    ],
)
def test_files_that_pass(tmp_path: Path, text: str | bytes) -> None:
    assert fault(str(file(tmp_path / "file", text))) == ""


def test_a_text_may_have_a_format_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = file(tmp_path / "file", "echo\n")
    formats = tmp_path / "formats"
    formats.mkdir()
    monkeypatch.setattr(program_check, "BINFMT", str(formats))
    (formats / "register").touch()
    (formats / "status").touch()
    assert "neither a program nor a script" in fault(str(path))
    (formats / "wasm").touch()
    assert fault(str(path)) == ""


def test_a_directory_and_a_fifo(tmp_path: Path) -> None:
    assert fault("/etc") == "/etc: this is a directory; write a program in it"
    os.mkfifo(tmp_path / "fifo", 0o755)
    assert "this is not a regular file" in fault(f"{tmp_path}/fifo")


def test_a_file_as_a_directory(tmp_path: Path) -> None:
    path = file(tmp_path / "file", "")
    assert "there is no such file" in fault(f"{path}/program")


def test_the_first_in_path_that_works_counts(tmp_path: Path) -> None:
    (tmp_path / "tool").mkdir()
    assert "this is a directory" in fault("tool", path=f"{tmp_path}:/bin")
    (tmp_path / "cat").mkdir()
    assert fault("cat", path=f"{tmp_path}:/bin") == ""


def test_the_loader_of_a_program(tmp_path: Path) -> None:
    loader = program_check.loader_of(ELF)
    assert os.path.exists(loader)
    missing = ELF.replace(loader.encode(), b"/no/such".ljust(len(loader), b"\0"))
    path = file(tmp_path / "program", missing)
    assert fault(str(path)).startswith(
        f"{path}: its loader /no/such: there is no such file; install the C library"
    )


@pytest.mark.parametrize("order", ["<", ">"])
def test_the_loader_of_a_32_bit_program(order: str) -> None:
    head = bytearray(256)
    head[:6] = b"\x7fELF\1" + (b"\1" if order == "<" else b"\2")
    struct.pack_into(f"{order}I", head, 28, 52)
    struct.pack_into(f"{order}HH", head, 42, 32, 1)
    struct.pack_into(f"{order}8I", head, 52, 3, 100, 0, 0, 5, 5, 4, 1)
    head[100:105] = b"/ld3\0"
    assert program_check.loader_of(bytes(head)) == "/ld3"


@pytest.mark.parametrize("size", range(0, 200, 9))
def test_a_cut_program_has_no_loader(size: int) -> None:
    assert program_check.loader_of(ELF[:size]) == ""


def test_a_word_with_a_nul() -> None:
    assert "embedded null byte" in fault("/a\0b")


@pytest.mark.skipif(not ROOT, reason="only root can act as another user")
def test_files_are_seen_as_the_user_of_the_application(tmp_path: Path) -> None:
    let_others_in(tmp_path)
    secret = tmp_path / "secret"
    secret.mkdir(0o700)
    hidden = file(secret / "run", "#!/bin/sh\n")
    owned = file(tmp_path / "owned", "#!/bin/sh\n", 0o744)
    unreadable = file(tmp_path / "unreadable", "#!/bin/sh\n", 0o711)
    before = os.getresuid(), os.getresgid(), os.getgroups()
    assert fault(str(hidden)) == ""
    assert fault(str(owned)) == ""
    assert fault("cat", user_ids=NOBODY) == ""
    found = fault(str(hidden), user_ids=NOBODY)
    assert found.startswith(f"{hidden}: Permission denied for user 65534; ls -ld ")
    found = fault("cat", str(secret), NOBODY)
    assert found.startswith(f"{secret}: Permission denied for user 65534; ")
    found = fault(str(owned), user_ids=NOBODY)
    assert found.startswith(f"{owned}: it is not executable for user 65534; chmod +x")
    found = fault(str(unreadable), user_ids=NOBODY)
    assert found.startswith(f"{unreadable}: a script that cannot be read for user ")
    assert (os.getresuid(), os.getresgid(), os.getgroups()) == before


@pytest.mark.skipif(not ROOT, reason="only root can act as another user")
def test_a_program_that_nobody_may_read_is_not_judged(tmp_path: Path) -> None:
    let_others_in(tmp_path)
    path = tmp_path / "cat"
    path.write_bytes(Path("/bin/cat").read_bytes())
    path.chmod(stat.S_IXUSR | stat.S_IXOTH)
    assert fault(str(path), user_ids=NOBODY) == ""
