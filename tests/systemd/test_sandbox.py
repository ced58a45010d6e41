"""Tests the sandbox of a session: its permissions and its isolation from others.

The promises of chimirror-systemd(7) about chimirror@.service are tried from inside one
session against another. The attacker is a real application that evaluates the lines
that it receives. The victim is another one. Programs in five languages must still run.
"""

from __future__ import annotations

import base64
import json
import os
import re
from ast import literal_eval
from contextlib import ExitStack

import pytest

from machine_sessions import (
    SERVER,
    SERVER_PORT,
    echo,
    named,
    only_session,
    open_session,
    serve_many,
    systemctl_show,
    zygote_application,
)
from processes import read, until
from systemd_machine import PORT, Machine
from websocket_peer import Closed, Peer

pytestmark = pytest.mark.timeout(300)

RANGE = range(1879048192, 1879052288)  # users of chimirror@.service
RUN = {"chimirror", "credentials", "systemd"}  # in the view of a session
# sockets of the host that an application can connect to
HOST_SOCKETS = [
    "/dev/log",
    "/run/systemd/journal/dev-log",
    "/run/systemd/journal/socket",
    "/run/systemd/notify",
]
# Evaluates each line, and prints the value or the name of the exception.
PROBE = """
import ctypes, json, os, resource, signal, socket, subprocess, sys
libc = ctypes.CDLL(None)
kept = []
def connect(family, address):
    with socket.socket(family) as one:
        one.connect(address)
def listen(family, address):
    one = socket.socket(family)
    one.bind(address)
    one.listen()
    kept.append(one)
def write(path, text="x"):
    with open(path, "w") as file:
        file.write(text)
def read(path):
    with open(path) as file:
        return file.read()
def writable(top):
    found = [os.path.join(at, name) for at, directories, files in os.walk(top)
             for name in directories + files]
    return [one for one in found if os.access(one, os.W_OK) and not os.path.islink(one)]
def fill(directory, size):
    with open(directory + "/filled", "wb") as file:
        for _ in range(size >> 20):
            file.write(bytes(1 << 20))
def bound(directory):
    found = os.statvfs(directory)
    return found.f_blocks * found.f_frsize >> 20, found.f_files >> 10
def sockets():
    tops = ("/dev", "/etc", "/home", "/root", "/run", "/srv", "/tmp", "/var")
    names = {os.path.join(at, name) for top in tops
             for at, _, files in os.walk(top) for name in files}
    rows = [line.split() for line in read("/proc/self/net/unix").splitlines()[1:]]
    names |= {"\\0" + row[7][1:] if row[7][0] == "@" else row[7]
              for row in rows if len(row) > 7}
    return sorted(name for name in names if accepts(name))
def accepts(name):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET):
        with socket.socket(socket.AF_UNIX, kind) as one:
            try:
                one.connect(name)
            except OSError:
                continue
            return True
    return False
def status(name):
    (line,) = [one for one in read("/proc/self/status").splitlines()
               if one.startswith(name + ":")]
    return line.split()[1]
for line in sys.stdin:
    try:
        print(repr(eval(json.loads(line))), flush=True)
    except BaseException as error:
        print(type(error).__name__, flush=True)
"""
# Copies standard input to standard output byte by byte (javac --release 8 -g:none).
ECHO_CLASS = """
yv66vgAAADQAKQoAAgADBwAEDAAFAAYBABBqYXZhL2xhbmcvT2JqZWN0AQAGPGluaXQ+AQADKClW
CQAIAAkHAAoMAAsADAEAEGphdmEvbGFuZy9TeXN0ZW0BAAJpbgEAFUxqYXZhL2lvL0lucHV0U3Ry
ZWFtOwoADgAPBwAQDAARABIBABNqYXZhL2lvL0lucHV0U3RyZWFtAQAEcmVhZAEAAygpSQkACAAU
DAAVABYBAANvdXQBABVMamF2YS9pby9QcmludFN0cmVhbTsKABgAGQcAGgwAGwAcAQATamF2YS9p
by9QcmludFN0cmVhbQEABXdyaXRlAQAEKEkpVgoAGAAeDAAfAAYBAAVmbHVzaAcAIQEABEVjaG8B
AARDb2RlAQAEbWFpbgEAFihbTGphdmEvbGFuZy9TdHJpbmc7KVYBAA1TdGFja01hcFRhYmxlAQAK
RXhjZXB0aW9ucwcAKAEAE2phdmEvaW8vSU9FeGNlcHRpb24AIQAgAAIAAAAAAAIAAQAFAAYAAQAi
AAAAEQABAAEAAAAFKrcAAbEAAAAAAAkAIwAkAAIAIgAAADUAAgACAAAAHLIAB7YADVk8mwATsgAT
G7YAF7IAE7YAHaf/6LEAAAABACUAAAAHAAIA/AAaAQAmAAAABAABACcAAA==
"""
COMMAND = ("/usr/bin/python3", "/usr/local/lib/probe.py")
# the drop-in of chimirror-systemd(7) for applications of different users
AS_ROOT = (
    "User=root",
    "PrivateUsers=no",
    "CapabilityBoundingSet=CAP_SETUID CAP_SETGID CAP_KILL CAP_CHOWN",
    "CapabilityBoundingSet=CAP_DAC_OVERRIDE CAP_SYS_PTRACE",
    "SystemCallFilter=@setuid @chown",
)
PROGRAMS = {
    "sh": ("/bin/sh", "-c", '"while read -r line; do echo $line; done"'),
    "python": ("/usr/bin/python3", "-c", '"while True: print(input())"'),
    "node": ("/usr/bin/node", "-e", '"process.stdin.pipe(process.stdout)"'),
    "java": ("/usr/bin/java", "-cp", "/usr/local/lib", "Echo"),
    "c": ("/usr/bin/cat",),
}


