"""Acting as another user for a moment. Only root can."""

from __future__ import annotations

import os

import pytest

from chimirror.process import children
from chimirror.process.effective_user import EffectiveUser

NOBODY = (65534, 65533, 65532)


def ids() -> tuple[object, ...]:
    return os.getresuid(), os.getresgid(), sorted(os.getgroups())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
@pytest.mark.parametrize("dumpable", [True, False])
def test_only_the_effective_ids_change(*, dumpable: bool) -> None:
    before = ids()
    children.set_dumpable(dumpable)
    try:
        with EffectiveUser(NOBODY):
            assert ids() == ((0, 65534, 0), (0, 65533, 0), [65532, 65533])
        assert ids() == before
        assert children.is_dumpable() == dumpable
    finally:
        children.set_dumpable(True)


def test_without_ids_nothing_changes() -> None:
    before = ids()
    with EffectiveUser(()):
        assert ids() == before


def test_a_user_that_this_process_may_not_become(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(number: int) -> None:
        if number == NOBODY[1]:
            raise PermissionError(1, "Operation not permitted")

    before = ids()
    monkeypatch.setattr(os, "setgroups", lambda groups: None)
    monkeypatch.setattr(os, "setegid", refuse)
    monkeypatch.setattr(os, "seteuid", lambda number: None)
    with pytest.raises(PermissionError), EffectiveUser(NOBODY):
        pass
    assert ids() == before
