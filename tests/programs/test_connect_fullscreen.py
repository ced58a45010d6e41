"""Full-screen programs through chimirror-connect --pty, and lost connections.

tmux shows the same screen as for a local program. After a lost connection, all terminal
modes are reset.
"""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

import websocket_peer
from chimirror.connect.tty import LocalTerminal
from connect_process import bare_server, frame, upgrade
from connect_terminal import alike, both, remotely, status, wrapped
from fake_server import output
from processes import until
from tmux import Window, window

FLAGS = (
    *("alternate_on", "cursor_flag", "insert_flag", "keypad_cursor_flag"),
    *("keypad_flag", "mouse_any_flag", "mouse_sgr_flag", "origin_flag", "wrap_flag"),
)
PLAIN = ["0", "1", "0", "0", "0", "0", "0", "0", "1"]


def flags(found: Window) -> list[str]:
    """Return the modes of the terminal emulator."""
    words = " ".join(f"#{{{name}}}" for name in FLAGS)
    return found.do("display-message", "-p", words).split()


def region(found: Window) -> str:
    """Return the scroll region."""
    names = "#{scroll_region_upper} #{scroll_region_lower}"
    return found.do("display-message", "-p", names).strip()


def plain(found: Window) -> None:
    until(lambda: flags(found) == PLAIN, "a plain terminal")


# Disables the queries of vim to the terminal, because their timing varies.
MUTE = "set t_u7= t_RV= t_RB= t_RF= t_RS= t_RC="
EDITOR = ["vim", "-Nu", "NONE", "-i", "NONE", "-n", "--cmd", MUTE]
EDITOR += ["+set mouse=a ruler showcmd"]


def test_an_editor(tmp_path: Path) -> None:
    """Insertions, selections, undo and splits look the same in each size."""
    text = tmp_path / "text"
    text.write_text("".join(f"line {n} {'x' * (n % 150)}\n" for n in range(500)))
    editor = [*EDITOR, str(text)]
    with (
        remotely(tmp_path, editor) as (remote, _),
        window(tmp_path, "local", editor) as local,
    ):
        windows = (remote, local)

        def does(keys: str, *shown: str) -> None:
            both(windows, *keys.split(" "))
            for each in windows:
                for part in shown:
                    each.shows(part)
            alike(*windows)

        def leaves(mode: str) -> None:
            """Send Ctrl-C, which drops typed input that has not been read."""
            both(windows, "C-c")
            for each in windows:
                each.hides(mode)
            alike(*windows)

        for each in windows:
            each.shows("line 20 ")
        alike(*windows)
        assert flags(remote) == flags(local) != PLAIN
        for columns, rows in ((100, 30), (60, 10), (80, 24)):
            for each in windows:
                each.resize(columns, rows)
            does("ggityped Space", "typed", "INSERT", "1,7")
            leaves("INSERT")
            does("yy3p:set Space number Enter", "  4 typed ")
            does("C-f V5j", "VISUAL", "6")
            leaves("VISUAL")
            does("u/line Space 4[0-9]5 Enter", "line 405")
            does("zzR Left Down Up", "REPLACE")
            leaves("REPLACE")
            for command in (":split", ":only"):
                does(f"{command} Enter zt:done", ":done")
                leaves(":done")
        does("ggdGiover", "over", "INSERT")
        leaves("INSERT")
        remote.type(":wq", "Enter")
        assert status(tmp_path) == "0"
        assert text.read_text() == "over\n"
        plain(remote)


def shape(found: Window) -> list[object]:
    """Return the static parts of htop's screen, [] while it is half drawn."""
    lines = found.shown().splitlines()[:-1]  # htop hides its cursor and moves it
    for at, line in enumerate(lines):
        if "PID USER" in line:
            meters = [
                re.findall(r"[A-Z][a-z ]+[:[]|\d+\[", each) for each in lines[:at]
            ]
            return [at, line, meters, lines[-1], len(lines)]
    return []


def alike_in_shape(one: Window, other: Window) -> None:
    until(lambda: [] != shape(one) == shape(other), f"{one.shown()}\n{other.shown()}")


