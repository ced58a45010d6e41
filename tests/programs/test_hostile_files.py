"""Application files of other users: they harm neither their neighbours nor root.

The other user plants links and files before root runs chimirror-ctl on the directory.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from app_servers import AppServer, bridges, servers
from serve import LAUNCH, ROOT

OTHER = 65534
only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
COMMAND = 'command = ["cat"]\n'
HOSTILE = {
    "list": COMMAND + "x = [\n" + "1,\n" * 800 + "]\n=",
    "dots": COMMAND + "x" + ".x" * 20_000 + " = 1",
    "deep": COMMAND + "x = " + "[" * 60_000,
    "digits": COMMAND + "x = " + "9" * 60_000,
    "large": COMMAND + "#" * (1 << 20),
    "chain": COMMAND
    + "[interface.send.schema.definitions]\n"
    + "".join(f'a{i}.items."$ref" = "#/definitions/a{i + 1}"\n' for i in range(1000))
    + "a1000.const = 99999999999999999999\n",
    "fifo": COMMAND + "env-file = '{directory}/pipe'\n",
    "quotes": COMMAND + "env-file = '{directory}/variables'\n",
    "bytes": COMMAND + "x = '\udcff'",
}


def plant(directory: Path) -> None:
    """Write the hostile files, two of them with files of variables."""
    for name, text in HOSTILE.items():
        content = text.replace("{directory}", str(directory))
        (directory / f"{name}.toml").write_bytes(os.fsencode(content))
    os.mkfifo(directory / "pipe")
    (directory / "variables").write_text(f'A="{"x" * (1 << 20)}\n')
    (directory / "good.toml").write_text(
        'command = ["sh", "-c", "echo good; cat"]\nframing = "lines"\n'
    )


def ctl(*words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    argv = [*LAUNCH, "chimirror.ctl.main", *words]
    env = os.environ | {"PYTHONPATH": ROOT}
    return subprocess.run(
        argv, env=env, cwd=cwd, capture_output=True, text=True, timeout=200, check=False
    )


@pytest.mark.parametrize("way", [bridges, servers])
def test_hostile_files_leave_their_neighbours_alone(
    way: Callable[..., AbstractContextManager[AppServer]], tmp_path: Path
) -> None:
    plant(tmp_path)
    with way(tmp_path, "--framing", "lines") as served:
        for name in HOSTILE:
            assert served.ask(f"/{name}").status == 500, name
            assert served.first("/good") == b"good"
        with served.connect() as peer:
            peer.send_raw(
                b"GET /.well-known/chimirror HTTP/1.1\r\nHost: localhost\r\n\r\n"
            )
            found = json.loads(peer.refusal().body)["applications"]
            assert [entry["name"] for entry in found] == ["good"]


def test_hostile_files_are_found(tmp_path: Path) -> None:
    plant(tmp_path)
    done = ctl("check", "--json", "--apps", str(tmp_path))
    assert done.returncode == os.EX_CONFIG, done.stderr
    bad = {
        finding["about"].removeprefix("application ")
        for finding in json.loads(done.stdout)
        if finding["verdict"] == "bad"
    }
    assert bad == {*HOSTILE}


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """A directory of another user beside a file of root, which the user wants."""
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim/one.toml").write_text("kept")
    (tmp_path / "theirs/apps").mkdir(parents=True)
    (tmp_path / "theirs/apps/one.toml").write_text(COMMAND)
    for path in (tmp_path / "theirs").rglob("*"):
        os.chown(path, OTHER, OTHER)
    os.chown(tmp_path / "theirs", OTHER, OTHER)
    return tmp_path / "theirs/apps"


def plant_link(path: Path, target: str) -> None:
    """Make a link that the other user owns."""
    path.symlink_to(target)
    os.lchown(path, OTHER, OTHER)


def victim(theirs: Path) -> dict[str, str]:
    place = theirs.parent.parent / "victim"
    return {path.name: path.read_text() for path in place.iterdir()}


@only_root
def test_a_check_writes_nothing(theirs: Path) -> None:
    plant_link(theirs / ".compiled", "../../victim")
    before = theirs.stat()
    assert ctl("check", "--apps", str(theirs)).returncode == os.EX_OK
    assert ctl("manifest", "--apps", str(theirs), "one").returncode == os.EX_OK
    assert theirs.stat().st_mtime_ns == before.st_mtime_ns
    assert victim(theirs) == {"one.toml": "kept"}


@only_root
def test_add_follows_no_planted_name(theirs: Path) -> None:
    for name in (".new.new", "new.toml.new", ".new.toml.new"):
        plant_link(theirs / name, "../../victim/one.toml")
    plant_link(theirs / "taken.toml", "../../victim/other")
    assert ctl("add", "new", "--apps", str(theirs), "--", "cat").returncode == 0
    assert (theirs / "new.toml").read_text() == COMMAND
    done = ctl("add", "taken", "--apps", str(theirs), "--", "cat")
    assert done.returncode == os.EX_CANTCREAT
    assert victim(theirs) == {"one.toml": "kept"}


@only_root
@pytest.mark.parametrize("target", ["{}/victim", "../../victim"])
def test_a_planted_directory_leads_nowhere(target: str, theirs: Path) -> None:
    link = theirs.parent / "link"
    plant_link(link, target.format(theirs.parent.parent))
    for words in (
        ("remove", "one", "--apps", str(link)),
        ("add", "two", "--apps", str(link), "--", "cat"),
    ):
        done = ctl(*words)
        assert done.returncode == os.EX_OSERR
        assert "user 65534 owns a part of this path" in done.stderr
        assert done.stderr.endswith(
            "; write the path without links, or give all parts one owner\n"
        )
    assert victim(theirs) == {"one.toml": "kept"}


@only_root
def test_remove_removes_a_link_and_not_its_target(theirs: Path) -> None:
    plant_link(theirs / "two.toml", "../../victim/one.toml")
    assert ctl("remove", "two", "--apps", str(theirs)).returncode == 0
    assert victim(theirs) == {"one.toml": "kept"}
    assert os.listdir(theirs) == ["one.toml"]
