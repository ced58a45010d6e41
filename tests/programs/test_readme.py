"""Runs the commands and snippets of README.md in order, as they are written.

A new network namespace keeps their ports free. The tree is a copy of this one, whose
.venv has the programs of the tests. Each block has a step here. A step that needs
another place names the test that runs it there.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

import readme
from processes import MARK, PATIENCE, kill_processes, marked, until
from readme import ROOT, Block
from tmux import window

PORT = "0100007F:781B"  # 127.0.0.1:30747, as in /proc/net/tcp
LISTENING = "0A"
PROGRAM = "import sys\nfor line in sys.stdin:\n    print(line.upper(), end='')\n"
URL = "ws://127.0.0.1:30747/"


class Walk:
    """A reader of README.md: a directory, an environment and a running server."""

    def __init__(self, directory: Path, holder: int) -> None:
        self.directory = directory
        self.network = f"/proc/{holder}"
        self.mark = f"readme{holder}"
        self.environment = os.environ | {
            "HOME": str(directory),
            "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
            "XDG_RUNTIME_DIR": str(directory),
            "LC_ALL": "C.UTF-8",
            "PYTHONWARNINGS": "default",
            MARK: self.mark,
        }
        self.before = ""  # commands that changed the shell
        self.server: subprocess.Popen[bytes] | None = None
        self.log = directory / "server.log"
        self.log.touch()

    def argv(self, text: str) -> list[str]:
        script = f"set -e\n{self.before}\n{text}"
        return ["nsenter", f"--net={self.network}/ns/net", "bash", "-c", script]

    def run(self, text: str, stdin: str = "", stderr: str = "") -> str:
        """Run a block to its end. Returns its output. No other warning is printed."""
        done = subprocess.run(
            self.argv(text),
            cwd=self.directory,
            env=self.environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert (done.returncode, done.stderr) == (0, stderr), (text, done)
        return done.stdout

    def serve(self, text: str) -> None:
        """Run a block that goes on, until it listens. Stops the one before it."""
        self.stop()
        with self.log.open("wb") as output:
            self.server = subprocess.Popen(
                self.argv(text),
                cwd=self.directory,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        until(self.listens, text)

    def listens(self) -> bool:
        assert self.server
        said = self.log.read_text()
        assert self.server.poll() is None, said
        rows = Path(f"{self.network}/net/tcp").read_text().splitlines()[1:]
        places = [row.split()[1:4:2] for row in rows]
        return "listening on unix:" in said or [PORT, LISTENING] in places

    def stop(self) -> None:
        """Press Ctrl-C. No process is left, and the log has no warning."""
        if self.server:
            os.killpg(self.server.pid, signal.SIGINT)
            self.server.wait(PATIENCE)
            self.server = None
            until(lambda: not marked(self.mark), "all processes have ended")
            assert "warning" not in self.log.read_text().lower()


Step = Callable[[Walk, Block], None]


def serves(walk: Walk, block: Block) -> None:
    walk.serve(block.text)


def demonstrates(walk: Walk, block: Block) -> None:
    """Compiles and serves the examples, and tells about each step."""
    walk.serve(block.text)
    told = walk.log.read_text()
    for line in ("compiling examples/factor.c", "compiling examples/ledger.cob"):
        assert line in told
    assert f"{URL}animals\n" in told
    walk.stop()
    walk.serve(block.text)
    assert "compiling" not in walk.log.read_text()


def changes_the_shell(walk: Walk, block: Block) -> None:
    walk.run(block.text)
    walk.before += block.text


def finds_it_installed(walk: Walk, block: Block) -> None:
    """No index is asked. The warnings of pip are its own."""
    said = walk.run(f"unset PYTHONWARNINGS\n{block.text}")
    assert "Successfully installed" not in said


def answers(
    given: str, wanted: str, walk: Walk, block: Block, *, stderr: str = ""
) -> None:
    assert wanted in walk.run(block.text, given, stderr)


def passes_to(wanted: str, message: object, walk: Walk, block: Block) -> None:
    """Run the command of a host's configuration as a host does, with one request."""
    ((_, hosts),) = json.loads(block.text).items()
    ((_, host),) = hosts.items()
    speak(walk, [host["command"], *host["args"]], f"{json.dumps(message)}\n", wanted)


