"""Paths of the runtime directory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from chimirror.host import runtime_dir


@pytest.mark.parametrize(
    ("environ", "uid", "place"),
    [
        ({}, 0, "/run/chimirror"),
        ({"XDG_RUNTIME_DIR": "/run/user/0"}, 0, "/run/chimirror"),
        ({"XDG_RUNTIME_DIR": "/run/user/7"}, 7, "/run/user/7/chimirror"),
        ({"XDG_RUNTIME_DIR": "/run/user/7", "INVOCATION_ID": "1"}, 7, "/run/chimirror"),
        ({"XDG_RUNTIME_DIR": "relative"}, 7, None),
        ({}, 7, None),
    ],
)
def test_directory_of_a_process(
    environ: dict[str, str], uid: int, place: str | None
) -> None:
    assert runtime_dir.directory(environ, uid) == place


@pytest.mark.parametrize(
    ("name", "may"),
    [
        ("0123456789abcdef" * 2, True),
        ("0123456789abcdef" * 2 + "\n", False),
        ("0123456789abcdef", False),
        ("0123456789ABCDEF" * 2, False),
        ("../" + "0" * 29, False),
        ("", False),
    ],
)
def test_session_file_names(name: str, may: bool) -> None:
    assert runtime_dir.is_session(name) == may


def test_accessible_directories(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own"
    monkeypatch.setattr(runtime_dir, "SYSTEM", str(tmp_path / "system"))
    environ = {"XDG_RUNTIME_DIR": str(own)}
    assert runtime_dir.all_directories(environ, 7) == []
    (own / "chimirror").mkdir(parents=True)
    assert runtime_dir.all_directories(environ, 7) == [str(own / "chimirror")]
    assert runtime_dir.all_directories(environ, 0) == []
    (tmp_path / "system").mkdir()
    assert runtime_dir.all_directories(environ, 7) == [
        str(tmp_path / "system"),
        str(own / "chimirror"),
    ]
    assert runtime_dir.all_directories({}, 7) == [str(tmp_path / "system")]


only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
OTHER = 65534


@only_root
def test_the_directory_of_another_user_is_not_used(tmp_path: Path) -> None:
    """sudo(8) may keep XDG_RUNTIME_DIR, and a directory may be in /tmp."""
    environ = {"XDG_RUNTIME_DIR": str(tmp_path)}
    path = tmp_path / "chimirror"
    assert runtime_dir.directory(environ, 7) == str(path)
    path.mkdir()
    assert runtime_dir.directory(environ, 7) == str(path)
    os.chown(path, 7, 7)
    assert runtime_dir.directory(environ, 7) == str(path)
    os.chown(path, OTHER, OTHER)
    assert runtime_dir.directory(environ, 7) is None
    path.rmdir()
    path.symlink_to(tmp_path)
    assert runtime_dir.directory(environ, 7) is None


def test_links_among_dead_servers_are_not_followed(tmp_path: Path) -> None:
    """Every application of a server could make them, for a server of root."""
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim/file").touch()
    servers = tmp_path / "servers"
    servers.mkdir()
    dead = 10**8  # beyond all pids
    (servers / f"{dead}").symlink_to("../victim")
    (servers / f"{dead + 1}").mkdir()
    (servers / f"{dead + 1}/0").symlink_to("../../victim/file")
    runtime_dir.remove_dead_servers(f"{servers}/{os.getpid()}")
    assert os.listdir(servers) == [f"{dead}"]
    assert os.listdir(tmp_path / "victim") == ["file"]


@pytest.mark.parametrize("kind", ["link", "foreign"])
def test_a_planted_server_directory_is_refused(kind: str, tmp_path: Path) -> None:
    server = tmp_path / "servers/1"
    runtime_dir.make_server_directory(str(server), os.geteuid())
    runtime_dir.make_server_directory(str(server), os.geteuid())
    uid = os.geteuid()
    if kind == "link":
        server.rmdir()
        server.symlink_to(tmp_path)
    else:
        uid += 1
    with pytest.raises(FileExistsError, match="another user has made it"):
        runtime_dir.make_server_directory(str(server), uid)


def test_only_session_files_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime_dir, "SYSTEM", str(tmp_path))
    (tmp_path / "sessions").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / f"sessions/{'0' * 32}").touch()
    runtime_dir.remove_session_files("../file")
    runtime_dir.remove_session_files("0" * 32)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "sessions"]


ODD = ["9" * 30, "4294967296", "\u0663", "\xb2", "-1", "x"]


@pytest.mark.parametrize("name", ODD)
def test_a_name_that_is_no_pid_is_left_alone(name: str, tmp_path: Path) -> None:
    """Applications of a server can make it before the next server starts."""
    assert not runtime_dir.is_server(name)
    (tmp_path / name).mkdir()
    runtime_dir.remove_dead_servers(f"{tmp_path}/{os.getpid()}")
    assert os.listdir(tmp_path) == [name]
