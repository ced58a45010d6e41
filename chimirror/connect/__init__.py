"""chimirror-connect(1): runs a remote process as if it were local.

Modules from the bottom up:

- `errors`: exceptions and messages on stderr
- `local_io`: stdin, stdout, stderr and signals of this process
- `interrupt_policy`: which signals go to the remote process
- `quiet_timer`: when a session without input has been quiet for too long
- `text_framings`: messages of lines and of bodies with headers
- `tty` and `terminal_modes`: the local terminal
- `stdio_relay`: joins a session to the local streams
- `text_relay` and `terminal_relay`: the same for text, and for terminals
- `tls_options`: the options of TLS
- `offers`: subprotocols to offer
- `catalog`: the table of applications
- `opening`: opens the session
- `main`: the program

The session is one of `chimirror.client.blocking`. Imports `chimirror.client` and
`chimirror.config`, and nothing of the server.
"""
