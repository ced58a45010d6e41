"""Services that run chimirror behind a socket. Each starts real programs and ends them.

A service is a context manager that yields a `Service`. At its end, every process that
was started by it must have ended, or the test fails. The kernel chooses the ports. A
port for a program that cannot report its port is reserved: a socket is bound to it
until the program listens. Knows nothing of frames or sessions. Manual pages: socat(1),
xinetd.conf(5), systemd-socket-activate(1).
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import chimirror
from chimirror.host import runtime_dir
from chimirror.log.records import SESSION_ENDED
from chimirror.process.children import group_of
from processes import (
    MARK,
    PATIENCE,
    comm,
    descendants,
    descriptors,
    ended,
    kill_processes,
    listening,
    marked,
    name_of,
    only_child,
    parent_of,
    processes,
    read,
    stopped,
    until,
)

ROOT = str(Path(chimirror.__file__).parent.parent)
LAUNCH = (sys.executable, "-P", "-m")
PROGRAMS = re.compile(r"chimirror[.-](bridge|server|zygote)")


class Service:
    """A running service: its address, its processes and its standard error.

    Attributes:
        process: the process that was started. For a server this is the guardian.
    """

    def __init__(self, process: subprocess.Popen[bytes], log: Path, mark: str) -> None:
        self.process = process
        self._supervisor = 0  # not known
        self.log = log
        self.mark = mark
        self.address: str | tuple[str, int] = ""

    @property
    def pid(self) -> int:
        """The process that serves. For a server this is the supervisor."""
        pid = self.process.pid
        if not self._supervisor:
            for word in read(f"/proc/{pid}/task/{pid}/children").split():
                child = int(word)
                named = name_of(child).startswith("chimirror-server")
                if named and group_of(child) == child:
                    self._supervisor = child
        return self._supervisor or pid

    @property
    def port(self) -> int:
        assert isinstance(self.address, tuple)
        return self.address[1]

    def connect(self) -> socket.socket:
        unix = isinstance(self.address, str)
        connection = socket.socket(socket.AF_UNIX if unix else socket.AF_INET)
        try:
            connection.connect(self.address)
        except OSError:
            connection.close()
            raise
        return connection

    def find(self, pattern: str) -> str:
        """Wait for a line of the log that matches. Returns its first group."""
        found: list[str] = []

        def ask() -> bool:
            if self.process.poll() is not None:
                raise AssertionError(f"it ended: {self.log.read_text()}")
            found[:] = re.findall(pattern, self.log.read_text(), re.MULTILINE)
            return bool(found)

        until(ask, f"{pattern} in {self.log}")
        return found[0]

    def await_ends(self, count: int) -> None:
        """Wait until the ends of `count` sessions have been recorded."""
        until(
            lambda: self.log.read_text().count(SESSION_ENDED) >= count,
            f"{count} sessions are over",
        )

    def own(self) -> list[int]:
        """Return the processes of chimirror's own programs.

        Only root can read the marks of these processes, as they are not dumpable.
        """
        root = self.process.pid
        found = {root, *marked(self.mark), *(one.pid for one in descendants(root))}
        return [pid for pid in sorted(found) if PROGRAMS.search(name_of(pid))]

    def zygotes(self) -> list[int]:
        """Return the zygotes, which start the applications of a server.

        A process that a zygote has just forked still has the same name.
        """
        found = [pid for pid in self.own() if comm(pid) == "zygote"]
        parents = {process.pid: process.parent for process in processes()}
        return [pid for pid in found if parents.get(pid, pid) not in found]

    def serving(self) -> list[int]:
        """Return the processes of chimirror's own programs except zygotes.

        An application that a zygote starts has the name of the zygote until its exec.
        """
        named = [(pid, comm(pid)) for pid in self.own()]
        return [
            pid
            for pid, name in named
            if name not in ("", "zygote") and PROGRAMS.search(name_of(pid))
        ]

    def workers(self) -> list[int]:
        """Return the workers of a server, by pid."""
        return [pid for pid in self.serving() if parent_of(pid) == self.pid]

    def refuses(self) -> bool:
        """Return True if nothing listens at the address any more.

        A listener that is closed resets the connections that wait in its queue.
        """
        try:
            self.connect().close()
        except (ConnectionRefusedError, FileNotFoundError):
            return True
        except ConnectionResetError:
            pass
        return False

    def applications(self) -> list[int]:
        """Return all processes of applications, even those that left their session.

        A warm copy has the command line of the zygote, and no mark.
        """
        own = {self.pid, *self.own()}
        zygotes = {*self.zygotes()}
        forks = {pid for pid in own if name_of(pid).endswith(": zygote")}
        return sorted({*marked(self.mark)} - own | (forks - zygotes))

    def resource_count(self) -> int:
        """Count the open descriptors of chimirror's own processes, and all descendants.

        A descriptor that is about to be closed still counts. So the number may fall by
        itself but never rises, once `await_workers` has returned.
        """
        return sum(map(descriptors, self.own())) + len(descendants(self.pid))

    def await_workers(self, count: int) -> None:
        """Wait until the workers of a server have opened what they keep open.

        The server listens before that. The control socket of a worker is the last.
        """
        directory = runtime_dir.server_directory(os.environ, os.geteuid(), self.pid)
        if directory is not None:
            until(lambda: len(os.listdir(directory)) == count, f"{count} workers")

    def kill_supervisor(self) -> None:
        """Kill the supervisor of a server, and wait until it has ended."""
        os.kill(self.pid, signal.SIGKILL)
        assert ended(self.pid, PATIENCE)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)

    def kill_all(self) -> None:
        """Kill all processes at once, as a loss of power does.

        The processes are stopped first, so that none notices the death of another. A
        worker that outlived the zygote for a moment would tell its clients that their
        applications were killed, and a supervisor would start other workers. The
        process that was started is the last: at the death of a guardian, the kernel
        continues the process group of the supervisor (_exit(2), orphaned).
        """
        dying = set(self.own())
        for pid in dying:
            os.kill(pid, signal.SIGSTOP)
        until(lambda: dying <= stopped(), "the server holds still")
        kill_processes(dying - {self.process.pid})
        self.process.kill()
        for pid in dying:
            assert ended(pid, PATIENCE)
        self.process.wait(PATIENCE)


ServiceFactory = Callable[..., AbstractContextManager[Service]]


@contextmanager
def running(
    directory: Path,
    argv: list[str],
    mark: str,
    stderr: int | None = None,
    *,
    root: str = ROOT,
) -> Iterator[Service]:
    """Run a long-lived program, and end all its processes.

    Args:
        directory: of the file that receives the output.
        argv: the command line.
        mark: a variable in the environment of all its processes.
        stderr: a descriptor for standard error, instead of that file.
        root: the directory of the package.
    """
    log = directory / f"{Path(argv[0]).name}.log"
    env = os.environ | {"PYTHONPATH": root, MARK: mark}
    with log.open("wb") as output:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output if stderr is None else stderr,
            env=env,
        )
    service = Service(process, log, mark)
    try:
        yield service
        service.stop()
        until(lambda: not marked(mark), f"no process left by {argv}")
    finally:
        process.kill()
        process.wait()
        kill_processes(marked(mark))


def argv_of(
    name: str, command: list[str], options: tuple[str, ...], mark: str
) -> list[str]:
    """Return the command line of `chimirror-NAME`. The application carries the mark."""
    program = [*LAUNCH, f"chimirror.{name}", "--env", f"{MARK}={mark}"]
    return [*program, *options, "--", *command]


def script(directory: Path, argv: list[str]) -> Path:
    """Write the command line to a script, for programs with other rules of quoting."""
    path = directory / "serve"
    text = f"#!/bin/sh\nPYTHONPATH={shlex.quote(ROOT)} exec {shlex.join(argv)}\n"
    path.write_text(text)
    path.chmod(0o755)
    return path


@contextmanager
def reserved() -> Iterator[int]:
    """Reserve a free port of 127.0.0.1 (bound, not listening) during the context."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


