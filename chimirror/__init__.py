"""Serves any program that reads stdin and writes stdout over WebSocket.

Every program loads this file before its first byte, so it imports nothing. The layers,
from bottom to top:

- protocol (HTTP, WebSocket, CGI, JSON-RPC), config (options)
- framing, io (event loop, sockets), host (systemd, cgroups, runtime files), log
- manifest, process (applications as child processes)
- spawn (processes started by another process), apps (catalog of applications)
- resources (responses to plain GET requests), access (who a client is)
- program (shared by the programs)
- session (one application and its client), control (of sessions by other peers)
- bridge, server, zygote and ctl, the programs

The client side is apart: client (library), connect (program), web (JavaScript).
"""

__version__ = "0.1.0"