def test_a_monitor(tmp_path: Path) -> None:
    """Except for changing figures, the screen is the same in each size and dialogue."""
    with ExitStack() as stack:
        # One process without threads, so that the number of rows stays the same.
        process = stack.enter_context(subprocess.Popen(["sleep", "1000"]))
        stack.callback(process.kill)
        command = ["env", f"HOME={tmp_path}", "htop", "-p", str(process.pid)]
        remote, _ = stack.enter_context(remotely(tmp_path, command))
        local = stack.enter_context(window(tmp_path, "local", command))
        windows = (remote, local)
        for each in windows:
            each.shows("F10Quit")
        assert flags(remote) == flags(local) != PLAIN
        for size in ((110, 30), (70, 12), (80, 24)):
            for each in windows:
                each.resize(*size)
            alike_in_shape(*windows)
            both(windows, "F6")
            for each in windows:
                each.shows("Sort by")
            alike_in_shape(*windows)
            both(windows, "Escape")
        remote.type("F10")
        assert status(tmp_path) == "0"
        plain(remote)


# Lost connections.


def test_an_editor_whose_connection_is_lost(tmp_path: Path) -> None:
    """The screen is the same as before."""
    with remotely(tmp_path, [*EDITOR, "text"]) as (remote, service):
        remote.shows('"text" [New]')
        assert flags(remote) != PLAIN
        for pid in service.serving():
            os.kill(pid, signal.SIGKILL)
        assert status(tmp_path) == "255"
        plain(remote)


EVERYTHING = (
    b"shown before\x1b[?1049h\x1b[?1;5;25;7;1000;1002;1003;1004;1005;1006;2004;2026h"
    b"\x1b[?25;7l\x1b=\x1b[4;20h\x1b[3;9r\x1b[?6h\x1b[1;4;7;31;42m\x1b(0\x1b)0\x0e"
    b"\x1b[>4;2m\x1b[>1u\x1b[5 q\x1b]0;half a tit"
)
ENDS: dict[str, Callable[[websocket_peer.Peer], object]] = {
    "close": lambda peer: peer.send_raw(frame(b"\x03\xf3error internal", 0x88)),
    "hang-up": lambda peer: peer.half_close(),
    "reset": lambda peer: peer.reset(),
    "garbage": lambda peer: peer.send_raw(b"\xff" * 100),
    "silence": lambda peer: None,
}


@pytest.mark.parametrize("end", ENDS)
def test_all_modes_are_reset(end: str, tmp_path: Path) -> None:
    """After all modes that can be set at a lost connection, a shell works as before."""
    # Pings go unanswered, which leaves time to look at the screen.
    patience = ("--ping-interval", "5", "--ping-timeout", "1")
    with ExitStack() as stack:
        url, take = stack.enter_context(bare_server())
        argv = wrapped(tmp_path, *(patience if end == "silence" else ()), url)
        remote = stack.enter_context(window(tmp_path, "remote", argv))
        with take() as peer:
            upgrade(peer, frame('{"type":"session","id":"x","pty":true}'))
            peer.send_raw(frame(output(EVERYTHING)))
            until(lambda: flags(remote) != PLAIN, "a terminal that is another")
            until(lambda: region(remote) != "0 23", "a scroll region")
            ENDS[end](peer)
            assert status(tmp_path) == "255"
        plain(remote)
        until(lambda: region(remote) == "0 23", "no scroll region")
        remote.do("set-buffer", "lqqqk")
        remote.do("paste-buffer", "-p")
        remote.type("Enter")
        remote.shows("lqqqk\nlqqqk\n")
        assert "\x1b" not in remote.do("capture-pane", "-pe")
        assert "shown before" in remote.shown()


def test_no_reset_in_a_file(tmp_path: Path) -> None:
    """Standard output is a file and holds only the output of the program."""
    with ExitStack() as stack:
        url, take = stack.enter_context(bare_server())
        argv = wrapped(tmp_path, url)
        argv[2] = argv[2].replace('"$@"', '"$@" >output')
        stack.enter_context(window(tmp_path, "remote", argv))
        with take() as peer:
            upgrade(peer, frame('{"type":"session","id":"x","pty":true}'))
            peer.send_raw(frame(output(EVERYTHING)))
            peer.half_close()
            assert status(tmp_path) == "255"
        assert (tmp_path / "output").read_bytes() == EVERYTHING


def test_input_for_a_lost_session_is_dropped() -> None:
    with ExitStack() as stack:
        master, slave = os.openpty()
        for fd in (master, slave):
            stack.callback(os.close, fd)
        with LocalTerminal(slave) as terminal:
            os.write(master, b":wq\r")
            assert ready(slave, 30)
            terminal.drop_input()
            assert not ready(slave, 0)


def ready(fd: int, timeout: float) -> bool:
    return bool(select.select([fd], [], [], timeout)[0])
