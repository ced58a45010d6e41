"""Checks that the program of an application can be started, without starting it.

Follows the search of posix_spawnp(3) and the rules of execve(2): permissions of the
user, `#!` interpreters, loaders of ELF programs. A program that cannot be judged
passes: its start has the last word. Loaded by servers and by chimirror-ctl.
"""

from __future__ import annotations

import os
import stat
import struct

from chimirror import regular_file
from chimirror.process.effective_user import EffectiveUser
from chimirror.process.user_program import DEFAULT_PATH
from chimirror.text import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from chimirror.apps import Application

MAX_HEAD = 4096  # bytes of a program that are read
MAX_LINE = 256  # bytes of a `#!` line that the kernel reads
MAX_DEPTH = 5  # interpreters that are scripts themselves
PT_INTERP = 3  # elf(5)
BINFMT = "/proc/sys/fs/binfmt_misc"
NO_FILE = "there is no such file"
# Of an ELF file by its class. Positions of the table of segments and of their size and
# number. Of a segment: its layout, and which values are its offset and its size.
ELF = {1: ("I", 28, 42, "IIIIIIII", 1, 4), 2: ("Q", 32, 54, "IIQQQQQQ", 2, 5)}


class ProgramFault(Exception):
    """A program that cannot be started. The text gives the reason and the cure."""

    def __init__(self, reason: str, cure: str) -> None:
        super().__init__(f"{reason}; {cure}")
        self.reason = reason
        self.cure = cure


def find_fault(app: Application, path: str | None) -> ProgramFault | None:
    """Find why the program of an application cannot be started.

    Args:
        app: The application. With --preload it has no program, and none is checked.
        path: The PATH of the process that starts it, which finds the program.

    Returns:
        The fault. None if the program can be started, or cannot be judged.
    """
    if app.config.preload is not None:
        return None
    program = app.program
    checker = ProgramChecker(program.directory, program.user_ids, app.environment)
    try:
        checker.check_directory()
        checker.check(program.argv[0], path)
    except ProgramFault as fault:
        return fault
    return None


