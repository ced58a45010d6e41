"""Starts a program under a seccomp filter for executable memory (x86-64 only).

    python syscall_filter.py (refuse | kill) PROGRAM ARGUMENT…

refuse: executable memory is refused as systemd's MemoryDenyWriteExecute= does it.
kill: memory that is writable and executable at the same time kills the process.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2  # prctl(2)
KILL, REFUSE, ALLOW = 0x8000_0000, 0x0005_0000 | 1, 0x7FFF_0000  # 1: EPERM
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


def install(mode: str) -> None:
    code = b"".join(struct.pack("HBBI", *each) for each in instructions(mode))
    buffer = ctypes.create_string_buffer(code)
    program = struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    for call in (
        (PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
        (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program, 0, 0),
    ):
        if libc.prctl(*call) != 0:
            raise OSError(ctypes.get_errno(), "prctl")


if __name__ == "__main__":
    install(sys.argv[1])
    os.execv(sys.argv[2], sys.argv[2:])
