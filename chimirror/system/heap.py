"""The C library's heap, told by example that large blocks come and go.

Knows malloc(3) of glibc; elsewhere it does nothing that could be noticed. There, a
block of 128 KiB or more is mapped anew each time, and the top of the heap is given
back, until a mapped block is freed: that moves both thresholds up (mallopt(3),
M_MMAP_THRESHOLD, which only C and the environment can set directly). A message of a
megabyte needs several blocks of its size at a time and frees them together, which
moves them too little: 340 page faults for each, and 1.5 ms instead of 0.8.
"""

from __future__ import annotations

LARGE = 4 << 20  # what a message of 1 MiB needs in all; twice that may stay at the top


def expect_large_blocks() -> None:
    """Have blocks of up to `LARGE` bytes used again; never touched, it costs 10 µs."""
    bytes(LARGE)
