"""Passes systemd's credentials on to a bridge that switches to another user.

LoadCredential= (systemd.exec(5)) makes files that only the unit's first user can read.
The bridge reads them before it switches to another user. Afterwards it writes them
where only the new user can read them: to a file system in memory, private to the unit.
"""

from __future__ import annotations

from chimirror.builtin_modules import environ_dict, os, set_environ
from chimirror.program import CREDENTIALS as VARIABLE
from chimirror.program import TLS_CREDENTIALS

MEMORY_DIRECTORY = "/dev/shm"  # noqa: S108  # private to the unit: TemporaryFileSystem=


def read_credentials() -> dict[str, bytes]:
    """Read the credentials for the application, by name. {} if there are none.

    Raises:
        OSError: The credentials cannot be read.
    """
    directory = environ_dict().get(VARIABLE)
    if not directory:
        return {}
    found = {}
    for name in os.listdir(directory):
        if name in TLS_CREDENTIALS:  # not for applications
            continue
        with open(f"{directory}/{name}", "rb") as file:
            found[name] = file.read()
    return found


def write_credentials(
    credentials: dict[str, bytes], parent: str = MEMORY_DIRECTORY
) -> None:
    """Write credentials for the current user, and set CREDENTIALS_DIRECTORY.

    Args:
        credentials: The contents by name.
        parent: The directory in which the directory of credentials is made.

    Raises:
        OSError: There is no space, or the directory exists.
    """
    if not credentials:
        return
    directory = f"{parent}/credentials-{os.getuid()}"
    os.mkdir(directory, 0o700)
    for name, secret in credentials.items():
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        fd = os.open(f"{directory}/{name}", flags, 0o400)
        with open(fd, "wb") as file:
            file.write(secret)
    os.chmod(directory, 0o500)
    set_environ(VARIABLE, directory)