class ProgramChecker:
    """Checks programs for one user and one working directory.

    Args:
        directory: The working directory. None: the current one.
        user_ids: The user, and the groups of that user. Empty: this process's own.
        environment: The environment of the program.
    """

    def __init__(
        self,
        directory: str | None,
        user_ids: Sequence[int],
        environment: Mapping[str, str],
    ) -> None:
        self._directory = directory
        self._user_ids = user_ids
        self._environment = environment
        self._who = f" for user {user_ids[0]}" if user_ids else ""

    def check_directory(self) -> None:
        """Check that the working directory can be entered.

        Raises:
            ProgramFault: It cannot.
        """
        if self._directory is None:
            return
        try:
            with EffectiveUser(self._user_ids):
                os.stat(f"{self._directory}/.")
        except OSError as error:
            reason = f"{self._directory}: {error.strerror}{self._who}"
            raise _fault(reason, "create it, or write another directory") from None

    def check(self, name: str, path: str | None, depth: int = 0) -> None:
        """Check a program as execvp(3) finds it.

        Raises:
            ProgramFault: It cannot be started.
        """
        fault: ProgramFault | None = None
        for candidate in _candidates(name, path):
            try:
                if self._is_file(candidate):
                    self._check_content(candidate, depth)
                    return
            except ProgramFault as found:
                fault = fault or found
        if fault is not None:
            raise fault
        if "/" in name:
            where = (
                "" if name.startswith("/") else f" in {self._directory or os.getcwd()}"
            )
            raise _fault(f"{name}: {NO_FILE}{where}", "write its whole path")
        reason = f'there is no program "{name}" in PATH ({path or DEFAULT_PATH})'
        raise _fault(reason, "install it, or write its whole path")

    def _is_file(self, path: str) -> bool:
        """Return True for a file that this user may execute, False for none.

        Raises:
            ProgramFault: It may not, or this is no regular file.
        """
        place = self._place(path)
        try:
            with EffectiveUser(self._user_ids):
                mode = os.stat(place).st_mode
                usable = os.access(place, os.X_OK, effective_ids=True)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except (OSError, ValueError) as error:
            text = getattr(error, "strerror", None) or str(error)
            cure = f"ls -ld {path} and the directories above it show the permissions"
            raise _fault(f"{path}: {text}{self._who}", cure) from None
        if stat.S_ISDIR(mode):
            raise _fault(f"{path}: this is a directory", "write a program in it")
        if not stat.S_ISREG(mode):
            raise _fault(f"{path}: this is not a regular file", "write a program")
        if not usable:
            cure = f"chmod +x {path}, or write its interpreter before it"
            raise _fault(f"{path}: it is not executable{self._who}", cure)
        return True

    def _check_content(self, path: str, depth: int) -> None:
        """Check the beginning of a file, if this process can read it."""
        try:
            head = regular_file.read_start(self._place(path), MAX_HEAD)
        except (OSError, regular_file.UnusableFile):
            return
        if head.startswith(b"#!"):
            self._check_script(path, head, depth)
        elif head.startswith(b"\x7fELF"):
            self._check_loader(path, head)
        elif b"\0" not in head and not _has_other_formats():
            reason = f"{path}: neither a program nor a script"
            raise _fault(reason, "begin it with #! and an interpreter")

    def _check_script(self, path: str, head: bytes, depth: int) -> None:
        if not self._is_readable(path):
            reason = f"{path}: a script that cannot be read{self._who}"
            raise _fault(reason, f"chmod +r {path}")
        line = os.fsdecode(head[2:MAX_LINE].partition(b"\n")[0]).strip(" \t")
        interpreter, _, argument = line.replace("\t", " ").partition(" ")
        argument = argument.strip(" ")
        cure = "install it, or change the first line"
        if interpreter.endswith("\r") or argument.endswith("\r"):
            cure = "end its lines with LF alone"
        if not interpreter:
            raise _fault(f"{path}: no interpreter after #!", "write #!/bin/sh")
        if depth >= MAX_DEPTH:
            raise _fault(f"{path}: too many interpreters are scripts", cure)
        try:
            self.check(
                interpreter if "/" in interpreter else f"./{interpreter}",
                None,
                depth + 1,
            )
            wanted = _wanted_by_env(interpreter, argument)
            if wanted:
                self.check(wanted, self._environment.get("PATH"), depth + 1)
        except ProgramFault as fault:
            raise _fault(f"{path}: its interpreter: {fault.reason}", cure) from None

    def _is_readable(self, path: str) -> bool:
        with EffectiveUser(self._user_ids):
            return os.access(self._place(path), os.R_OK, effective_ids=True)

    def _check_loader(self, path: str, head: bytes) -> None:
        loader = loader_of(head)
        if loader and not os.path.exists(self._place(loader)):
            reason = f"{path}: its loader {loader}: {NO_FILE}"
            raise _fault(reason, "install the C library that it was built for")

    def _place(self, path: str) -> str:
        """Return the path as seen from this process."""
        if path.startswith("/") or self._directory is None:
            return path
        return f"{self._directory}/{path}"


def _fault(reason: str, cure: str) -> ProgramFault:
    return ProgramFault(printable(reason), printable(cure))


def _candidates(name: str, path: str | None) -> Iterator[str]:
    if "/" in name:
        yield name
        return
    for directory in (DEFAULT_PATH if path is None else path).split(":"):
        yield f"{directory or '.'}/{name}"


def _has_other_formats() -> bool:
    """Return True if the kernel may run further formats (binfmt_misc)."""
    try:
        return bool(set(os.listdir(BINFMT)) - {"register", "status"})
    except OSError:
        return False


def _wanted_by_env(interpreter: str, argument: str) -> str:
    """Return the program that `env` in a `#!` line searches in PATH, or nothing."""
    if os.path.basename(interpreter) != "env":
        return ""
    if not argument.startswith("-"):
        return argument
    if not argument.startswith("-S"):
        return ""
    words = [word for word in argument[2:].split() if "=" not in word]
    return words[0] if words and words[0][0] not in "-\"'$" else ""


def loader_of(head: bytes) -> str:
    """Return the loader that an ELF program names, or nothing (elf(5))."""
    order = ">" if head[5:6] == b"\2" else "<"
    if len(head) < 64 or head[4] not in ELF:
        return ""
    number, at, sizes, layout, first, size = ELF[head[4]]
    try:
        (table,) = struct.unpack_from(order + number, head, at)
        step, count = struct.unpack_from(f"{order}HH", head, sizes)
        for index in range(count):
            segment = struct.unpack_from(order + layout, head, table + step * index)
            if segment[0] == PT_INTERP:
                text = head[segment[first] : segment[first] + segment[size]]
                return os.fsdecode(text.partition(b"\0")[0])
    except struct.error:
        pass  # beyond what has been read
    return ""
