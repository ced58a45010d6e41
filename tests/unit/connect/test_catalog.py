"""The table of applications, from untrusted texts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chimirror.connect import catalog
from chimirror.connect.catalog import Entry


def test_a_table() -> None:
    entries = [
        catalog._entry({"name": "shell", "purpose": "A shell.", "pty": True}),
        catalog._entry({"name": "log", "title": "Log", "direction": "receive"}),
        catalog._entry({"name": "n" * 30, "purpose": "word " * 30}),
        catalog._entry({}),
    ]
    assert catalog.table(entries) == (
        "NAME                      PURPOSE\n"
        "(without a name)\n"
        "log                       Log (only sends)\n"
        "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnn\n"
        + (" " * 26 + "word " * 10 + "word\n") * 2
        + (" " * 26 + "word " * 7 + "word\n")
        + "shell                     A shell. (terminal)\n"
    )


@given(st.lists(st.dictionaries(st.sampled_from(Entry._fields), st.text() | st.none())))
def test_texts_are_printable_and_fit(items: list[dict[str, object]]) -> None:
    for line in catalog.table([catalog._entry(item) for item in items]).splitlines():
        assert line.isprintable()
        assert len(line) <= 80
