"""Runs one function in a forked child and exits, whatever happens.

The child never returns to the code of its parent. Knows no loop.
"""

from __future__ import annotations

import mmap
import os

from chimirror.log.stderr import report_exception

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn


def run_child(run: Callable[[], int]) -> NoReturn:
    """Exit with the status that `run` returns, or with 70 on an internal error."""
    status = os.EX_SOFTWARE
    try:
        status = run()
    except BaseException as error:  # noqa: BLE001 (told, and the process ends)
        report_exception(error)
    finally:
        os._exit(status)


def hide_from_children(memory: mmap.mmap) -> None:
    """Give processes that are forked from now on no access to shared memory (Linux)."""
    if hasattr(mmap, "MADV_DONTFORK"):
        memory.madvise(mmap.MADV_DONTFORK)
