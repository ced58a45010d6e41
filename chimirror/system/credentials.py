"""Secrets that systemd hands to a unit, for an application that is another user.

LoadCredential= (systemd.exec(5)) makes files that only the user can read that the unit
starts as. Who becomes another user reads them before, and writes them afterwards where
that user alone can read them: on a file system in memory, which is the unit's own.
"""

from __future__ import annotations

from chimirror.system.lean import environment, os, set_variable

VARIABLE = "CREDENTIALS_DIRECTORY"
PLACE = "/dev/shm"  # noqa: S108  # private to the unit: TemporaryFileSystem=


def read() -> dict[str, bytes]:
    """The credentials of our unit, by name; none where there are none.

    Raises:
        OSError: there are, and they cannot be read.
    """
    directory = environment().get(VARIABLE)
    if not directory:
        return {}
    found = {}
    for name in os.listdir(directory):
        with open(f"{directory}/{name}", "rb") as file:
            found[name] = file.read()
    return found


def hand_down(credentials: dict[str, bytes], place: str = PLACE) -> None:
    """Write them for the user that we are now, whom CREDENTIALS_DIRECTORY then leads.

    Raises:
        OSError: there is no room for them, or the place is taken.
    """
    if not credentials:
        return
    directory = f"{place}/credentials-{os.getuid()}"
    os.mkdir(directory, 0o700)
    for name, secret in credentials.items():
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        fd = os.open(f"{directory}/{name}", flags, 0o400)
        with open(fd, "wb") as file:
            file.write(secret)
    os.chmod(directory, 0o500)
    set_variable(VARIABLE, directory)
