"""Runs the bridge as `python -m chimirror.bridge`."""

from chimirror.bridge import main

main()
