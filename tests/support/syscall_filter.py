"""Starts a program under a seccomp filter (x86-64 only).

    python syscall_filter.py (refuse | kill | hang) PROGRAM ARGUMENT…

refuse: executable memory is refused as systemd's MemoryDenyWriteExecute= does it.
kill: memory that is writable and executable at the same time kills the process.
hang: chdir(2) waits for an answer that never comes, or for a signal.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys

PR_SET_NO_NEW_PRIVS = 38  # prctl(2)
KILL, REFUSE, ALLOW = 0x8000_0000, 0x0005_0000 | 1, 0x7FFF_0000  # 1: EPERM
ASK = 0x7FC0_0000  # the listener, a descriptor
SECCOMP, SECCOMP_SET_MODE_FILTER, NEW_LISTENER = 317, 1, 8  # seccomp(2)
CHDIR = 80
ARCHITECTURE = 0xC000_003E
MMAP, MPROTECT, PKEY_MPROTECT = 9, 10, 329
WRITE, EXECUTE = 2, 4
# bpf(4): load a word, and with a constant, jump if equal, return
LOAD, AND, EQUAL, RETURN = 0x20, 0x54, 0x15, 0x06
NUMBER_AT, ARCHITECTURE_AT, PROTECTION_AT = 0, 4, 32  # in struct seccomp_data

Instruction = tuple[int, int, int, int]


def check(number: int, bits: int, action: int) -> list[Instruction]:
    """Return the instructions that judge the protection of one system call."""
    return [
        (LOAD, 0, 0, NUMBER_AT),
        (EQUAL, 0, 4, number),
        (LOAD, 0, 0, PROTECTION_AT),
        (AND, 0, 0, bits),
        (EQUAL, 0, 1, bits),
        (RETURN, 0, 0, action),
    ]


def instructions(mode: str) -> list[Instruction]:
    if mode == "hang":
        return one_call(CHDIR, ASK)
    both = WRITE | EXECUTE
    action, later = (KILL, both) if mode == "kill" else (REFUSE, EXECUTE)
    return [
        (LOAD, 0, 0, ARCHITECTURE_AT),
        (EQUAL, 1, 0, ARCHITECTURE),
        (RETURN, 0, 0, KILL),
        *check(MMAP, both, action),
        *check(MPROTECT, later, action),
        *check(PKEY_MPROTECT, later, action),
        (RETURN, 0, 0, ALLOW),
    ]


def one_call(number: int, action: int) -> list[Instruction]:
    return [
        (LOAD, 0, 0, NUMBER_AT),
        (EQUAL, 0, 1, number),
        (RETURN, 0, 0, action),
        (RETURN, 0, 0, ALLOW),
    ]


def fail(number: int, error: int) -> None:
    """Let one system call of this process and its children fail from now on."""
    apply(one_call(number, 0x0005_0000 | error))


def kill(number: int) -> None:
    """Let one system call kill its process from now on."""
    apply(one_call(number, KILL))


def apply(filters: list[Instruction]) -> None:
    code = b"".join(struct.pack("HBBI", *each) for each in filters)
    buffer = ctypes.create_string_buffer(code)
    program = struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
    flags = NEW_LISTENER if any(one[3] == ASK for one in filters) else 0
    fd = libc.syscall(SECCOMP, SECCOMP_SET_MODE_FILTER, flags, program)
    if fd < 0:
        raise OSError(ctypes.get_errno(), "seccomp")
    if flags:  # calls fail once nothing has the listener open
        os.set_inheritable(fd, True)


if __name__ == "__main__":
    apply(instructions(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])