class Probe:
    """A session with the program above, of a bridge or of the server."""

    def __init__(
        self, machine: Machine, stack: ExitStack, *, in_server: bool = False
    ) -> None:
        machine.write("/usr/local/lib/probe.py", PROBE)
        if in_server:
            serve_many(machine)
        machine.configure(*COMMAND)
        port = SERVER_PORT if in_server else PORT
        self._attach(open_session(machine, stack, port))

    def _attach(self, peer: Peer) -> None:
        self.peer = peer
        self.pid = int(self.ask("os.getpid()"))

    @classmethod
    def by_name(cls, machine: Machine, stack: ExitStack, name: str) -> Probe:
        """Open a session of an application file, in the server."""
        made = cls.__new__(cls)
        peer = stack.enter_context(Peer(machine.connect(SERVER_PORT)))
        assert peer.open(f"/{name}").status == 101
        made._attach(peer)
        return made

    def ask(self, expression: str) -> str:
        self.peer.send(expression)
        said = b""
        while not said.endswith(b"\n"):
            said += self.peer.output(1)
        return said.decode().rstrip("\n")


@pytest.mark.parametrize("language", PROGRAMS)
def test_programs_work(machine: Machine, language: str) -> None:
    machine.path("/usr/local/lib/Echo.class").write_bytes(base64.b64decode(ECHO_CLASS))
    machine.configure(*PROGRAMS[language])
    with ExitStack() as stack:
        echo(open_session(machine, stack))


def test_the_sandbox_is_on(machine: Machine) -> None:
    with ExitStack() as stack:
        probe = Probe(machine, stack)
        assert int(probe.ask("os.getuid()")) in RANGE
        assert probe.ask("os.getresgid() == os.getresuid()") == "True"
        assert probe.ask("os.getgroups()") == "[]"
        # CapInh only matters for files with capabilities, which have no effect here.
        for name in ("CapPrm", "CapEff", "CapAmb"):
            assert probe.ask(f"status('{name}')") == repr("0" * 16)
        assert probe.ask("status('NoNewPrivs')") == "'1'"
        assert probe.ask("status('Seccomp')") == "'2'"
        for user in (0, RANGE[0], 1000):
            assert probe.ask(f"os.setuid({user})") == "PermissionError"
            assert probe.ask(f"os.setgid({user})") == "PermissionError"
        assert probe.ask("libc.unshare(0x10000000)") == "-1"  # creates a user namespace
        assert probe.ask("libc.chroot(b'/')") == "-1"
        for place in ("/usr/x", "/etc/x", "/run/x", "/opt/x", "/dev/x"):
            assert probe.ask(f"write('{place}')") in ("OSError", "PermissionError")
        for place in ("/root", "/home", "/run/dbus", "/run/systemd/units"):
            said = probe.ask(f"os.listdir('{place}')")
            assert said in ("PermissionError", "FileNotFoundError", "[]"), place
        interfaces = probe.ask("read('/proc/self/net/dev').split('\\n', 2)[2]")
        assert interfaces.count(":") == 1
        assert "lo:" in interfaces
        assert probe.ask("os.path.exists('/proc/sys')") == "False"
        assert probe.ask("writable('/sys')") == "[]"
        assert probe.ask("write('/tmp/x')") == "None"
        bridge = probe.ask("os.getppid()")  # the same user, but not dumpable
        assert probe.ask(f"read('/proc/{bridge}/environ')") == "FileNotFoundError"


