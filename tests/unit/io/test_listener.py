"""Listeners on real sockets: options, errors, and the lifetime of a Unix path."""

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

from chimirror.io import listener
from chimirror.io.listener import Listener, ListenError, systemd_listeners
from chimirror.protocol.addresses import plain_address

Opener = Callable[..., list[Listener]]


@pytest.fixture
def opener() -> Iterator[Opener]:
    """Return `open_all` with listeners that are removed after the test."""
    opened: list[Listener] = []

    def open_all(
        *texts: str, mode: int = 0o600, bind_ipv6_only: bool = False
    ) -> list[Listener]:
        found = listener.open_all(texts, mode, bind_ipv6_only=bind_ipv6_only)
        opened.extend(found)
        return found

    yield open_all
    for one in opened:
        one.remove()


def answers(opened: Listener) -> bool:
    """Return True if a client that connects to the address reaches the listener."""
    family = socket.AF_UNIX if opened.path else opened.family
    with socket.socket(family) as client, socket.socket(fileno=opened.fd) as server:
        client.connect(opened.path or server.getsockname())
        connection, _ = server.accept()
        with connection:
            client.sendall(b"x")
            connection.settimeout(10)
            got = connection.recv(1) == b"x"
        server.detach()
    return got


def options(opened: Listener, *wanted: tuple[int, int]) -> list[int]:
    with socket.socket(fileno=opened.fd) as handle:
        found = [handle.getsockopt(level, name) for level, name in wanted]
        handle.detach()
    return found


def plain_socket(
    path: Path, *, alive: bool, kind: int = socket.SOCK_STREAM
) -> socket.socket:
    """Put the socket of another process at the path. It is stale: no owner."""
    other = socket.socket(socket.AF_UNIX, kind)
    other.bind(str(path))
    if alive and kind == socket.SOCK_STREAM:
        other.listen()
    if not alive:
        other.close()
    return other


def replace_sockets(patch: pytest.MonkeyPatch, fake: object) -> None:
    """Give the module under test, and no other code, another socket class."""
    names = {**vars(_socket), "socket": fake}
    patch.setattr("chimirror.io.listener._socket", SimpleNamespace(**names))


# TCP


@pytest.mark.parametrize("text", ["127.0.0.1:0", "[::1]:0", "localhost:0"])
def test_tcp(opener: Opener, text: str) -> None:
    for opened in opener(text):
        assert opened.is_local
        assert opened.address.rpartition(":")[0] in ("127.0.0.1", "[::1]")
        assert not os.get_blocking(opened.fd)
        assert not os.get_inheritable(opened.fd)
        wanted = [(socket.SOL_SOCKET, socket.SO_REUSEADDR)]
        wanted += [(socket.IPPROTO_TCP, socket.TCP_NODELAY)]
        assert options(opened, *wanted) == [1, 1]
        assert answers(opened)


V6ONLY = (socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)


def test_the_ipv6_wildcard_serves_ipv4_too(opener: Opener) -> None:
    (opened,) = opener("[0::0]:0")
    assert not opened.is_local
    assert options(opened, V6ONLY) == [0]
    port = int(opened.address.removeprefix("[::]:"))
    with socket.socket(fileno=opened.fd) as server:
        for host in ("127.0.0.1", "::1"):
            with socket.create_connection((host, port)) as client:
                connection, address = server.accept()
                assert plain_address(address[0]) == host
                assert address[1] == client.getsockname()[1]
                connection.close()
        server.detach()
    with pytest.raises(ListenError, match=f" = :{port}; --bind-ipv6-only leaves IPv4 "):
        opener(opened.address)


@pytest.mark.parametrize("ipv4", ["127.0.0.1", "0.0.0.0", "[::ffff:127.0.0.1]"])
@pytest.mark.parametrize("is_first", [True, False])
def test_the_ipv6_wildcard_leaves_ipv4_to_another_address(
    opener: Opener, ipv4: str, is_first: bool
) -> None:
    with socket.socket(socket.AF_INET6) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("::", 0))  # reserves the port until the listeners are open
        port = probe.getsockname()[1]
        texts = [f"[::]:{port}", f"{ipv4}:{port}"]
        opened = opener(*(texts if is_first else texts[::-1]))
    by_family = {found.family: found for found in opened}
    assert options(by_family[socket.AF_INET6], V6ONLY) == [1]
    assert by_family[socket.AF_INET].address == f"{ipv4.strip('[]:f')}:{port}"