def await_port(service: Service, port: int) -> None:
    def ask() -> bool:
        if service.process.poll() is not None:
            raise AssertionError(f"it ended: {service.log.read_text()}")
        return listening(port)

    until(ask, f"a listener on port {port}")
    service.address = ("127.0.0.1", port)


@contextmanager
def socat(
    directory: Path, command: list[str], *options: str, pipes: bool = False
) -> Iterator[Service]:
    """Run socat, with a bridge per connection on a socketpair or on two pipes."""
    mark = uuid.uuid4().hex
    run = script(directory, argv_of("bridge", command, options, mark))
    action = f"EXEC:{run},pipes" if pipes else f"EXEC:{run}"
    listen = "TCP-LISTEN:0,bind=127.0.0.1,fork"
    with running(directory, ["socat", "-d", "-d", listen, action], mark) as service:
        port = service.find(r"listening on AF=2 127\.0\.0\.1:(\d+)")
        service.address = ("127.0.0.1", int(port))
        yield service


def socat_pipes(
    directory: Path, command: list[str], *options: str
) -> AbstractContextManager[Service]:
    return socat(directory, command, *options, pipes=True)


XINETD = """\
defaults
{{
    log_type = FILE {log}
}}
service chimirror
{{
    type = UNLISTED
    socket_type = stream
    protocol = tcp
    bind = 127.0.0.1
    port = {port}
    wait = no
    user = {user}
    instances = UNLIMITED
    per_source = UNLIMITED
    cps = 10000 1
    server = {run}
}}
"""


