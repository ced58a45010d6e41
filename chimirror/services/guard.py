"""The guard of a server: it cleans up if the server is killed.

A shell in its own session, so that no signal to the server's group or terminal reaches
it. It reads a pipe whose other end only the server has. At a normal end the server
writes `end`. An end of file without it means that the server was killed. The guard then
kills the target's process group and each process with the server's directory in its
environment, and removes the directory.
"""

from __future__ import annotations

import subprocess

from chimirror.services.names import VARIABLE

# A start that was under way ends with an exec, which closes the pipe but shows the new
# environment only a moment later: so the search is repeated.
SCRIPT = """
trap '' HUP INT QUIT TERM
group=
while read -r word; do
    if [ "$word" = end ]; then exit 0; fi
    group=$word
done
if [ -n "$group" ]; then kill -s KILL -- "-$group"; fi
for pause in 0 0.1 0.2; do
    sleep "$pause"
    for file in $(grep -lsFzx -e "$1=$2" /proc/[0-9]*/environ); do
        pid=${file#/proc/}
        kill -s KILL "${pid%/environ}"
    done
done
rm -rf -- "$2"
"""


class Guard:
    """A running guard.

    Args:
        directory: of the server.
    """

    def __init__(self, directory: str) -> None:
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", SCRIPT, "chimirror-guard", VARIABLE, directory],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={"PATH": "/usr/bin:/bin"},
            start_new_session=True,
            bufsize=0,
        )

    def set_group(self, group: int) -> None:
        """Tell the guard the process group of the target."""
        self._write(b"%d\n" % group)

    def end(self) -> None:
        """End the guard: there is nothing left to clean up. May be called again."""
        self._write(b"end\n")
        self.clean_up()

    def clean_up(self) -> None:
        """Let the guard do its work and wait for it, unless it has ended."""
        assert self._process.stdin is not None
        if not self._process.stdin.closed:
            self._process.stdin.close()
            self._process.wait()

    def _write(self, line: bytes) -> None:
        assert self._process.stdin is not None
        if self._process.stdin.closed:
            return
        try:
            self._process.stdin.write(line)
        except BrokenPipeError:
            pass  # the guard was killed
