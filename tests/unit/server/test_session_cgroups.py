"""Tests the limits in cgroups of sessions, in a tree of plain files."""

from __future__ import annotations

from pathlib import Path

import pytest

from chimirror.apps import cgroup_limits
from chimirror.config import parser
from chimirror.host import cgroup_tree
from chimirror.process.spawner import Program, SpawnRequest
from chimirror.server.session_cgroups import OPEN_GROUPS, SessionCgroups
from loops import event_loop
from spawner_fixture import Client

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

OPTIONS = [
    *("--session-memory-max=64M", "--session-tasks-max=9", "--session-cpu-weight=50"),
    "cat",
]
FILES = {
    "memory.max": str(64 << 20),
    "memory.oom.group": "1",
    "pids.max": "9",
    "cpu.weight": "50",
}
PLAIN = Program(("cat",))
LIMITED = Program(("cat",), limits=FILES)


class FakeSpawner:
    """Notes the group of each start."""

    def __init__(self) -> None:
        self.started: list[str] = []

    def start(self, request: SpawnRequest) -> None:
        self.started.append(Path(request.cgroup).name)

    def transfer(self, *call: object) -> None:
        """Never called."""

    def signal(self, *call: object) -> bool:
        """Never called."""
        return True

    def end_session(self, *call: object) -> None:
        """Do nothing: there is no process."""


class Scene:
    """The groups of a worker, as directories with plain files."""

    def __init__(self, groups: SessionCgroups, spawner: FakeSpawner, path: Path):
        self.groups, self.spawner, self.path = groups, spawner, path

    def start(self, session: str, program: Program) -> Client:
        client = Client.__new__(Client)
        client.session, client.failed = session, ""
        self.groups.start(SpawnRequest(client, program, {}, keep_stderr=False))
        return client

    def written(self, group: str, file: str) -> str:
        """Return the content. A longer one of before is overwritten, not cut."""
        return (self.path / group / file).read_text().rstrip(".")


def make(path: str) -> None:
    group = Path(path)
    group.mkdir()
    for file in FILES:
        (group / file).write_text("." * 9)
    group.joinpath("cgroup.events").write_text("populated 0\n")
    group.joinpath("cgroup.kill").touch()
    group.joinpath("memory.events").write_text("oom 0\noom_kill 0\n")
    group.joinpath("cgroup.controllers").write_text("cpu memory pids\n")
    group.joinpath("cgroup.subtree_control").touch()


def remove(path: str) -> bool:
    for file in Path(path).iterdir():
        file.unlink()
    Path(path).rmdir()
    return True


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    monkeypatch.setattr(cgroup_tree, "make", make)
    monkeypatch.setattr(cgroup_tree, "remove", remove)
    make(f"{tmp_path}/base")
    make(f"{tmp_path}/base/server")
    path, spawner = tmp_path / "base" / "server" / "worker", FakeSpawner()
    with event_loop() as loop:
        groups = SessionCgroups(loop, spawner, str(path), {})
        yield Scene(groups, spawner, path)
        monkeypatch.setattr(cgroup_tree, "remove", lambda path: True)
        groups.remove()


def test_options_are_files() -> None:
    assert cgroup_limits(parser.parse_server(OPTIONS)) == FILES
    assert cgroup_limits(parser.parse_server(["cat"])) == {}


def test_controllers_are_enabled_from_the_top(scene: Scene) -> None:
    groups = (scene.path.parent.parent, scene.path.parent, scene.path)
    files = [group / "cgroup.subtree_control" for group in groups]
    scene.groups.enable(["memory.max", "memory.oom.group"])
    assert [file.read_text() for file in files] == ["+memory"] * 3
    files[1].write_text("cpu memory")  # by another worker
    scene.groups.enable(["memory.max", "cpu.weight"])
    assert [file.read_text() for file in files] == ["+cpuory", "cpu memory", "+cpuory"]


def test_a_missing_controller_is_named_with_its_option(scene: Scene) -> None:
    scene.path.parent.joinpath("cgroup.controllers").write_text("cpu pids\n")
    scene.groups.enable(["pids.max"])
    text = f"^--session-memory-max: {scene.path.parent} has no controller memory of "
    with pytest.raises(ValueError, match=text):
        scene.groups.enable(FILES)


def test_each_limited_session_has_a_new_group(scene: Scene) -> None:
    for number in range(2):
        scene.start(f"limited {number}", LIMITED)
        group = scene.spawner.started[-1]
        assert group == str(OPEN_GROUPS + number)
        path = scene.groups.limited_path(f"limited {number}")
        assert path == str(scene.path / group)
        for file, text in FILES.items():
            assert scene.written(group, file) == text
        scene.groups.end_session(0, f"limited {number}", survivors=False)
        assert not (scene.path / group).exists()
    scene.start("plain", PLAIN)
    scene.groups.end_session(0, "plain", survivors=False)
    scene.start("plain", PLAIN)
    assert scene.spawner.started[2:] == ["0", "0"]
    assert scene.groups.limited_path("plain") == ""
    assert scene.written("0", "memory.max") == ""


def test_a_session_whose_memory_has_run_out(scene: Scene) -> None:
    for session in ("a", "b"):
        scene.start(session, LIMITED)
    group = scene.path / scene.spawner.started[0]
    group.joinpath("memory.events").write_text("oom 1\noom_kill 2\n")
    scene.groups.end_session(0, "b", survivors=False)
    assert scene.groups.out_of_memory == ""
    scene.groups.end_session(0, "a", survivors=False)
    assert scene.groups.out_of_memory == "a"


def test_a_limit_that_cannot_be_set(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program is not started without it, and its group is removed."""
    before = {*scene.path.iterdir()}
    limits = Program(("cat",), limits={"memory.max": "1", "missing.max": "1"})
    client = scene.start("a", limits)
    assert "the cgroup of the session: No such file" in client.failed
    assert scene.spawner.started == []
    assert {*scene.path.iterdir()} == before
    scene.groups.end_session(0, "a", survivors=False)