@contextmanager
def xinetd(directory: Path, command: list[str], *options: str) -> Iterator[Service]:
    """Run xinetd. The connection is fd 0, fd 1 and fd 2 of each bridge."""
    mark = uuid.uuid4().hex
    run = script(directory, argv_of("bridge", command, options, mark))
    config = directory / "xinetd.conf"
    argv = ["xinetd", "-dontfork", "-f", str(config)]
    argv += ["-pidfile", str(directory / "xinetd.pid")]
    with reserved() as port:
        user = "root" if os.getuid() == 0 else os.environ["USER"]
        log = directory / "sessions.log"
        config.write_text(XINETD.format(log=log, port=port, user=user, run=run))
        with running(directory, argv, mark) as service:
            await_port(service, port)
            yield service


@contextmanager
def activated(
    directory: Path, command: list[str], *options: str, inetd: bool = False
) -> Iterator[Service]:
    """Run systemd-socket-activate --accept: the connection is fd 3, or fd 0 and 1."""
    mark = uuid.uuid4().hex
    argv = argv_of("bridge", command, options, mark)
    with reserved() as port:
        listen = ["systemd-socket-activate", "--accept", f"--listen=127.0.0.1:{port}"]
        listen += ["--inetd"] if inetd else []
        listen += [f"--setenv=PYTHONPATH={ROOT}", f"--setenv={MARK}={mark}"]
        with running(directory, [*listen, *argv], mark) as service:
            await_port(service, port)
            yield service


def activated_inetd(
    directory: Path, command: list[str], *options: str
) -> AbstractContextManager[Service]:
    return activated(directory, command, *options, inetd=True)


def pure_package(directory: Path) -> str:
    """Make a copy of the package as a pure wheel has it. Returns its parent."""
    package = directory / "pure" / "chimirror"
    source = Path(chimirror.__file__).parent
    for folder in ("", "process"):
        (package / folder).mkdir(parents=True)
        for file in (source / folder).iterdir():
            if file.name != "process" and file.suffix != ".so":
                (package / folder / file.name).symlink_to(file)
    return str(package.parent)


