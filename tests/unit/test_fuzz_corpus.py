"""Every input of the fuzzing corpus keeps the properties of its target.

The corpus holds real inputs, and each input that once broke a property.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import fuzz
from chimirror.protocol import json_text

TARGETS = fuzz.targets()


@pytest.fixture(autouse=True)
def _restored_scanner() -> Iterator[None]:
    """Restore the JSON scanner after each test: some targets bring in orjson."""
    before = json_text.fast_parse, json_text._spent
    yield
    json_text.fast_parse, json_text._spent = before


def test_each_target_has_a_corpus() -> None:
    assert {path.name for path in fuzz.CORPUS.iterdir()} == {*TARGETS}
    assert all(function.__doc__ for function in TARGETS.values())


@pytest.mark.parametrize("name", TARGETS)
def test_corpus(name: str) -> None:
    inputs = fuzz.seeds(name)
    assert inputs
    for path in inputs:
        data = path.read_bytes()
        assert len(data) <= fuzz.MAX_SIZE
        for size in (len(data), len(data) // 2):
            try:
                TARGETS[name](data[:size])
            except BaseException as error:
                error.add_note(f"with the first {size} bytes of {path}")
                raise
