"""A subreaper adopts orphans. Other systems have none, which is reported."""

from __future__ import annotations

import os
import sys

import pytest

from chimirror.process.children import become_subreaper
from loops import subreaper


def orphan() -> int:
    """Return the pid of an orphaned grandchild, which ends at the end of file."""
    told, tell = os.pipe()
    held, hold = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(hold)
        if os.fork() == 0:
            os.write(tell, b"%d" % os.getpid())
            os.close(tell)
            os.read(held, 1)
        os._exit(0)
    os.close(tell)
    os.close(held)
    os.waitpid(child, 0)
    pid = int(os.read(told, 99))
    os.close(told)
    os.close(hold)
    return pid


def test_orphans_are_adopted() -> None:
    with subreaper():
        assert become_subreaper()
        pid = orphan()
        assert os.waitpid(pid, 0) == (pid, 0)


def test_another_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "freebsd14")
    assert not become_subreaper()


def test_a_python_without_libffi(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "_ctypes", None)
    assert not become_subreaper()