def passes_to_a_language_server(walk: Walk, block: Block) -> None:
    """The line holds the command of the server, as an editor starts it."""
    line = block.text.strip()
    argv = json.loads(f"[{line[line.index('{') + 1 : line.rindex('}')]}]")
    body = json.dumps(request("initialize", processId=None, rootUri=None))
    head = f"Content-Length: {len(body)}\r\n\r\n"
    speak(walk, argv, head + body, '"completionProvider"')


def request(method: str, **params: object) -> dict[str, object]:
    params.setdefault("capabilities", {})
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


def speak(walk: Walk, argv: list[str], message: str, wanted: str) -> None:
    """Send a message to a command, and wait for an output before its input ends."""
    with subprocess.Popen(
        walk.argv(f"exec {' '.join(argv)}"),
        env=walk.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as client:
        assert client.stdin
        assert client.stdout
        client.stdin.write(message.encode())
        client.stdin.flush()
        said = b""
        while wanted.encode() not in said:
            chunk = os.read(client.stdout.fileno(), 65536)
            assert chunk, said
            said += chunk
        client.stdin.close()
        client.wait(PATIENCE)


def shows_a_program(walk: Walk, block: Block) -> None:
    """The terminal is a window of tmux, which top fills."""
    argv = [
        "env",
        "-C",
        str(walk.directory),
        *walk.argv(f"{block.text}echo back again; exec cat"),
    ]
    with window(walk.directory, "reader", argv) as screen:
        screen.shows(" PID USER")
        screen.type("q")
        screen.shows("back again")


def lists_each_directory(walk: Walk, block: Block) -> None:
    for top in ("chimirror", "tests"):
        for path in (ROOT / top).iterdir():
            if path.is_dir() and not path.name.startswith(("_", ".")):
                assert f" {path.name}/" in block.text


def elsewhere(test: str, mention: str, walk: Walk, block: Block) -> None:
    """Another test runs the block, and finds it in README.md by this text."""
    assert mention in (ROOT / test).read_text()


PACKAGE = partial(elsewhere, "tests/programs/test_install.py", "README.md")
JAVASCRIPT = partial(elsewhere, "tests/browser/test_npm_package.py", '"README.md"')
PYTHON = partial(elsewhere, "tests/repo/test_client_manual.py", '"README.md"')
SERVICE = partial(elsewhere, "tests/repo/test_services_manual.py", '"README.md"')
HOST = partial(elsewhere, "tests/systemd/test_readme.py")
THIS = partial(elsewhere, ".ci/run", "make")  # CI runs these tests by it
CLIENT = f"chimirror-connect {URL}"
MCP = request(
    "initialize",
    protocolVersion="2025-06-18",
    clientInfo={"name": "reader", "version": "1"},
)
ACP = request("initialize", protocolVersion=1)
ECHO = partial(answers, "hello\n", "HELLO\n")
STEPS: tuple[tuple[str, Step], ...] = (
    ("make demo", demonstrates),
    (f".venv/bin/{CLIENT}animals", partial(answers, "no\n", "animal")),
    ("make test", THIS),
    (". .venv/bin/activate", changes_the_shell),
    ("pipx install .", PACKAGE),
    ("python3 -m venv ~/.local/chimirror", PACKAGE),
    ("chimirror-server -- python3 your-program.py", serves),
    (CLIENT, ECHO),
    ("chimirror-server --protocol mcp -- python3 examples/mcp_server.py", serves),
    ("{", partial(passes_to, '"notebook"', MCP)),
    ("pip install 'python-lsp-server[pyflakes]'", finds_it_installed),
    ("chimirror-server --protocol lsp -- pylsp", serves),
    (
        f'cmd = {{ "chimirror-connect", "{URL}" }},',
        passes_to_a_language_server,
    ),
    ("chimirror-server --protocol acp -- python3 examples/agent.py", serves),
    ("{", partial(passes_to, '"protocolVersion":1', ACP)),
    ("chimirror-server --pty -- top", serves),
    (CLIENT, shows_a_program),
    ("openssl req -x509 ", partial(answers, "", "", stderr="-----\n-----\n")),
    ("chimirror-server --tls-cert server.crt --tls-key server.key", serves),
    ("chimirror-connect --ca server.crt --cert anna.crt", ECHO),
    ("umask 077", partial(answers, "", "")),
    ("chimirror-server --authorize 'exec:chimirror-authorize", serves),
    ("chimirror-connect --token-file anna.token", ECHO),
    ("make install", partial(HOST, "systemctl enable")),
    (
        "CHIMIRROR_COMMAND=",
        partial(HOST, "your-program.py"),
    ),
    ("make install", partial(HOST, "try-restart")),
    ("chimirror-server --host chat.example.org --trusted-proxy", serves),
    (f"chimirror-connect ws://127.0.0.1:30746/ {URL}", ECHO),
    ('import { connect, lines } from "./chimirror.js";', JAVASCRIPT),
    ("from chimirror.client.blocking import connect", PYTHON),
    ("import asyncio", PYTHON),
    ("from chimirror.services import Server", SERVICE),
    ("from chimirror.services import connect", SERVICE),
    ("make -C examples", serves),
    (
        "chimirror-server --apps examples/local --listen unix:",
        serves,
    ),
    (
        "chimirror-connect ws+unix:",
        partial(answers, "6 * 7\n", "42\n", stderr=">>> >>> \n"),
    ),
    (
        "chimirror-ctl add animals",
        partial(HOST, "chimirror-ctl add"),
    ),
    ("chimirror-server --directory examples --preload vault:main", serves),
    (
        f"python3 examples/vault_client.py {URL} set a b -- get a",
        partial(answers, "", 'true\n"b"\n'),
    ),
    (
        "socat TCP-LISTEN:30747",
        serves,
    ),
    (
        "systemd-socket-activate --accept",
        serves,
    ),
    ("chimirror/    bottom to top", lists_each_directory),
    ("make check", THIS),
)


@contextmanager
def walking() -> Iterator[Walk]:
    """Prepare a tree and a network. Its path is short, for that of a Unix socket."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        tree = Path(name)
        shutil.copytree(ROOT / "examples", tree / "examples")
        for each in ("Makefile", ".ci", "chimirror", "pyproject.toml"):
            (tree / each).symlink_to(ROOT / each)
        (tree / "your-program.py").write_text(PROGRAM)
        installed = tree / ".venv"
        installed.mkdir()
        for each in ("bin", "lib", "pyvenv.cfg"):
            (installed / each).symlink_to(Path(sys.prefix) / each)
        for stamp in (".python", ".demo"):
            (installed / stamp).touch()
        script = "ip link set lo up; echo; exec cat"
        holder = subprocess.Popen(
            ["unshare", "--net", "sh", "-ec", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        with holder:
            assert holder.stdout
            assert holder.stdin
            assert holder.stdout.readline() == b"\n"
            walk = Walk(tree, holder.pid)
            try:
                yield walk
                walk.stop()
            finally:
                kill_processes(marked(walk.mark))
                if walk.server:
                    walk.server.wait(PATIENCE)
                holder.stdin.close()


def test_every_block_has_a_step() -> None:
    """A step begins with the first line of its block, or with a part of it."""
    blocks = readme.blocks()
    assert [
        first if block.first.startswith(first) else block.first
        for block, (first, _) in zip(blocks, STEPS, strict=False)
    ] == [first for first, _ in STEPS]
    assert len(blocks) == len(STEPS)


@pytest.mark.timeout(300)
def test_the_blocks_in_order() -> None:
    if os.geteuid():
        pytest.skip("network namespaces need root")
    with walking() as walk:
        for block, (_, step) in zip(readme.blocks(), STEPS, strict=True):
            try:
                step(walk, block)
            except BaseException as error:
                error.add_note(f"{block.text}\n{walk.log.read_text()}")
                raise
