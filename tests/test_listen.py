"""Listeners on real sockets: options, errors, and the life of a Unix path."""

from __future__ import annotations

import _socket
import errno
import fcntl
import os
import socket
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from chimirror.system import listen
from chimirror.system.listen import Listener, ListenError, inherited

Opener = Callable[..., list[Listener]]


@pytest.fixture
def opener() -> Iterator[Opener]:
    """`open_all` whose listeners go when the test ends."""
    opened: list[Listener] = []

    def open_all(*texts: str, mode: int = 0o600) -> list[Listener]:
        found = listen.open_all(texts, mode)
        opened.extend(found)
        return found

    yield open_all
    for listener in opened:
        listener.remove()


def answers(listener: Listener) -> bool:
    """Whether a client that connects to the listener's address arrives there."""
    family = socket.AF_UNIX if listener.path else listener.family
    with socket.socket(family) as client, socket.socket(fileno=listener.fd) as server:
        client.connect(listener.path or server.getsockname())
        connection, _ = server.accept()
        with connection:
            client.sendall(b"x")
            connection.settimeout(10)
            got = connection.recv(1) == b"x"
        server.detach()
    return got


def options(listener: Listener, *wanted: tuple[int, int]) -> list[int]:
    with socket.socket(fileno=listener.fd) as handle:
        found = [handle.getsockopt(level, name) for level, name in wanted]
        handle.detach()
    return found


def plain_socket(
    path: Path, *, alive: bool, kind: int = socket.SOCK_STREAM
) -> socket.socket:
    """Somebody else's socket at the path; not alive: its owner is gone."""
    other = socket.socket(socket.AF_UNIX, kind)
    other.bind(str(path))
    if alive and kind == socket.SOCK_STREAM:
        other.listen()
    if not alive:
        other.close()
    return other


def replace_sockets(patch: pytest.MonkeyPatch, fake: object) -> None:
    """The module under test, and nobody else, gets another class of sockets."""
    names = {**vars(_socket), "socket": fake}
    patch.setattr("chimirror.system.listen._socket", SimpleNamespace(**names))


# TCP


@pytest.mark.parametrize("text", ["127.0.0.1:0", "[::1]:0", "localhost:0"])
def test_tcp(opener: Opener, text: str) -> None:
    for listener in opener(text):
        assert listener.is_local
        assert listener.address.rpartition(":")[0] in ("127.0.0.1", "[::1]")
        assert not os.get_blocking(listener.fd)
        assert not os.get_inheritable(listener.fd)
        wanted = [(socket.SOL_SOCKET, socket.SO_REUSEADDR)]
        wanted += [(socket.IPPROTO_TCP, socket.TCP_NODELAY)]
        assert options(listener, *wanted) == [1, 1]
        assert answers(listener)


def test_ipv6_is_ipv6_only(opener: Opener) -> None:
    (one,) = opener("[::]:0")
    assert not one.is_local
    port = one.address.rpartition(":")[2]
    (two,) = opener(f"0.0.0.0:{port}")
    assert (one.address, two.address) == (f"[::]:{port}", f"0.0.0.0:{port}")


def test_a_taken_port_says_who_has_it(opener: Opener) -> None:
    (one,) = opener("127.0.0.1:0")
    port = one.address.rpartition(":")[2]
    with pytest.raises(ListenError, match=rf"ss -ltnp sport = :{port}$"):
        opener(one.address)
    assert answers(one)


def test_all_or_none(opener: Opener, tmp_path: Path) -> None:
    (one,) = opener("127.0.0.1:0")
    with pytest.raises(ListenError):
        opener(f"unix:{tmp_path}/a", "127.0.0.1:0", one.address)
    assert not list(tmp_path.iterdir())


def resolved(*hosts: str) -> Callable[[str, int], object]:
    """A resolver for which every name has these addresses."""

    def resolve(_: str, port: int) -> object:
        families = [socket.AF_INET6 if ":" in h else socket.AF_INET for h in hosts]
        return [(f, (h, port)) for f, h in zip(families, hosts, strict=True)]

    return resolve


