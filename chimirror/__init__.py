"""Any program that reads stdin and writes stdout as a WebSocket service.

Imports nothing: the bridge pays for every import before its first byte.
"""

from __future__ import annotations

__version__ = "0.1.0"