def test_input_is_read_after_the_switch_of_user(machine: Machine) -> None:
    with machine.connect():
        until(machine.sessions, "the unit")
        unit = only_session(machine)

        def users() -> list[int]:
            files = [f"/proc/{pid}/status" for pid in machine.processes(unit)]
            found = [re.search(rb"^Uid:\t(\d+)", read(file), re.M) for file in files]
            return [int(one[1]) for one in found if one]

        def has_own_user() -> bool:
            return any(user in RANGE for user in users())

        until(has_own_user, "a user of its own, with nothing sent")


def test_files_have_a_bound(machine: Machine) -> None:
    """They are in memory, so that no session can fill a disk of the host."""
    with ExitStack() as stack:
        probe = Probe(machine, stack)
        for directory in ("/tmp", "/var/tmp", "/dev/shm"):
            assert probe.ask(f"bound('{directory}')") == "(64, 16)", directory
        assert probe.ask("fill('/var/tmp', 65 << 20)") == "OSError"
        lines = (
            "TemporaryFileSystem=",
            "TemporaryFileSystem=/run:ro /dev/shm:mode=1777,size=64M",
            "TemporaryFileSystem=/tmp:mode=1777,size=8M /var/tmp:mode=1777,size=9M",
        )
        machine.drop_in("chimirror@.service", "Service", *lines)
        other = Probe(machine, stack)
        for directory, size in (("/tmp", 8), ("/var/tmp", 9), ("/dev/shm", 64)):
            assert other.ask(f"bound('{directory}')[0]") == str(size)
        server = Probe(machine, stack, in_server=True)
        for directory in ("/tmp", "/var/tmp", "/dev/shm"):
            assert server.ask(f"bound('{directory}')") == "(512, 128)", directory


def test_sockets_that_an_application_can_connect_to(machine: Machine) -> None:
    """The journal and notifications are for the bridge, which has the same view.

    Control sockets of the server belong to the user of its applications.
    """
    with ExitStack() as stack:
        probe = Probe(machine, stack)
        assert literal_eval(probe.ask("sockets()")) == HOST_SOCKETS
        assert probe.ask("__import__('pwd').getpwnam('root').pw_uid") == "0"
        server = Probe(machine, stack, in_server=True)
        found = literal_eval(server.ask("sockets()"))
        control = [name for name in found if name.startswith("/run/chimirror/servers/")]
        assert sorted(set(found) - set(control)) == HOST_SOCKETS


def test_sockets_that_an_application_of_the_zygote_can_connect_to(
    machine: Machine,
) -> None:
    machine.write("/usr/local/lib/probe.py", PROBE)
    machine.configure(CHIMIRROR_ZYGOTE="-- /usr/bin/python3 /usr/local/lib/probe.py")
    machine.do("systemctl", "start", "chimirror-zygote.socket")
    with zygote_application(machine) as pipes:
        os.write(pipes[0], b'"sockets()"\n')
        with open(pipes[1], closefd=False) as output:
            assert literal_eval(output.readline()) == ["/run/systemd/notify"]