def test_an_address_that_a_name_should_not_have(
    opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`localhost` may be ::1 too on a machine that has no IPv6."""
    monkeypatch.setattr(listen, "resolve", resolved("203.0.113.1", "127.0.0.1"))
    (found,) = opener("name:0")
    assert found.address.startswith("127.0.0.1:")


def test_no_address_of_a_name_is_here(
    opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listen, "resolve", resolved("203.0.113.1", "198.51.100.1"))
    with pytest.raises(ListenError, match="see ip address"):
        opener("name:80")


def test_one_port_for_all_addresses_of_a_name(
    opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listen, "resolve", resolved("127.0.0.1", "127.0.0.2"))
    one, two = opener("name:0")
    assert one.address.rpartition(":")[2] == two.address.rpartition(":")[2]


def test_a_name_is_opened_whole_or_not_at_all(
    opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listen, "resolve", resolved("127.0.0.1", "127.0.0.1"))
    with pytest.raises(ListenError, match="in use"):
        opener("name:0")


@pytest.mark.parametrize(
    ("number", "hint"),
    [
        (errno.EACCES, "below 1024"),
        (errno.ENOBUFS, os.strerror(errno.ENOBUFS)),
        (errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT)),
    ],
)
def test_the_kernel_says_no(
    monkeypatch: pytest.MonkeyPatch, number: int, hint: str
) -> None:
    class Refusing(_socket.socket):
        def bind(self, _: object) -> None:
            raise OSError(number, os.strerror(number))

    replace_sockets(monkeypatch, Refusing)
    with pytest.raises(ListenError, match=hint):
        listen.open_all(["127.0.0.1:80"])


def test_a_family_that_this_kernel_has_not(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))

    replace_sockets(monkeypatch, refuse)
    with pytest.raises(ListenError, match=os.strerror(errno.EAFNOSUPPORT)):
        listen.open_all(["[::1]:80"])


# Unix


def test_unix(opener: Opener, tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    (listener,) = opener(f"unix:{path}")
    assert (listener.address, listener.path) == (f"unix:{path}", str(path))
    assert listener.is_local
    assert stat.S_IMODE(path.lstat().st_mode) == 0o600
    assert not os.get_blocking(listener.fd)
    assert not os.get_inheritable(listener.fd)
    assert answers(listener)
    listener.remove()
    listener.remove()
    assert listener.fd == -1
    assert not list(tmp_path.iterdir())


def test_the_mode_is_as_asked_whatever_the_umask(
    opener: Opener, tmp_path: Path
) -> None:
    former = os.umask(0o077)
    try:
        opener(f"unix:{tmp_path}/a", mode=0o666)
    finally:
        os.umask(former)
    assert stat.S_IMODE((tmp_path / "a").lstat().st_mode) == 0o666


def test_nobody_can_connect_before_the_mode_is_set(
    opener: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def chmod(path: str, mode: int) -> None:
        with socket.socket(socket.AF_UNIX) as client:
            seen.append(client.connect_ex(path))
        os.lchmod(path, mode) if hasattr(os, "lchmod") else original(path, mode)

    original = os.chmod
    monkeypatch.setattr(os, "chmod", chmod)
    opener(f"unix:{tmp_path}/a")
    assert seen == [errno.ECONNREFUSED]


def test_a_relative_path_is_made_absolute(
    opener: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (listener,) = opener("unix:a")
    monkeypatch.chdir("/")
    assert listener.path == f"{tmp_path}/a"
    listener.remove()
    assert not list(tmp_path.iterdir())


def test_the_longest_path_and_one_more(opener: Opener, tmp_path: Path) -> None:
    longest = f"{tmp_path}/{'a' * (107 - len(str(tmp_path)) - 1)}"
    (listener,) = opener(f"unix:{longest}")
    assert answers(listener)
    with pytest.raises(ListenError, match="too long"):
        opener(f"unix:{longest}a")
    deep = tmp_path / ("d" * (105 - len(str(tmp_path)) - 1))
    deep.mkdir()
    with pytest.raises(ListenError, match="too long"):  # for the temporary name
        opener(f"unix:{deep}/a")


def test_a_live_one_is_not_stolen(opener: Opener, tmp_path: Path) -> None:
    (one,) = opener(f"unix:{tmp_path}/a")
    with pytest.raises(ListenError, match="in use; another server listens there"):
        opener(f"unix:{tmp_path}/a")
    socket.socket(fileno=one.fd).close()  # its queue holds the probe: all gone now
    one.fd = -1
    (two,) = opener(f"unix:{tmp_path}/a")
    assert answers(two)


def test_a_live_one_with_a_full_queue_is_not_stolen(
    opener: Opener, tmp_path: Path
) -> None:
    other = socket.socket(socket.AF_UNIX)
    clients = []
    with other:
        other.bind(str(tmp_path / "a"))
        other.listen(0)
        while True:
            client = socket.socket(socket.AF_UNIX)
            clients.append(client)
            client.setblocking(False)
            if client.connect_ex(str(tmp_path / "a")) == errno.EAGAIN:
                break
        with pytest.raises(ListenError, match="in use"):
            opener(f"unix:{tmp_path}/a")
        for client in clients:
            client.close()


def test_a_stale_one_is_replaced(opener: Opener, tmp_path: Path) -> None:
    plain_socket(tmp_path / "a", alive=False)
    (listener,) = opener(f"unix:{tmp_path}/a")
    assert answers(listener)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


def test_one_that_goes_while_we_look_is_no_hindrance(
    opener: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    plain_socket(path, alive=False)
    kind = path.lstat()

    def gone(_: str) -> os.stat_result:
        monkeypatch.undo()
        path.unlink()
        return kind

    monkeypatch.setattr(os, "lstat", gone)
    (listener,) = opener(f"unix:{path}")
    assert answers(listener)


def test_another_kind_of_socket_is_left_alone(opener: Opener, tmp_path: Path) -> None:
    path = tmp_path / "a"
    with plain_socket(path, alive=True, kind=socket.SOCK_DGRAM):
        with pytest.raises(ListenError, match="in use"):
            opener(f"unix:{path}")
        assert path.is_socket()


@pytest.mark.parametrize("kind", ["file", "directory", "link", "dangling", "fifo"])
def test_anything_else_is_left_alone(opener: Opener, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a"
    with plain_socket(tmp_path / "b", alive=False):
        make: dict[str, Callable[[], object]] = {
            "file": lambda: path.write_text("mine"),
            "directory": path.mkdir,
            "link": lambda: path.symlink_to("b"),
            "dangling": lambda: path.symlink_to("nowhere"),
            "fifo": lambda: os.mkfifo(path),
        }
        make[kind]()
    before = path.lstat()
    with pytest.raises(ListenError, match="is no socket; choose another path"):
        opener(f"unix:{path}")
    assert path.lstat() == before
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("text", ["unix:", "unix:@abstract", "unix:a\0b"])
def test_what_is_no_path(opener: Opener, text: str) -> None:
    with pytest.raises(ListenError, match=r"write unix:/run/NAME\.sock"):
        opener(text)


def test_no_such_directory(opener: Opener, tmp_path: Path) -> None:
    with pytest.raises(ListenError, match="No such file or directory; make the dir"):
        opener(f"unix:{tmp_path}/none/a")


def test_what_cannot_appear_leaves_nothing(
    opener: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "rename", refuse)  # a sticky directory, say
    with pytest.raises(ListenError, match=os.strerror(errno.EPERM)):
        opener(f"unix:{tmp_path}/a")
    assert not list(tmp_path.iterdir())


def test_a_directory_that_stays_locked(
    opener: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first time it is let go while we wait, the second time it is not."""
    holder = os.open(tmp_path, os.O_RDONLY)
    pauses = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        fcntl.flock(holder, fcntl.LOCK_UN)

    monkeypatch.setattr("time.sleep", pause)
    fcntl.flock(holder, fcntl.LOCK_EX)
    opener(f"unix:{tmp_path}/a")
    assert len(pauses) == 1
    monkeypatch.setattr(listen, "LOCK_PATIENCE", 0.0)
    fcntl.flock(holder, fcntl.LOCK_EX)
    with pytest.raises(ListenError, match=r"holds a lock.*; see who does: fuser -v"):
        opener(f"unix:{tmp_path}/b")
    os.close(holder)


def test_of_servers_that_race_for_a_path_one_wins(tmp_path: Path) -> None:
    """Six at once over a stale socket, five times: one listens, five are told."""
    path = tmp_path / "a"
    for _ in range(5):
        plain_socket(path, alive=False)
        assert race(str(path), 6) == 5
        assert [entry.name for entry in tmp_path.iterdir()] == ["a"]
        path.unlink()


def race(path: str, count: int) -> int:
    """How many of the processes were refused; the winner was really connected to."""
    gate, start = os.pipe()
    hold, finish = os.pipe()
    told, tell = os.pipe()
    pids = []
    for _ in range(count):
        pid = os.fork()
        if not pid:
            os.close(start)
            os.close(finish)
            os.read(gate, 1)
            try:
                listen.open_all([f"unix:{path}"])
                os.write(tell, b"W")
                os.read(hold, 1)  # lives until all have tried
                os._exit(0)
            except ListenError as error:
                os.write(tell, b"L" if "in use" in str(error) else b"?")
                os._exit(1)
            finally:
                os._exit(2)
        pids.append(pid)
    os.close(start)
    said = b"".join(os.read(told, 1) for _ in pids)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
    os.close(finish)
    statuses = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    for fd in (gate, hold, told, tell):
        os.close(fd)
    assert sorted(said) == sorted(b"W" + b"L" * (count - 1))
    return statuses.count(1)


# The end


def test_what_took_our_place_is_not_removed(opener: Opener, tmp_path: Path) -> None:
    path = tmp_path / "a"
    (listener,) = opener(f"unix:{path}")
    path.unlink()
    with plain_socket(path, alive=True):
        listener.remove()
        assert path.is_socket()


@pytest.mark.parametrize("how", ["gone", "directory is read-only"])
def test_what_cannot_be_removed_is_no_error(
    opener: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    path = tmp_path / "a"
    (listener,) = opener(f"unix:{path}")
    if how == "gone":
        path.unlink()
    else:

        def refuse(_: str) -> None:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

        monkeypatch.setattr(os, "unlink", refuse)
    listener.remove()
    assert listener.fd == -1


def test_only_its_maker_takes_a_path_away(opener: Opener, tmp_path: Path) -> None:
    """A worker that closes, or even removes, leaves the supervisor's path alone."""
    (listener,) = opener(f"unix:{tmp_path}/a")
    pid = os.fork()
    if not pid:
        listener.remove()
        os._exit(listener.fd + 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert answers(listener)
    listener.close()
    assert (tmp_path / "a").is_socket()
    listener.remove()
    assert not list(tmp_path.iterdir())


# From systemd


def environment(count: int) -> dict[str, str]:
    return {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(count)}


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"LISTEN_FDS": "1"},
        {"LISTEN_PID": "1", "LISTEN_FDS": "1"},
        {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "x"},
        {"LISTEN_PID": str(os.getpid())},
    ],
)
def test_nothing_is_handed_over(given: dict[str, str]) -> None:
    assert inherited(given) == []


