"""Descriptors and readiness: the event loop, streams, listeners and sockets.

Layer 1. The package moves bytes and knows no WebSocket, no message format and no
process. The event loop is `loop` with its fallback poller `selector_poller`. Streams:
`stream`, `line_stream`, `packet_socket` and their `write_buffer`. Listening:
`listen_address`, `listener`, `session_socket` and `acceptor`. `activation` finds an
inherited connection, `fds` cares for inherited descriptors, and `tcp_info` reads the
TCP state from the kernel. May import only config, protocol.addresses, builtin_modules
and text.
"""
