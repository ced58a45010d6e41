"""Reads settings and variables of a unit from its properties: systemd.exec(5).

Each comes with its origin: the unit itself, or a persistent or runtime file.
"""

from __future__ import annotations

from chimirror.config import env_file, quantities

TYPE_CHECKING = False
if TYPE_CHECKING:
    Properties = dict[str, str]


def number(properties: Properties, name: str) -> tuple[float | None, str]:
    """Return a number and its origin. It is None where it says `infinity`."""
    text = properties.get(name, "")
    return int(text) if text.isdigit() else None, origin(properties, name)


def origin(properties: Properties, setting: str) -> str:
    """Return the origin of a setting. The last drop-in that has it wins."""
    found = "unit"
    for path in properties.get("DropInPaths", "").split():
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                if f"\n{setting}=" in "\n" + file.read():
                    found = "runtime" if path.startswith("/run/") else "persistent"
        except OSError:
            pass  # the drop-in has been removed
    return found


def variable(properties: Properties, name: str) -> tuple[float | None, str]:
    """Return value and origin of a variable. The last file that has it wins."""
    text, source = "", "unit"
    for word in properties.get("Environment", "").split():
        if word.startswith(f"{name}="):
            text = word.partition("=")[2]
    for line in properties.get("EnvironmentFiles", "").splitlines():
        path = line.partition(" (")[0]
        try:
            given = env_file.read_files([path])
        except ValueError:
            continue  # the file does not exist, or `check` reports its error
        if name in given:
            text = given[name]
            source = "runtime" if path.startswith("/run/") else "persistent"
    return value(text), source


def value(text: str) -> float | None:
    """Parse a number or a time. Both have the form of a time."""
    try:
        return quantities.parse_timeout(text)
    except ValueError:
        return None