@pytest.mark.parametrize("kind", ["tcp", "unix", "abstract"])
def test_what_systemd_hands_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    names: dict[str, tuple[int, object]] = {
        "tcp": (socket.AF_INET, ("127.0.0.1", 0)),
        "unix": (socket.AF_UNIX, f"{tmp_path}/a"),
        "abstract": (socket.AF_UNIX, f"\0{tmp_path}"),
    }
    family, name = names[kind]
    handle = socket.socket(family)
    handle.bind(name)  # type: ignore[arg-type]
    handle.listen()
    os.set_inheritable(handle.fileno(), True)
    monkeypatch.setattr(listen, "LISTEN_FDS_START", handle.fileno())
    (found,) = inherited(environment(1))
    assert found.fd == handle.detach()
    shown = {
        "tcp": f"127.0.0.1:{found.address.rpartition(':')[2]}",
        "unix": f"unix:{tmp_path}/a",
        "abstract": f"unix:@{tmp_path}",
    }
    assert found.address == shown[kind]
    assert found.is_local
    assert not os.get_blocking(found.fd)
    assert not os.get_inheritable(found.fd)
    if kind == "tcp":
        assert options(found, (socket.IPPROTO_TCP, socket.TCP_NODELAY)) == [1]
    found.remove()
    assert (tmp_path / "a").exists() == (kind == "unix")  # it stays systemd's