def test_ipv6_only_sockets(opener: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    found = opener("[::]:0", "[::1]:0", bind_ipv6_only=True)
    assert [options(opened, V6ONLY) for opened in found] == [[1], [1]]
    (loopback,) = opener("[::1]:0")
    assert options(loopback, V6ONLY) == [1]
    # Port 0 is another port for each address, but one port for a name.
    wildcard, _ = opener("[::]:0", "127.0.0.1:0")
    assert options(wildcard, V6ONLY) == [0]
    monkeypatch.setattr(listener, "resolve", resolved("::", "0.0.0.0"))
    assert options(opener("name:0")[0], V6ONLY) == [1]


def test_a_used_port_gives_a_hint(opener: Opener) -> None:
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
    monkeypatch.setattr(listener, "resolve", resolved("203.0.113.1", "127.0.0.1"))
    (found,) = opener("name:0")
    assert found.address.startswith("127.0.0.1:")


def test_no_address_of_a_name_is_here(
    opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "resolve", resolved("203.0.113.1", "198.51.100.1"))
    with pytest.raises(ListenError, match="see ip address"):
        opener("name:80")


def test_one_port_for_all_addresses_of_a_name(
    opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "resolve", resolved("127.0.0.1", "127.0.0.2"))
    one, two = opener("name:0")
    assert one.address.rpartition(":")[2] == two.address.rpartition(":")[2]


def test_a_name_is_opened_whole_or_not_at_all(
    opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "resolve", resolved("127.0.0.1", "127.0.0.1"))
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
def test_kernel_errors_are_reported(
    monkeypatch: pytest.MonkeyPatch, number: int, hint: str
) -> None:
    class Refusing(_socket.socket):
        def bind(self, _: object) -> None:
            raise OSError(number, os.strerror(number))

    replace_sockets(monkeypatch, Refusing)
    with pytest.raises(ListenError, match=hint):
        listener.open_all(["127.0.0.1:80"])


def test_a_family_without_kernel_support(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))

    replace_sockets(monkeypatch, refuse)
    with pytest.raises(ListenError, match=os.strerror(errno.EAFNOSUPPORT)):
        listener.open_all(["[::1]:80"])


# Unix