def test_the_programs_of_a_server_are_out_of_reach(machine: Machine) -> None:
    with ExitStack() as stack:
        probe = Probe(machine, stack, in_server=True)
        programs = [
            pid
            for pid in machine.processes(SERVER)
            if b"chimirror-server" in read(f"/proc/{pid}/cmdline")
        ]
        assert len(programs) >= 3
        for pid in programs:
            (line,) = re.findall(
                "^NSpid:.*", read(f"/proc/{pid}/status").decode(), re.M
            )
            place = f"/proc/{line.split()[-1]}"
            assert probe.ask(f"read('{place}/environ')") == "FileNotFoundError"
            assert probe.ask(f"read('{place}/cmdline')") == "FileNotFoundError"


def test_users_of_applications_in_a_server_of_root(machine: Machine) -> None:
    machine.write("/usr/local/lib/probe.py", PROBE)
    for name, user in (("alice", 1879200001), ("bob", 1879200002)):
        text = f"command = {json.dumps(COMMAND)}\nuser = {user}\n"
        machine.write(f"/etc/chimirror/apps/{name}.toml", text)
    machine.drop_in(SERVER, "Service", *AS_ROOT)
    serve_many(machine)
    machine.configure("--apps", "/etc/chimirror/apps")
    with ExitStack() as stack:
        alice = Probe.by_name(machine, stack, "alice")
        bob = Probe.by_name(machine, stack, "bob")
        assert alice.ask("os.getresuid() + os.getresgid()") == str(6 * (1879200001,))
        until(
            lambda: alice.ask("read('/proc/self/oom_score_adj')") == repr("1000\n"),
            "alice is preferred",
        )
        assert bob.ask("status('CapEff')") == repr("0" * 16)
        attempts = {
            "os.kill(os.getppid(), 0)": "PermissionError",
            f"os.kill({alice.pid}, 0)": "PermissionError",
            f"read('/proc/{alice.pid}/environ')": "FileNotFoundError",
            "os.setuid(0)": "PermissionError",
            "os.listdir('/run/chimirror/servers')": "PermissionError",
            "sockets()": str(HOST_SOCKETS),
        }
        for expression, answer in attempts.items():
            assert bob.ask(expression) == answer, expression


def test_the_kernel_ends_applications_first(machine: Machine) -> None:
    machine.configure("/usr/bin/cat")
    with ExitStack() as stack:
        for _ in range(16):
            open_session(machine, stack)

        def scores() -> list[str]:
            found = [pid for unit in machine.sessions() for pid in named_cat(unit)]
            return [
                read(f"/proc/{pid}/oom_score_adj").decode().strip() for pid in found
            ]

        def named_cat(unit: str) -> list[int]:
            return named(machine, unit, "cat")

        until(lambda: scores() == 16 * ["1000"], "every application is preferred")


def test_an_application_can_lower_its_preference_to_that_of_the_bridge(
    machine: Machine,
) -> None:
    with ExitStack() as stack:
        probe = Probe(machine, stack)
        assert probe.ask("write('/proc/self/oom_score_adj', '-1')") == "PermissionError"
        assert probe.ask("write('/proc/self/oom_score_adj', '0')") == "None"


def test_records_of_an_application_carry_its_unit(machine: Machine) -> None:
    """An application can send records, and the journal adds what it knows."""
    fields = r"MESSAGE=forged\n_PID=1\n_UID=0\n_SYSTEMD_UNIT=init.scope\n"
    with ExitStack() as stack:
        probe = Probe(machine, stack)
        user = probe.ask("os.getuid()")
        sending = "socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto"
        probe.ask(f"{sending}(b'{fields}', '/run/systemd/journal/socket')")
        probe.ask(f"{sending}(b'STATUS=forged', '/run/systemd/notify')")
        (record,) = machine.journal(MESSAGE="forged")
        unit = only_session(machine)
        assert (record["_UID"], record["_SYSTEMD_UNIT"]) == (user, unit)
        assert systemctl_show(machine, unit, "StatusText") != "forged"