@pytest.mark.parametrize(("given", "left"), [(0, listen.BACKLOG), (7, 7)])
def test_a_queue_that_was_narrowed_is_wide_again(
    monkeypatch: pytest.MonkeyPatch, given: int, left: int
) -> None:
    """And what an administrator chose stays; ss(8) shows it as Send-Q."""
    with socket.create_server(("127.0.0.1", 0)) as handle:
        handle.listen(given)
        monkeypatch.setattr(listen, "LISTEN_FDS_START", handle.fileno())
        (found,) = inherited(environment(1))
        handle.detach()
        port = found.address.rpartition(":")[2]
        shown = subprocess.check_output(["ss", "-Hltn", f"sport = :{port}"], text=True)
        found.close()
    assert int(shown.split()[2]) == left


def test_what_systemd_should_not_hand_over(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = socket.socketpair()
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with one, other, datagrams, open("/dev/null") as null:
        for file in (one, datagrams):
            monkeypatch.setattr(listen, "LISTEN_FDS_START", file.fileno())
            with pytest.raises(ListenError, match="no listening stream socket"):
                inherited(environment(1))
            os.fstat(file.fileno())  # it was not closed
        monkeypatch.setattr(listen, "LISTEN_FDS_START", null.fileno())
        with pytest.raises(ListenError, match="is no socket"):
            inherited(environment(1))
