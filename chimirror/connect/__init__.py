"""chimirror-connect(1): runs a remote process as if it were local.

Modules from the bottom up:

- `errors`: exceptions and messages on stderr
- `local_io`: stdin, stdout, stderr and signals of this process
- `interrupt_policy`: which signals go to the remote process
- `stdio_relay`: joins a session to the local streams
- `tty`, `terminal_modes` and `terminal_relay`: the same for --pty
- `main`: the program

The session is one of `chimirror.client.blocking`. Imports `chimirror.client` and
`chimirror.config`, and nothing of the server.
"""