def test_another_session_is_out_of_reach(machine: Machine) -> None:
    with ExitStack() as stack:
        victim, intruder = Probe(machine, stack), Probe(machine, stack)
        bridge = victim.ask("os.getppid()")
        assert victim.ask("os.getuid()") != intruder.ask("os.getuid()")
        assert victim.ask("os.umask(0)") == "63"
        for pid in (victim.pid, bridge):
            attempts = {
                f"os.kill({pid}, 0)": "PermissionError",
                f"os.killpg({pid}, 0)": "PermissionError",
                f"signal.pidfd_send_signal(os.pidfd_open({pid}), 0)": "PermissionError",
                f"os.path.exists('/proc/{pid}')": "False",
                f"read('/proc/{pid}/environ')": "FileNotFoundError",
                f"read('/proc/{pid}/cmdline')": "FileNotFoundError",
                f"os.listdir('/proc/{pid}/fd')": "FileNotFoundError",
                f"os.sched_setaffinity({pid}, [0])": "PermissionError",
                f"os.setpriority(os.PRIO_PROCESS, {pid}, 19)": "PermissionError",
                f"resource.prlimit({pid}, resource.RLIMIT_NOFILE)": "PermissionError",
                f"libc.ptrace(16, {pid}, 0, 0)": "-1",  # PTRACE_ATTACH
            }
            for expression, answer in attempts.items():
                assert intruder.ask(expression) == answer, expression


def test_nothing_is_shared_with_another_session(machine: Machine) -> None:
    with ExitStack() as stack:
        victim, intruder = Probe(machine, stack), Probe(machine, stack)
        for directory in ("/tmp", "/var/tmp", "/dev/shm"):
            assert victim.ask(f"write('{directory}/secret')") == "None"
            assert intruder.ask(f"os.listdir('{directory}')") == "[]"
        for where in (
            "(socket.AF_UNIX, '\\0secret')",
            "(socket.AF_INET, ('127.0.0.1', 9999))",
        ):
            assert victim.ask(f"listen{where}") == "None"
            assert victim.ask(f"connect{where}") == "None"
            assert intruder.ask(f"connect{where}") == "ConnectionRefusedError"
        assert int(victim.ask("libc.shmget(0x5ec7e7, 4096, 0o1666)")) >= 0
        assert intruder.ask("libc.shmget(0x5ec7e7, 4096, 0)") == "-1"
        session = victim.ask("os.environ['CHIMIRROR_SESSION']").strip("'")
        status = f"/run/chimirror/sessions/{session}"
        until(machine.path(status).exists, "its status")
        for one in (victim, intruder):  # not even its own
            assert one.ask(f"read('{status}')") == "PermissionError"
            assert one.ask("write('/run/chimirror/sessions/x')") == "PermissionError"
        for place in ("users", "sessions"):
            look = f"os.open('/run/chimirror/{place}', os.O_RDONLY)"
            assert intruder.ask(look) == "PermissionError"
        assert set(literal_eval(intruder.ask("os.listdir('/run')"))) <= RUN
        found = set(literal_eval(intruder.ask("os.listdir('/run/chimirror')")))
        # a socket that other tests of this machine may have started
        assert found - {"authorize"} == {"sessions", "users"}
        bus = "(socket.AF_UNIX, '/run/dbus/system_bus_socket')"
        assert intruder.ask(f"connect{bus}") != "None"


def test_a_session_can_end_only_itself(machine: Machine) -> None:
    with ExitStack() as stack:
        victim, intruder = Probe(machine, stack), Probe(machine, stack)
        intruder.peer.send("os.kill(-1, signal.SIGKILL) or os.kill(0, signal.SIGKILL)")
        try:
            closed = intruder.peer.receive()
        except ConnectionResetError:
            # its own bridge is among the processes that it can signal
            closed = Closed(1006, "")
        assert isinstance(closed, Closed)
        assert victim.ask("1 + 1") == "2"


def test_credentials(machine: Machine) -> None:
    machine.write("/etc/chimirror/token", "secret")
    machine.path("/etc/chimirror/token").chmod(0o600)
    load = "LoadCredential=token:/etc/chimirror/token"
    machine.drop_in("chimirror@.service", "Service", load)
    with ExitStack() as stack:
        probe, other = Probe(machine, stack), Probe(machine, stack)
        where = probe.ask("os.environ['CREDENTIALS_DIRECTORY']").strip("'")
        assert probe.ask(f"read('{where}/token')") == "'secret'"
        assert probe.ask(f"write('{where}/token')") == "PermissionError"
        assert other.ask(f"read('{where}/token')") == "FileNotFoundError"
        assert probe.ask("read('/etc/chimirror/token')") == "PermissionError"
