"""Names this process in ps(1), top(1) and `systemctl status`.

Without it they show the interpreter and its options. The kernel shows as command line
the memory in which execve(2) has put the arguments (proc(5), cmdline), so shorter
arguments fit into it. Python has copied them before. Knows nothing of sessions.
"""

from __future__ import annotations

import sys

from chimirror.process import children

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

ARG_START, ARG_END = 45, 46  # in /proc/self/stat, counted after the name


def show_as(program: str, arguments: Sequence[str] = ()) -> None:
    """Show this process as a program with these arguments.

    Nothing is changed on another system than Linux, or without proc(5).

    Args:
        program: The name of the program, with the role of this process if it has
            several. Its first 15 bytes become the short name.
        arguments: The rest of the command line. What does not fit is cut.
    """
    encoding = sys.getfilesystemencoding()
    words = [word.encode(encoding, "surrogateescape") for word in (program, *arguments)]
    children.set_name(words[0])
    try:
        with open("/proc/self/stat", "rb", buffering=0) as file:
            fields = file.read().rpartition(b")")[2].split()
        start, end = int(fields[ARG_START]), int(fields[ARG_END])
    except (OSError, IndexError):
        return
    size = end - start
    # If the last byte were not 0, the kernel would go on with the environment.
    text = b"\0".join(words)[: size - 1].ljust(size, b"\0")
    if sys.platform == "linux" and start and size > 0:
        _write(start, text)


def _write(address: int, content: bytes) -> None:
    """Overwrite memory of this process, which a file of proc(5) might not permit."""
    try:
        import _ctypes
    except ImportError:  # a Python built without libffi
        return

    class Word(_ctypes._SimpleCData):  # type: ignore[type-arg]  # noqa: SLF001
        """A word of the machine. An int would be passed as a C int."""

        _type_ = "P"

    ourselves = _ctypes.dlopen(None, 0)  # type: ignore[arg-type]  # dlopen(3): NULL
    function = _ctypes.dlsym(ourselves, "memcpy")
    _ctypes.call_function(function, (Word(address), content, Word(len(content))))
