"""The life of a process that was forked to do one thing: it does it, and ends.

It never returns to what its parent was doing, whatever happens.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn


def live(run: Callable[[], int]) -> NoReturn:
    """In a forked child: end with the status that `run` returns, or as a bug does."""
    status = os.EX_SOFTWARE
    try:
        status = run()
    except BaseException:  # noqa: BLE001 (told, and the process ends)
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(status)
