"""Finding and reading application files: nothing leads astray, nothing goes stale."""

from __future__ import annotations

import marshal
import os
import posix
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chimirror import appfile, apptoml
from chimirror.appfile import BadFile, is_name, read

TEXT = 'command = ["cat"]\n'
NOBODY = 65534
ROOT = os.geteuid() == 0


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "apps"
    path.mkdir()
    (path / "cat.toml").write_text(TEXT)
    return path


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The texts that TOML had to be asked about."""
    texts: list[bytes] = []
    original = apptoml.parse

    def parse(text: bytes) -> appfile.Fields:
        texts.append(text)
        return original(text)

    monkeypatch.setattr(apptoml, "parse", parse)
    return texts


def commands(directory: Path, name: str = "cat") -> object:
    found = read(str(directory), name)
    return found and found.fields["command"]


def compiled(directory: Path, name: str = "cat") -> Path:
    """What is kept of a file that has just been read."""
    source = read(str(directory), name)
    assert source
    assert appfile.compile_(str(directory), source)
    return directory / ".compiled" / name


# Names


@pytest.mark.parametrize("name", ["a", "A-1_b.c", "0", "x" * 64, "a..b", "toml.toml"])
def test_names(name: str) -> None:
    assert is_name(name)


ODD = """ .. . .. ../cat ./cat cat/ cat/../cat /cat cat/cat .cat -cat _cat cat\0 \0
    %2e%2e %2e cat%00 c\xe4t cat\n ca\tt ~ * ? [a] .compiled .compiled/cat""".split(" ")


@pytest.mark.parametrize("name", ["", *ODD, "x" * 65, "x" * 5000, "..", "../apps/cat"])
def test_other_texts_never_reach_a_file(
    name: str, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(appfile, "_open", pytest.fail)
    assert not is_name(name)
    assert read(str(directory), name) is None


@given(st.text())
def test_a_name_is_one_component_of_a_path(name: str) -> None:
    if is_name(name):
        assert os.path.normpath(f"/a/{name}") == f"/a/{name}"
        assert len(os.fsencode(name)) <= 64


def test_there_may_be_none(directory: Path) -> None:
    assert read(str(directory), "dog") is None
    assert read(str(directory / "none"), "cat") is None


def odd_file(path: Path, kind: str) -> None:
    if kind == "link":
        path.symlink_to(path.with_name("cat.toml"))
    elif kind == "dangling":
        path.symlink_to("/no/such/file")
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    elif kind == "large":
        path.write_text(TEXT + "#" * (1 << 20))
    else:
        os.symlink("/dev/zero", path)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("link", "a symbolic link; make it a regular file"),
        ("dangling", "a symbolic link; make it a regular file"),
        ("device", "a symbolic link; make it a regular file"),
        ("fifo", "not a regular file"),
        ("directory", "not a regular file"),
        ("large", "over 1 MiB; an application file is a short text"),
    ],
)
def test_what_is_no_regular_file(kind: str, reason: str, directory: Path) -> None:
    odd_file(directory / "odd.toml", kind)
    with pytest.raises(BadFile) as caught:
        read(str(directory), "odd")
    assert str(caught.value) == f"odd.toml: {reason}"
    assert commands(directory) == ("cat",)


@pytest.fixture
def as_nobody(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """In the directory, as a user for whom modes count."""
    monkeypatch.chdir(directory)
    if ROOT:
        os.setegid(NOBODY)
        os.seteuid(NOBODY)
    yield
    if ROOT:
        os.seteuid(0)
        os.setegid(0)


@pytest.fixture
def closed(directory: Path) -> Path:
    path = directory / "closed.toml"
    path.write_text(TEXT)
    path.chmod(0)
    return path


@pytest.mark.usefixtures("closed", "as_nobody")
def test_what_may_not_be_read() -> None:
    with pytest.raises(BadFile, match=r"closed\.toml: Permission denied"):
        read(".", "closed")


# What is kept


def test_what_was_read_is_kept(directory: Path, parsed: list[bytes]) -> None:
    assert commands(directory) == ("cat",)
    compiled(directory)
    assert len(parsed) == 2
    source = read(str(directory), "cat")
    assert source
    assert source.is_compiled
    assert source.fields == {"command": ("cat",)}
    assert len(parsed) == 2


def test_everything_a_file_can_say_is_kept(directory: Path) -> None:
    (directory / "cat.toml").write_text(
        TEXT + "framing = 'lines'\nidle-timeout = 'off'\nping-timeout = 1.5\n"
        "env = { A = 'ü' }\nmax-sessions = 3\nenv-file = []\n"
        "[interface]\ntitle = 'x'\n[interface.send]\n"
        "schema = { type = 'object', required = ['a'] }\n"
        "examples = [{ a = [1, true] }]\n"
    )
    before = read(str(directory), "cat")
    compiled(directory)
    after = read(str(directory), "cat")
    assert before
    assert after
    assert (before.is_compiled, after.is_compiled) == (False, True)
    assert before.fields == after.fields


def test_a_changed_file_is_read_anew(directory: Path, parsed: list[bytes]) -> None:
    """However alike the two look: of one size, of the same times, in the same inode."""
    kept = compiled(directory)
    before = (directory / "cat.toml").stat()
    (directory / "cat.toml").write_text('command = ["dog"]\n')
    os.utime(directory / "cat.toml", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert commands(directory) == ("dog",)
    assert len(parsed) == 2
    os.utime(kept)
    assert commands(directory) == ("dog",)
    (directory / "cat.toml").write_text(TEXT)
    assert commands(directory) == ("cat",)
    assert len(parsed) == 3


def test_what_another_version_kept_is_not_used(
    directory: Path, parsed: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled(directory)
    monkeypatch.setattr(appfile, "_MARK", b"chimirror 2 x\n")
    assert commands(directory) == ("cat",)
    assert len(parsed) == 2


def forged(directory: Path) -> Path:
    """As if it had been made of our text, and with another command."""
    kept = compiled(directory)
    fields = {"command": ("evil",)}
    kept.write_bytes(appfile._MARK + marshal.dumps((TEXT.encode(), fields)))
    assert commands(directory) == ("evil",)  # for who could write it could write ours
    return kept


@pytest.mark.parametrize("mode", [0o666, 0o664, 0o646, 0o777, 0o4666])
def test_what_others_can_write_is_not_trusted(mode: int, directory: Path) -> None:
    forged(directory).chmod(mode)
    assert commands(directory) == ("cat",)


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o400, 0o444])
def test_what_only_the_owner_can_write_is(mode: int, directory: Path) -> None:
    forged(directory).chmod(mode)
    assert commands(directory) == ("evil",)


def test_a_group_that_can_write_both_is_trusted(directory: Path) -> None:
    kept = forged(directory)
    kept.chmod(0o664)
    (directory / "cat.toml").chmod(0o664)
    assert commands(directory) == ("evil",)


@pytest.mark.skipif(not ROOT, reason="only root gives files away")
def test_what_belongs_to_others_is_not_trusted(directory: Path) -> None:
    kept = forged(directory)
    os.chown(kept, NOBODY, -1)
    assert commands(directory) == ("cat",)
    os.chown(directory / "cat.toml", NOBODY, -1)
    assert commands(directory) == ("evil",)
    os.chown(kept, 0, -1)  # root's is trusted by everybody
    assert commands(directory) == ("evil",)
    for path in (kept, directory / "cat.toml"):
        path.chmod(0o664)
    os.chown(kept, -1, NOBODY)
    assert commands(directory) == ("cat",)


def test_a_link_or_a_fifo_in_its_place_is_not_followed(directory: Path) -> None:
    kept = forged(directory)
    os.rename(kept, kept.with_name("other"))
    kept.symlink_to(kept.with_name("other"))
    assert commands(directory) == ("cat",)
    kept.unlink()
    os.mkfifo(kept)
    assert commands(directory) == ("cat",)


FLIPS = st.dictionaries(st.integers(0, 199), st.integers(1, 255), max_size=3)


@given(cut=st.integers(0, 200), flips=FLIPS)
def test_what_is_broken_is_not_used(cut: int, flips: dict[int, int]) -> None:
    """As a full disk leaves it; (marshal itself has to do with what only we write)."""
    source = appfile.Source("cat", TEXT.encode(), os.stat(__file__))
    data = bytearray(
        appfile._MARK + marshal.dumps((source.text, {"command": ("cat",)}))
    )
    head = len(appfile._MARK)
    for place, flip in flips.items():
        if place < head:
            data[place] ^= flip
    broken = bytes(data[: min(cut, len(data) - 1)])
    assert appfile._load(broken, source) is None
    if any(place < head for place in flips):
        assert appfile._load(bytes(data), source) is None


@pytest.mark.usefixtures("as_nobody")
def test_who_may_not_write_there_goes_without() -> None:
    source = read(".", "cat")
    assert source
    if ROOT:
        assert not appfile.compile_(".", source)
        assert os.listdir(".") == ["cat.toml"]
    source.status = os.stat("/proc/self/status")
    assert not appfile.compile_("/proc", source)


def test_for_whom_it_is_readable(directory: Path) -> None:
    """For whom the file is: there may be secrets in it."""
    for mode, kept in ((0o600, 0o600), (0o644, 0o644), (0o666, 0o644), (0o440, 0o440)):
        (directory / "cat.toml").chmod(mode)
        path = compiled(directory)
        assert stat.S_IMODE(path.stat().st_mode) == kept
        assert os.listdir(directory / ".compiled") == ["cat"]
    assert stat.S_IMODE((directory / ".compiled").stat().st_mode) == 0o755


@pytest.mark.skipif(not ROOT, reason="only root gives files away")
def test_root_writes_it_for_the_owner(directory: Path) -> None:
    for path in (directory, directory / "cat.toml"):
        os.chown(path, NOBODY, NOBODY)
    path = compiled(directory)
    assert (path.stat().st_uid, path.stat().st_gid) == (NOBODY, NOBODY)
    assert path.parent.stat().st_uid == NOBODY


def test_one_that_was_killed_while_it_wrote(directory: Path) -> None:
    compiled(directory).unlink()
    left = directory / ".compiled" / f".cat.{os.getpid()}"
    left.write_bytes(b"half")
    source = read(str(directory), "cat")
    assert source
    assert not appfile.compile_(str(directory), source)
    assert appfile.compile_(str(directory), source)
    assert os.listdir(directory / ".compiled") == ["cat"]


def test_without_room_nothing_is_left(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = read(str(directory), "cat")
    assert source
    monkeypatch.setattr(posix, "write", lambda fd, data: 3)
    assert not appfile.compile_(str(directory), source)
    assert os.listdir(directory / ".compiled") == []
