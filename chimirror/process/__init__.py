"""Processes: start applications, move their bytes, reap them and their strays.

Layer 2. An application is an `application_process` over `pipes`, or a `pty_process`
over a `pty`. `spawner` starts processes. `fast_spawner` does so by a C extension, and
enters them in a `process_table`. `reaper` and `sigchld` wait for their ends,
`children` holds the calls of proc(5), waitpid(2) and kill(2). `fork` runs a forked
child. `user_program` starts a process as another user, and `effective_user` acts as
one. The package knows no WebSocket and no messages. May import log, io, text and
builtin_modules.
"""
