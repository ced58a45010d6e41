"""The application's own description, as a value."""

from __future__ import annotations

import pytest

from chimirror.manifest.interface import Interface


def test_missing_values_are_empty() -> None:
    bare = Interface()
    assert (bare.name, bare.title, bare.purpose, bare.version) == ("", "", "", "")
    assert bare.send_schema is bare.receive_schema is None
    assert bare.send_examples == bare.receive_examples == ()


def test_values_cannot_change() -> None:
    schema = {"type": "string"}
    told = Interface(
        "animals",
        title="Animals",
        purpose="Guesses the animal you think of.",
        version="1.0.0",
        send_schema=schema,
        send_examples=("yes", "no"),
        receive_schema={},
        receive_examples=("Does it swim?",),
    )
    assert [getattr(told, field) for field in Interface.__slots__] == [
        "animals",
        "Animals",
        "Guesses the animal you think of.",
        "1.0.0",
        schema,
        ("yes", "no"),
        {},
        ("Does it swim?",),
    ]
    for field in Interface.__slots__:
        with pytest.raises(AttributeError, match=field):
            setattr(told, field, "other")
        with pytest.raises(AttributeError, match=field):
            delattr(told, field)
