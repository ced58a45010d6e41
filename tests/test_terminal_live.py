"""Terminals in the sandboxes of the units, under a real systemd.

Law: a shell works as it does outside, whichever unit serves it, goes with its client,
and no session sees or types into the terminal of another.
"""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from machine import PORT, Machine
from peers import Closed, Peer
from sessions import SERVER, SERVER_PORT, gone, named, serve_many
from settling import until
from test_pty import Talk

pytestmark = pytest.mark.timeout(120)

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


def open_shell(machine: Machine, stack: ExitStack, unit: str) -> Talk:
    peer = stack.enter_context(Peer(machine.connect(UNITS[unit])))
    assert peer.open(framing="stdio").status == 101
    assert peer.message()["pty"] is True
    talk = Talk(peer, 0)
    talk.sees(PROMPT)
    return talk


def asked(talk: Talk, command: str, answer: str) -> bytes:
    """What the shell says, up to its prompt: what is typed before that may be lost."""
    talk.type(f"{command}\r")
    found = talk.sees(answer)[0]
    talk.sees(PROMPT)
    return found


@everywhere
def test_a_shell(machine: Machine, unit: str) -> None:
    """Its terminal, its size, its jobs, its status."""
    serve(machine, unit)
    with ExitStack() as stack:
        talk = open_shell(machine, stack, unit)
        asked(talk, "tty; stty size", r"/dev/pts/\d+\r\n24 80\r\n")
        asked(talk, "test -O $(tty) && echo mi''ne", r"mine\r\n")
        talk.resize(111, 33)
        asked(talk, "stty size", r"33 111\r\n")
        talk.type("sh -c 'echo ru''ns; exec sleep 1000'\r")
        talk.sees("runs")
        talk.type("\x1a")
        talk.sees("Stopped")
        talk.sees(PROMPT)
        asked(talk, "kill %1; wait; echo en''ded", "ended\r\n")
        asked(talk, "echo the''re >/dev/tty", "there\r\n")
        talk.type("exit 7\r")
        assert talk.story().closed == Closed(1011, "exit 7")


@everywhere
def test_it_goes_with_its_client(machine: Machine, unit: str) -> None:
    serve(machine, unit)
    with ExitStack() as stack:
        talk = open_shell(machine, stack, unit)
        asked(talk, "sleep 1000 &", r"\[1\] \d+")
        talk.peer.close()
        if unit == SERVER:
            until(lambda: not named(machine, SERVER, "sleep"), "its job has ended")
            until(lambda: not named(machine, SERVER, "bash"), "it has ended")
        else:
            gone(machine)


def test_the_terminal_of_another_is_out_of_reach(machine: Machine) -> None:
    """In units of their own; in the server all are one user."""
    unit = "chimirror@.service"
    serve(machine, unit)
    with ExitStack() as stack:
        victim = open_shell(machine, stack, unit)
        intruder = open_shell(machine, stack, unit)
        terminal = asked(victim, "tty", r"/dev/pts/\d+").decode()
        asked(intruder, "ls /dev/pts/* | cat", terminal)  # as chimirror-systemd(7) says
        intruder.type(f"echo x >{terminal}; cat <{terminal}; stty -F {terminal}\r")
        for _ in range(3):
            intruder.sees("Permission denied")
