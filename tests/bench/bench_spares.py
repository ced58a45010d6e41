"""Programs that need long to start: the first echo of a spare, and of others.

A program in Python, in JavaScript and in Java is served by chimirror-server with eight
spares and by websocketd. Each visit opens a session, sends one line and reads its echo.
A server has a visit at most each 250 ms.

The limit is what a spare cannot save. It is the same visit to cat, which is started for
it, plus a round trip to the same program through two pipes. That process has been
started in the round before, and has not been used.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from time import monotonic, perf_counter

sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[1] / "support")]

import competitors
from competitors import OURS, Competitor
from figures import REFERENCE, Bound
from harness import Bench, Turn, pause
from load_client import TEXTS, Address, Codec, enter, message

SPARES = f"{OURS} --spares=8"
LIMIT = "(cat, and a pipe)"
INTERVAL = 0.25  # seconds between two visits
BOUNDS = (Bound(most=0.1), Bound(most=1.0, against=LIMIT))
LINE = message(64)
PYTHON = "import sys\nfor line in sys.stdin: print(line, end='', flush=True)\n"
NODE = "process.stdin.on('data', data => process.stdout.write(data))\n"
JAVA = """
import java.io.*;

class App {
    public static void main(String[] words) throws IOException {
        var reader = new BufferedReader(new InputStreamReader(System.in));
        for (String line; (line = reader.readLine()) != null;)
            System.out.println(line);
    }
}
"""


def commands(directory: Path) -> dict[str, list[str]]:
    """Write the programs. Returns the command lines of those that can run here."""
    found = {}
    if shutil.which("python3"):
        (directory / "app.py").write_text(PYTHON)
        found["python3"] = ["python3", str(directory / "app.py")]
    if shutil.which("node"):
        (directory / "app.js").write_text(NODE)
        found["node"] = ["node", str(directory / "app.js")]
    if shutil.which("javac") and shutil.which("java"):
        (directory / "App.java").write_text(JAVA)
        subprocess.run(["javac", str(directory / "App.java")], check=True)
        found["java"] = ["java", "-cp", str(directory), "App"]
    return found


def visit(address: Address, codec: Codec) -> float:
    """Return the seconds from the connection to the whole echo of one line."""
    began = perf_counter()
    with enter(address, codec, LINE) as connection:
        data = b""
        while LINE not in data:
            more = connection.recv(4096)
            if not more:
                raise ConnectionError(data)
            data += more
        return perf_counter() - began


class WaitingProgram:
    """A process that has been started, and waits for its first line."""

    def __init__(self, command: list[str]) -> None:
        self._command = command
        self._next = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        pipe = subprocess.PIPE
        return subprocess.Popen(self._command, stdin=pipe, stdout=pipe, bufsize=0)

    def round_trip(self) -> float:
        """Return the seconds for one line and its echo. Starts the next process."""
        program = self._next
        assert program.stdin is not None
        assert program.stdout is not None
        began = perf_counter()
        program.stdin.write(LINE + b"\n")
        program.stdout.readline()
        took = perf_counter() - began
        self._end(program)
        self._next = self._start()
        return took

    def _end(self, program: subprocess.Popen[bytes]) -> None:
        assert program.stdin is not None
        assert program.stdout is not None
        program.stdin.close()
        program.stdout.close()
        program.wait()

    def close(self) -> None:
        self._end(self._next)


def variants() -> list[Competitor]:
    plain = competitors.ours(())[0]
    spares = competitors.ours(("--spares=8", "--workers=2"))[0]
    found = [spares._replace(name=SPARES), plain._replace(name=LIMIT)]
    if shutil.which(REFERENCE):
        version = competitors.package_version(REFERENCE)
        start = competitors.websocketd(REFERENCE)
        found.append(Competitor(REFERENCE, TEXTS, start, version))
    return found


def compare(
    bench: Bench,
    args: argparse.Namespace,
    scratch: Path,
    name: str,
    command: list[str],
) -> None:
    """Measure one program in all rounds."""
    last: dict[str, float] = {}

    def measure(turn: Turn) -> None:
        competitor = turn.competitor
        pause(max(0.0, last.get(competitor.name, 0.0) + INTERVAL - monotonic()))
        last[competitor.name] = monotonic()
        took = visit(turn.service.address, competitor.codec)
        if competitor.name == LIMIT:
            took += waiting.round_trip()
        turn.note(f"first echo, {name}", "ms", took * 1e3, *BOUNDS)

    served = {LIMIT: ["cat"]}
    with ExitStack() as stack:
        waiting = WaitingProgram(command)
        stack.callback(waiting.close)
        services = []
        for number, competitor in enumerate(bench.competitors):
            directory = scratch / f"{name}{number}"
            directory.mkdir()
            program = served.get(competitor.name, command)
            service = stack.enter_context(competitor.start(directory, program))
            services.append((competitor, service))
        bench.rounds(args, measure, services)


def main() -> int:
    bench = Bench("spares", __doc__ or "", rounds=30)
    bench.parser.add_argument("--programs", default="python3,node,java")
    args = bench.parser.parse_args()
    bench.competitors = variants()
    with tempfile.TemporaryDirectory() as scratch:
        for name, command in commands(Path(scratch)).items():
            if name in args.programs.split(","):
                compare(bench, args, Path(scratch), name, command)
    return bench.finish(args)


if __name__ == "__main__":
    sys.exit(main())
