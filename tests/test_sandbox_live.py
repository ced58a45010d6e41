"""The sandbox of a session: what works in it, what does not, and that no other is seen.

Law: what chimirror-systemd(7) says of chimirror@.service is tried from inside one
session against another. The intruder is a real application that evaluates what it is
sent; the victim is another. Programs of five languages have to run all the same.
"""

from __future__ import annotations

import base64
import os
from contextlib import ExitStack
from pathlib import Path

import pytest

from machine import Machine
from peers import Closed, Peer
from sessions import echo, only_session, open_session
from settling import until

pytestmark = pytest.mark.timeout(120)

RANGE = range(1879048192, 1879052288)  # of chimirror@.service
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
# Reads a byte, writes a byte, to the end (javac --release 8 -g:none).
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
PROGRAMS = {
    "sh": ("/bin/sh", "-c", '"while read -r line; do echo $line; done"'),
    "python": ("/usr/bin/python3", "-c", '"while True: print(input())"'),
    "node": ("/usr/bin/node", "-e", '"process.stdin.pipe(process.stdout)"'),
    "java": ("/usr/bin/java", "-cp", "/usr/local/lib", "Echo"),
    "c": ("/usr/bin/cat",),
}


class Probe:
    """One session with the program above."""

    def __init__(self, machine: Machine, stack: ExitStack) -> None:
        machine.write("/usr/local/lib/probe.py", PROBE)
        machine.configure("/usr/bin/python3", "/usr/local/lib/probe.py")
        self.peer: Peer = open_session(machine, stack)
        self.pid = int(self.ask("os.getpid()"))

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
        # (CapInh is for files with capabilities, which no longer give any.)
        for name in ("CapPrm", "CapEff", "CapAmb"):
            assert probe.ask(f"status('{name}')") == repr("0" * 16)
        assert probe.ask("status('NoNewPrivs')") == "'1'"
        assert probe.ask("status('Seccomp')") == "'2'"
        for user in (0, RANGE[0], 1000):
            assert probe.ask(f"os.setuid({user})") == "PermissionError"
            assert probe.ask(f"os.setgid({user})") == "PermissionError"
        assert probe.ask("libc.unshare(0x10000000)") == "-1"  # a user namespace
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


def test_nobody_reads_before_it_is_somebody_of_its_own(machine: Machine) -> None:
    with machine.connect():
        until(machine.sessions, "the unit")
        unit = only_session(machine)

        def user() -> int:
            (bridge,) = machine.processes(unit) or [os.getpid()]
            lines = Path(f"/proc/{bridge}/status").read_text().splitlines()
            (line,) = [line for line in lines if line.startswith("Uid:")]
            return int(line.split()[1])

        until(lambda: user() in RANGE, "a user of its own, with nothing sent")


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
        for one in (victim, intruder):  # not even of its own
            assert one.ask(f"read('{status}')") == "PermissionError"
            assert one.ask("write('/run/chimirror/sessions/x')") == "PermissionError"
        for place in ("users", "servers", "sessions"):
            look = f"os.open('/run/chimirror/{place}', os.O_RDONLY)"
            assert intruder.ask(look) == "PermissionError"
        bus = "(socket.AF_UNIX, '/run/dbus/system_bus_socket')"
        assert intruder.ask(f"connect{bus}") != "None"


def test_a_session_can_end_only_itself(machine: Machine) -> None:
    with ExitStack() as stack:
        victim, intruder = Probe(machine, stack), Probe(machine, stack)
        intruder.peer.send("os.kill(-1, signal.SIGKILL) or os.kill(0, signal.SIGKILL)")
        try:
            closed = intruder.peer.receive()
        except ConnectionResetError:
            closed = Closed(1006, "")  # its own bridge is among those it can reach
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
