"""Runs the server as `python -m chimirror.server`."""

from chimirror.server.main import main

main()