def test_unix(opener: Opener, tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    (opened,) = opener(f"unix:{path}")
    assert (opened.address, opened.path) == (f"unix:{path}", str(path))
    assert opened.is_local
    assert stat.S_IMODE(path.lstat().st_mode) == 0o600
    assert not os.get_blocking(opened.fd)
    assert not os.get_inheritable(opened.fd)
    assert answers(opened)
    opened.remove()
    opened.remove()
    assert opened.fd == -1
    assert not list(tmp_path.iterdir())


def test_the_umask_does_not_change_the_mode(opener: Opener, tmp_path: Path) -> None:
    former = os.umask(0o077)
    try:
        opener(f"unix:{tmp_path}/a", mode=0o666)
    finally:
        os.umask(former)
    assert stat.S_IMODE((tmp_path / "a").lstat().st_mode) == 0o666


@pytest.mark.parametrize("mode", ["0600", "0666"])
def test_the_socket_is_made_with_its_mode(
    mode: str, opener: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A later chmod(2) would come late, and follow a link of another user."""
    monkeypatch.setattr(os, "chmod", pytest.fail)
    before = os.umask(0o027)
    try:
        opener(f"unix:{tmp_path}/a", mode=int(mode, 8))
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == int(mode, 8)


def test_a_relative_path_is_made_absolute(
    opener: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (opened,) = opener("unix:a")
    monkeypatch.chdir("/")
    assert opened.path == f"{tmp_path}/a"
    opened.remove()
    assert not list(tmp_path.iterdir())


def test_the_longest_path_and_one_more(opener: Opener, tmp_path: Path) -> None:
    longest = f"{tmp_path}/{'a' * (107 - len(str(tmp_path)) - 1)}"
    (opened,) = opener(f"unix:{longest}")
    assert answers(opened)
    with pytest.raises(ListenError, match="too long"):
        opener(f"unix:{longest}a")
    deep = tmp_path / ("d" * (105 - len(str(tmp_path)) - 1))
    deep.mkdir()
    with pytest.raises(ListenError, match="too long"):  # for the temporary name
        opener(f"unix:{deep}/a")


def test_a_live_socket_is_not_replaced(opener: Opener, tmp_path: Path) -> None:
    (one,) = opener(f"unix:{tmp_path}/a")
    with pytest.raises(ListenError, match="in use; another server listens there"):
        opener(f"unix:{tmp_path}/a")
    socket.socket(fileno=one.fd).close()  # its queue holds only the probe
    one.fd = -1
    (two,) = opener(f"unix:{tmp_path}/a")
    assert answers(two)


def test_a_live_socket_with_a_full_queue_is_not_replaced(
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


def test_a_stale_socket_is_replaced(opener: Opener, tmp_path: Path) -> None:
    plain_socket(tmp_path / "a", alive=False)
    (opened,) = opener(f"unix:{tmp_path}/a")
    assert answers(opened)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


def test_a_path_removed_during_the_check_is_free(
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
    (opened,) = opener(f"unix:{path}")
    assert answers(opened)


def test_another_type_of_socket_is_kept(opener: Opener, tmp_path: Path) -> None:
    path = tmp_path / "a"
    with plain_socket(path, alive=True, kind=socket.SOCK_DGRAM):
        with pytest.raises(ListenError, match="in use"):
            opener(f"unix:{path}")
        assert path.is_socket()


@pytest.mark.parametrize("kind", ["file", "directory", "link", "dangling", "fifo"])
def test_other_files_are_kept(opener: Opener, tmp_path: Path, kind: str) -> None:
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
    with pytest.raises(ListenError, match="is not a socket; choose another path"):
        opener(f"unix:{path}")
    assert path.lstat() == before
    assert len(list(tmp_path.iterdir())) == 2


def test_no_such_directory(opener: Opener, tmp_path: Path) -> None:
    with pytest.raises(ListenError, match="No such file or directory; create a dir"):
        opener(f"unix:{tmp_path}/none/a")


def test_a_failed_socket_leaves_no_file(
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
    """The lock is released during the first wait, but not during the second."""
    holder = os.open(tmp_path, os.O_RDONLY)
    pauses = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        fcntl.flock(holder, fcntl.LOCK_UN)

    monkeypatch.setattr("time.sleep", pause)
    fcntl.flock(holder, fcntl.LOCK_EX)
    opener(f"unix:{tmp_path}/a")
    assert len(pauses) == 1
    monkeypatch.setattr(listener, "LOCK_TIMEOUT", 0.0)
    fcntl.flock(holder, fcntl.LOCK_EX)
    with pytest.raises(
        ListenError, match=r"holds a lock.*; find the process: fuser -v"
    ):
        opener(f"unix:{tmp_path}/b")
    os.close(holder)


def test_one_of_several_servers_gets_a_path(tmp_path: Path) -> None:
    """Six servers at once over a stale socket, five times: one listens."""
    path = tmp_path / "a"
    for _ in range(5):
        plain_socket(path, alive=False)
        assert race(str(path), 6) == 5
        assert [entry.name for entry in tmp_path.iterdir()] == ["a"]
        path.unlink()


def race(path: str, count: int) -> int:
    """Return how many processes were refused. A client reaches the winner."""
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
                listener.open_all([f"unix:{path}"])
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


def test_a_replacement_is_not_removed(opener: Opener, tmp_path: Path) -> None:
    path = tmp_path / "a"
    (opened,) = opener(f"unix:{path}")
    path.unlink()
    with plain_socket(path, alive=True):
        opened.remove()
        assert path.is_socket()


@pytest.mark.parametrize("how", ["gone", "directory is read-only"])
def test_a_failed_removal_is_no_error(
    opener: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    path = tmp_path / "a"
    (opened,) = opener(f"unix:{path}")
    if how == "gone":
        path.unlink()
    else:

        def refuse(_: str) -> None:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

        monkeypatch.setattr(os, "unlink", refuse)
    opened.remove()
    assert opened.fd == -1


def test_only_the_creating_process_removes_a_path(
    opener: Opener, tmp_path: Path
) -> None:
    """A worker that closes, or even removes, leaves the supervisor's path alone."""
    (opened,) = opener(f"unix:{tmp_path}/a")
    pid = os.fork()
    if not pid:
        opened.remove()
        os._exit(opened.fd + 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert answers(opened)
    opened.close()
    assert (tmp_path / "a").is_socket()
    opened.remove()
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
def test_no_inherited_sockets(given: dict[str, str]) -> None:
    assert systemd_listeners(given) == []


@pytest.mark.parametrize("kind", ["tcp", "unix", "abstract"])
def test_sockets_from_systemd(
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
    monkeypatch.setattr(listener, "LISTEN_FDS_START", handle.fileno())
    (found,) = systemd_listeners(environment(1))
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
    assert (tmp_path / "a").exists() == (kind == "unix")  # systemd removes it


@pytest.mark.parametrize(("given", "left"), [(0, listener.BACKLOG), (7, 7)])
def test_a_shrunk_backlog_is_restored(
    monkeypatch: pytest.MonkeyPatch, given: int, left: int
) -> None:
    """A backlog set by an administrator stays. ss(8) shows it as Send-Q."""
    with socket.create_server(("127.0.0.1", 0)) as handle:
        handle.listen(given)
        monkeypatch.setattr(listener, "LISTEN_FDS_START", handle.fileno())
        (found,) = systemd_listeners(environment(1))
        handle.detach()
        port = found.address.rpartition(":")[2]
        shown = subprocess.check_output(["ss", "-Hltn", f"sport = :{port}"], text=True)
        found.close()
    assert int(shown.split()[2]) == left


def test_invalid_sockets_from_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = socket.socketpair()
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with one, other, datagrams, open("/dev/null") as null:
        for file in (one, datagrams):
            monkeypatch.setattr(listener, "LISTEN_FDS_START", file.fileno())
            with pytest.raises(ListenError, match="not a listening stream socket"):
                systemd_listeners(environment(1))
            os.fstat(file.fileno())  # it was not closed
        monkeypatch.setattr(listener, "LISTEN_FDS_START", null.fileno())
        with pytest.raises(ListenError, match="is not a socket"):
            systemd_listeners(environment(1))
