"""The drop-ins in which `chimirror-ctl limit` keeps what it has set; systemd.unit(5).

One that lasts in /etc, and one until the machine restarts in /run, whose name is later,
so that it wins. Environment= cannot win over the EnvironmentFile= of the units; a
further EnvironmentFile= does, so that variables stand in a file of their own.
"""

from __future__ import annotations

import os

from chimirror.ctl.failure import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from chimirror.ctl.host import Host

LASTING, PASSING = "50-ctl", "60-ctl"
_HEAD = "# Written by chimirror-ctl(1), limit.\n"


class DropIn:
    """The settings of one unit in one of the two places.

    Args:
        runtime: the one in /run.
        section: of the unit file, in which they stand.
    """

    def __init__(self, host: Host, unit: str, section: str, *, runtime: bool) -> None:
        top = host.run if runtime else host.etc
        name = PASSING if runtime else LASTING
        self._directory = f"{top}/systemd/system/{unit}.d"
        self._conf = f"{self._directory}/{name}.conf"
        self._env = f"{self._directory}/{name}.env"
        self._section = section
        self.settings = _read(self._conf)
        self.settings.pop("EnvironmentFile", None)
        self.variables = _read(self._env)

    def write(self) -> None:
        """Write what there is; what is empty is taken away."""
        settings = dict(self.settings)
        if self.variables:
            settings["EnvironmentFile"] = self._env
        try:
            self._put(self._env, "", self.variables)
            self._put(self._conf, f"[{self._section}]\n", settings)
        except PermissionError as error:
            text = f"{error.filename}: permission denied; set limits as root"
            raise Failure(os.EX_NOPERM, text) from None
        except OSError as error:
            text = f"{error.filename}: {error.strerror}"
            raise Failure(os.EX_CANTCREAT, text) from None

    def remove(self) -> None:
        """Take all of it away; what else stands there stays."""
        self.settings.clear()
        self.variables.clear()
        self.write()
        try:
            os.rmdir(self._directory)
        except OSError:
            pass  # there is more in it, or it is not there

    def _put(self, path: str, head: str, pairs: Mapping[str, str]) -> None:
        """A file with these lines, all of it at once; none where there are none."""
        if not pairs:
            if os.path.exists(path):
                os.unlink(path)
            return
        os.makedirs(self._directory, exist_ok=True)
        body = "".join(f"{name}={value}\n" for name, value in pairs.items())
        with open(f"{path}.new", "w", encoding="utf-8") as file:
            file.write(_HEAD + head + body)
        os.replace(f"{path}.new", path)


def _read(path: str) -> dict[str, str]:
    try:
        with open(path, encoding="utf-8") as file:
            lines = file.read().splitlines()
    except OSError:
        return {}
    pairs = (line.partition("=") for line in lines if line[:1] not in ("#", "[", ""))
    return {name: value for name, _, value in pairs}
