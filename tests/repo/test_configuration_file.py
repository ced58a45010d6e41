"""systemd/chimirror.conf shows every setting with its default, and survives changes.

`make install` copies the file to /etc/chimirror. Tests on a machine are in
tests/systemd/test_installation.py.
"""

from __future__ import annotations

import re
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest

from chimirror.config import env_file, usage
from chimirror.config.options import ANY, OPTIONS, SERVER, SESSION, ZYGOTE
from chimirror.ctl import app_files
from chimirror.ctl.commands import set_limits

DIRECTORY = Path(__file__).parents[2] / "systemd"
TEXT = (DIRECTORY / "chimirror.conf").read_text()
# The units set the first ones, systemd passes sockets, and no service prints a text.
LEFT_OUT = {
    *(*set_limits.OPTIONS, "--user-range"),
    *(
        "--listen",
        "--metrics",
        "--agent",
        "--bind-ipv6-only",
        "--socket",
        "--socket-mode",
        "--help",
        "--version",
    ),
}


def unit_defaults() -> dict[str, str]:
    """Return the variables that the services set, those of the bridge last."""
    found: dict[str, str] = {}
    for path in sorted(DIRECTORY.glob("*.service")):
        lines = re.findall(r'^Environment="?(\w+)=(.*?)"?$', path.read_text(), re.M)
        found |= dict(lines)
    return found


def described(scope: int, programs: int) -> list[str]:
    """Return the lines of --help for the options of these programs and no others."""
    table = [
        option
        for option in OPTIONS
        if option.scope & programs == scope and option.name not in LEFT_OUT
    ]
    text = usage.render("chimirror-server", "", table)
    entries = text.partition("Options:\n")[2].partition("\n\n")[0]
    return [f"# {line}" for line in entries.splitlines()]


def test_every_variable_is_there_with_its_default() -> None:
    lines = TEXT.splitlines()
    assert all(line.startswith("#") for line in lines if line)
    shown = [line[1:] for line in lines if re.match(r"#\w+=", line)]
    found = env_file.parse("\n".join(shown), "chimirror.conf")
    assert found == unit_defaults()
    assert sorted(found) == sorted(app_files.VARIABLES)
    for before, line in pairwise(lines):
        if line[1:] in shown:
            assert re.match("# .*[.)]$", before), f"no explanation of {line}"


def test_every_option_is_there_as_in_help() -> None:
    wanted = [
        *described(SESSION, SESSION),
        *described(SERVER, SESSION),
        *described(ZYGOTE, ANY),
    ]
    found = [line for line in TEXT.splitlines() if line.startswith("#   ")]
    text = "\n".join(wanted)
    assert found == wanted, f"the options in systemd/chimirror.conf should be:\n{text}"


class Configuration:
    """A chimirror.conf below a directory, and the functions of setup for it."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "etc/chimirror/chimirror.conf"
        self.new = self.path.with_name("chimirror.conf.new")
        self._shipped = directory / "shipped"
        functions = (DIRECTORY / "setup").read_text().partition("\ncase ")[0]
        self._script = f"""{functions}
            conf='{self.path}' shipped='{self._shipped}'
            known='{directory}/known' list='{directory}/list'
            """

    def _run(self, function: str) -> str:
        argv = ["sh", "-c", f"{self._script}\n{function}"]
        return subprocess.run(argv, capture_output=True, check=True, text=True).stdout

    def install(self, text: str) -> str:
        self._shipped.write_text(text)
        return self._run("put_conf")

    def uninstall(self) -> None:
        self._run("remove_conf")


@pytest.fixture
def configuration(tmp_path: Path) -> Configuration:
    return Configuration(tmp_path)


def test_an_unchanged_file_is_replaced_and_removed(
    configuration: Configuration,
) -> None:
    assert not configuration.install("one\n")
    configuration.path.chmod(0o640)
    assert not configuration.install("two\n")
    assert configuration.path.read_text() == "two\n"
    assert configuration.path.stat().st_mode & 0o777 == 0o640
    configuration.uninstall()
    assert not configuration.path.parent.exists()


def test_a_changed_file_is_kept(configuration: Configuration) -> None:
    configuration.install("one\n")
    configuration.path.write_text("mine\n")
    assert not configuration.install("one\n")  # there is nothing new
    said = configuration.install("two\n")
    assert f"diff -u {configuration.path} {configuration.new}" in said
    assert configuration.path.read_text() == "mine\n"
    assert configuration.new.read_text() == "two\n"
    configuration.uninstall()
    assert list(configuration.path.parent.iterdir()) == [configuration.path]


def test_the_version_beside_is_removed_once_it_is_used(
    configuration: Configuration,
) -> None:
    configuration.path.parent.mkdir(parents=True)
    configuration.path.write_text("of an installation without a record\n")
    assert configuration.install("one\n")
    configuration.path.write_text("one\n")
    assert not configuration.install("one\n")
    assert not configuration.new.exists()


def test_a_removed_file_is_not_created_again(configuration: Configuration) -> None:
    configuration.install("one\n")
    configuration.path.unlink()
    assert "not created again" in configuration.install("two\n")
    assert not configuration.path.exists()


def test_a_link_of_the_operator_is_kept(configuration: Configuration) -> None:
    elsewhere = configuration.path.parents[2] / "elsewhere"
    elsewhere.write_text("one\n")
    configuration.path.parent.mkdir(parents=True)
    configuration.path.symlink_to(elsewhere)
    configuration.install("one\n")
    configuration.install("two\n")
    configuration.uninstall()
    assert configuration.path.readlink() == elsewhere
    assert elsewhere.read_text() == "one\n"