@contextmanager
def server(
    directory: Path,
    command: list[str],
    *options: str,
    listen: str = "127.0.0.1:0",
    root: str = ROOT,
) -> Iterator[Service]:
    """Run chimirror-server on TCP. Is ready when the server reports that it listens."""
    mark = uuid.uuid4().hex
    options = ("--listen", listen, *options)
    argv = argv_of("server", command, options, mark)
    with running(directory, argv, mark, root=root) as service:
        where = service.find(r"listening on ([^\s\"]+)")
        if where.startswith("unix:"):
            service.address = where.removeprefix("unix:")
        else:
            host, _, port = where.rpartition(":")
            service.address = (host, int(port))
        yield service


def pure_server(
    directory: Path, command: list[str], *options: str
) -> AbstractContextManager[Service]:
    """Run chimirror-server without the C extension: its zygote starts applications."""
    return server(directory, command, *options, root=pure_package(directory))


def server_unix(
    directory: Path, command: list[str], *options: str
) -> AbstractContextManager[Service]:
    """Run chimirror-server on a Unix socket."""
    path = directory / "socket"
    return server(directory, command, *options, listen=f"unix:{path}")


@contextmanager
def preloading(
    directory: Path, spec: str, *options: str, listen: str = "127.0.0.1:0"
) -> Iterator[Service]:
    """Run chimirror-server with --preload. The module is in `directory`."""
    mark = uuid.uuid4().hex
    argv = [
        *LAUNCH,
        "chimirror.server.main",
        "--env",
        f"{MARK}={mark}",
        "--listen",
        listen,
    ]
    argv += ["--directory", str(directory), "--preload", spec, *options]
    with running(directory, argv, mark) as service:
        host, _, port = service.find(r"listening on ([^\s\"]+)").rpartition(":")
        service.address = (host, int(port))
        yield service


@contextmanager
def zygote(directory: Path, *arguments: str) -> Iterator[Service]:
    """Run the program chimirror-zygote on a socket in `directory`."""
    mark = uuid.uuid4().hex
    argv = [*LAUNCH, "chimirror.zygote", "--env", f"{MARK}={mark}"]
    argv += ["--directory", str(directory), "--socket", str(directory / "zygote")]
    with running(directory, [*argv, *arguments], mark) as service:
        service.address = service.find(r"listening on unix:([^\s\"]+)")
        yield service


SERVICES: dict[str, ServiceFactory] = {
    "socat": socat,
    "socat-pipes": socat_pipes,
    "xinetd": xinetd,
    "activate": activated,
    "activate-inetd": activated_inetd,
    "server": server,
    "server-pure": pure_server,
    "server-unix": server_unix,
}


class Bridge:
    """One chimirror-bridge on one end of a connection. The test has the other end.

    Its process is the guardian, whose child serves.
    """

    def __init__(
        self,
        command: list[str],
        *options: str,
        tcp: bool = False,
        pair: tuple[socket.socket, socket.socket] | None = None,
        **variables: str,
    ) -> None:
        self.mark = uuid.uuid4().hex
        argv = argv_of("bridge", command, options, self.mark)
        env = os.environ | {"PYTHONPATH": ROOT} | variables
        self.socket, theirs = pair or (tcp_pair() if tcp else socket.socketpair())
        with theirs:
            fd = theirs.fileno()
            self.process = subprocess.Popen(
                argv, stdin=fd, stdout=fd, stderr=subprocess.PIPE, env=env
            )
        self.pid = self.process.pid

    @property
    def serving(self) -> int:
        """The process that serves. Waits until it is forked."""
        return only_child(self.pid)

    def finish(self) -> tuple[int, bytes]:
        """Wait for the end of the bridge. Returns its exit status and its stderr."""
        _, said = self.process.communicate(timeout=200)
        return self.process.returncode, said

    def __enter__(self) -> Bridge:
        return self

    def __exit__(self, *error: object) -> None:
        self.socket.close()
        gone = ended(self.pid, 30)
        self.process.kill()
        self.finish()
        left = marked(self.mark)
        kill_processes(left)
        assert gone, "the bridge outlived its connection"
        assert not left or error[0], "the application outlived the bridge"


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    """Return the client's and the server's end of a TCP connection over loopback."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    return ours, theirs
