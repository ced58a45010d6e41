"""Drop-ins in which `chimirror-ctl limit` stores limits: systemd.unit(5).

A persistent drop-in lies in /etc. A temporary one lies in /run and holds until the
machine restarts. Its name sorts later, so it overrides the persistent one.

Environment= cannot override the EnvironmentFile= of the units, but a further
EnvironmentFile= can. So variables are stored in a file of their own.
"""

from __future__ import annotations

import os

from chimirror.ctl.messages import CommandError
from chimirror.host.safe_directory import SafeDirectory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from chimirror.ctl.paths import HostPaths

PERSISTENT_NAME, RUNTIME_NAME = "50-ctl", "60-ctl"
_HEAD = "# Written by chimirror-ctl(1), limit.\n"


class DropIn:
    """The settings of one unit in /etc or in /run.

    Args:
        runtime: Whether the drop-in lies in /run.
        section: The section of the unit file that holds the settings.
    """

    def __init__(
        self, host: HostPaths, unit: str, section: str, *, runtime: bool
    ) -> None:
        root = host.run if runtime else host.etc
        name = RUNTIME_NAME if runtime else PERSISTENT_NAME
        self._directory = f"{root}/systemd/system/{unit}.d"
        self._conf = f"{self._directory}/{name}.conf"
        self._env = f"{self._directory}/{name}.env"
        self._section = section
        self.settings = _read(self._conf)
        self.settings.pop("EnvironmentFile", None)
        self.variables = _read(self._env)

    def write(self) -> None:
        """Write both files. A file without content is removed.

        Without content at all, the directory is removed too if nothing else is in it.

        Raises:
            CommandError: A file cannot be written.
        """
        settings = dict(self.settings)
        if self.variables:
            settings["EnvironmentFile"] = self._env
        try:
            self._replace(self._env, "", self.variables)
            self._replace(self._conf, f"[{self._section}]\n", settings)
            if not settings:
                self._remove_directory()
        except PermissionError as error:
            text = f"{error.filename}: permission denied; set limits as root"
            raise CommandError(os.EX_NOPERM, text) from None
        except OSError as error:
            text = f"{error.filename}: {error.strerror}"
            raise CommandError(os.EX_CANTCREAT, text) from None

    def remove(self) -> None:
        """Remove both files. Other files in the directory stay."""
        self.settings.clear()
        self.variables.clear()
        self.write()

    def _remove_directory(self) -> None:
        try:
            os.rmdir(self._directory)
        except OSError:
            pass  # it holds other files, or does not exist

    def _replace(self, path: str, header: str, pairs: Mapping[str, str]) -> None:
        """Replace a file atomically, or remove it if there are no pairs."""
        file = os.path.basename(path)
        body = "".join(f"{name}={value}\n" for name, value in pairs.items())
        try:
            with SafeDirectory(self._directory, create=bool(pairs)) as directory:
                if pairs:
                    directory.replace(file, (_HEAD + header + body).encode())
                else:
                    directory.remove(file)
        except FileNotFoundError:
            if pairs:
                raise


def _read(path: str) -> dict[str, str]:
    try:
        with open(path, encoding="utf-8") as file:
            lines = file.read().splitlines()
    except OSError:
        return {}
    pairs = (line.partition("=") for line in lines if line[:1] not in ("#", "[", ""))
    return {name: value for name, _, value in pairs}
