"""Any program that reads stdin and writes stdout, served over WebSocket.

This file is loaded by every program before its first byte, so it imports nothing.
"""

__version__ = "0.1.0"
