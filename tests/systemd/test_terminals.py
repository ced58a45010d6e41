"""Tests terminals in the sandboxes of the units, under a real systemd.

In each unit, a shell works as outside and ends with its client. No session reads or
writes the terminal of another.
"""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from machine_sessions import SERVER, SERVER_PORT, named, serve_many, wait_until_idle
from processes import until
from pty_session import PtyClient
from systemd_machine import PORT, Machine
from websocket_peer import Closed, Peer

pytestmark = pytest.mark.timeout(300)

PROMPT = r"bash-[0-9.]+\$ "
SHELL = ("/usr/bin/bash", "--norc", "-i")
UNITS = {"chimirror@.service": PORT, SERVER: SERVER_PORT}
everywhere = pytest.mark.parametrize("unit", UNITS)


def serve(machine: Machine, unit: str) -> None:
    """A shell in a terminal."""
    if unit == SERVER:
        serve_many(machine)
        machine.configure(*SHELL, options="--pty --drain-timeout 0")
    else:
        machine.configure(*SHELL, options="--pty")


def open_shell(machine: Machine, stack: ExitStack, unit: str) -> PtyClient:
    peer = stack.enter_context(Peer(machine.connect(UNITS[unit])))
    assert peer.open(framing="stdio").status == 101
    assert peer.message()["pty"] is True
    talk = PtyClient(peer, 0)
    talk.expect(PROMPT)
    return talk


def asked(talk: PtyClient, command: str, answer: str) -> bytes:
    """Read up to the shell's prompt: input that is typed earlier may be lost."""
    talk.type(f"{command}\r")
    found = talk.expect(answer)[0]
    talk.expect(PROMPT)
    return found


@everywhere
def test_a_shell(machine: Machine, unit: str) -> None:
    """Checks terminal, window size, job control and exit status."""
    serve(machine, unit)
    with ExitStack() as stack:
        talk = open_shell(machine, stack, unit)
        asked(talk, "tty; stty size", r"/dev/pts/\d+\r\n24 80\r\n")
        asked(talk, "test -O $(tty) && echo mi''ne", r"mine\r\n")
        talk.resize(111, 33)
        asked(talk, "stty size", r"33 111\r\n")
        talk.type("sh -c 'echo ru''ns; exec sleep 1000'\r")
        talk.expect("runs")
        talk.type("\x1a")
        talk.expect("Stopped")
        talk.expect(PROMPT)
        # It ends only after `fg`. A shell with stopped jobs does not exit.
        asked(talk, "kill %1; fg; echo en''ded", "ended\r\n")
        asked(talk, "echo the''re >/dev/tty", "there\r\n")
        talk.type("exit 7\r")
        assert talk.transcript().closed == Closed(1011, "exit 7")


@everywhere
def test_terminal_ends_with_its_client(machine: Machine, unit: str) -> None:
    serve(machine, unit)
    with ExitStack() as stack:
        talk = open_shell(machine, stack, unit)
        asked(talk, "sleep 1000 &", r"\[1\] \d+")
        talk.peer.close()
        if unit == SERVER:
            until(lambda: not named(machine, SERVER, "sleep"), "its job has ended")
            until(lambda: not named(machine, SERVER, "bash"), "it has ended")
        else:
            wait_until_idle(machine)


def test_the_terminal_of_another_is_out_of_reach(machine: Machine) -> None:
    """For units with their own users. In the server all sessions are one user."""
    unit = "chimirror@.service"
    serve(machine, unit)
    with ExitStack() as stack:
        victim = open_shell(machine, stack, unit)
        intruder = open_shell(machine, stack, unit)
        terminal = asked(victim, "tty", r"/dev/pts/\d+").decode()
        asked(intruder, "ls /dev/pts/* | cat", terminal)  # as chimirror-systemd(7) says
        intruder.type(f"echo x >{terminal}; cat <{terminal}; stty -F {terminal}\r")
        for _ in range(3):
            intruder.expect("Permission denied")
