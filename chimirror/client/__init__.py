"""The client's side of a session: a remote process as if it were local.

From the bottom up: `texts` (what we say, and how a peer's words are made safe),
`url`, `stdio` (the messages of chimirror.stdio.v1, pure), `local` (this process's
own stdin, stdout and stderr), `channel` (one WebSocket over one socket), `dial`
(from URL to channel), `session` (joins channel and local ends), `connect` (the
program). Nothing here knows how a server works: chimirror-protocol(7) is all it
goes by.
"""
