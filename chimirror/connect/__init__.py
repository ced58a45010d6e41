"""chimirror-connect(1): a remote process as if it were local.

From the bottom up: `texts` (what we say), `local` (this process's own stdin, stdout,
stderr and signals), `interrupts` (whom a signal is for), `joined` (a session and the
local ends), `main` (the program); for --pty `terminal` (the local one's modes),
`emulator` (what output has changed of it) and `screen` (`joined` to a terminal). The
session is `chimirror.client.blocking`'s.
"""
