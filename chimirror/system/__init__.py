"""The operating system: descriptors, processes, time; knows no WebSocket."""
