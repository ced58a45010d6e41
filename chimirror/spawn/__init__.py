"""Starting applications for other processes, by messages over a link.

Layer 3. A worker asks through `client`, a zygote or the supervisor serves each link
with a `handler`, and `messages` defines the packets of both. `preload` forks copies of
a Python function that was imported once. The package knows no WebSocket and no session
object. May import process, log, io, text and builtin_modules.
"""
