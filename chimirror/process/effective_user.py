"""Acts as another user for a moment, to see files as that user does: credentials(7).

The real and the saved user stay those of this process. So processes of the other user
can neither signal nor trace it meanwhile. The kernel sets fs.suid_dumpable with each
change of the user, and the former setting is restored.
"""

from __future__ import annotations

import os

from chimirror.process import children

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


class EffectiveUser:
    """Context in which this process has the effective ids of another user.

    Args:
        ids: the user, its primary group and its other groups. Empty: no change.

    Raises:
        OSError: This process may not become that user.
    """

    def __init__(self, ids: Sequence[int]) -> None:
        self._ids = ids
        self._user = os.geteuid()
        self._group = os.getegid()
        self._groups = os.getgroups()
        self._is_dumpable = True

    def __enter__(self) -> None:
        if not self._ids:
            return
        self._is_dumpable = children.is_dumpable()
        user, *groups = self._ids
        try:
            os.setgroups(groups)
            os.setegid(groups[0])
            os.seteuid(user)
        except OSError:
            self.__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        if not self._ids:
            return
        os.seteuid(self._user)
        os.setegid(self._group)
        if os.getgroups() != self._groups:
            os.setgroups(self._groups)
        children.set_dumpable(self._is_dumpable)
