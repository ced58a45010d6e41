"""Schemas of application files: the refused ones, and relocation without a change."""

from __future__ import annotations

from datetime import date
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chimirror.manifest.schema import (
    MAX_DEPTH,
    find_errors,
    find_example_errors,
    relocate,
)
from recursive_schemas import RECURSIVE, UNRESOLVABLE
from strategies_schemas import VALUES, Schema, schemas

PLACE = "#/components/schemas/input"


def nested(depth: int) -> Schema:
    found: Schema = {}
    for _ in range(depth):
        found = {"not": found}
    return found


@pytest.mark.parametrize(
    "schema",
    [
        True,
        {},
        {"type": ["string", "null"]},
        *RECURSIVE,
        {"properties": {"type": {"type": "string"}, "title": {}}},
        {"enum": [1, True, "1", [1], [True]]},
        {"dependencies": {"a": ["b"], "b": {"required": ["c"]}}},
        {
            "$id": "https://example.org/it",
            "$schema": "http://json-schema.org/draft-07/schema",
        },
        {"$ref": "#/definitions/a~1b%25", "definitions": {"a/b%": False}},
        {"unknown": {"deep": ["down"]}, "x-mine": None},
        {"minimum": -(10**308), "maximum": 2**64, "const": 1.7976931348623157e308},
        nested(MAX_DEPTH),
    ],
)
def test_valid_schemas(schema: Schema) -> None:
    assert not find_errors(schema)


@pytest.mark.parametrize(("schema", "text_part"), UNRESOLVABLE)
def test_cycles_that_parsers_cannot_resolve(schema: Schema, text_part: str) -> None:
    jsonschema.Draft7Validator.check_schema(schema)
    (place, text), *_ = find_errors(schema)
    assert text_part in f"{'.'.join(place)} {text}"


@pytest.mark.parametrize(
    ("schema", "text_part"),
    [
        (5, "the schema has to be a table, true or false"),
        ({"type": "text"}, "type has to be one of array, boolean, integer"),
        ({"type": []}, "type has to be one of"),
        ({"type": ["null", "null"]}, "type has to be one of"),
        ({"properties": {"a": {"minimum": "1"}}}, "properties.a.minimum has to be a "),
        ({"properties": []}, "properties has to be a table of schemas"),
        ({"properties": {"a": "string"}}, "properties.a has to be a table, true or"),
        ({"minLength": -1}, "minLength has to be a whole number from 0 on"),
        ({"minLength": True}, "minLength has to be a number"),
        ({"maxItems": 1.5}, "maxItems has to be a whole number"),
        ({"multipleOf": 0}, "multipleOf has to be a number above 0"),
        ({"title": 1}, "title has to be a string"),
        ({"readOnly": "yes"}, "readOnly has to be true or false"),
        ({"required": "a"}, "required has to be a list of different names"),
        ({"required": ["a", "a"]}, "required has to be a list of different names"),
        ({"required": [1]}, "required has to be a list of different names"),
        ({"enum": []}, "enum has to be a list of different values"),
        ({"enum": [1, 1.0]}, "enum has to be a list of different values"),
        ({"enum": [{"a": 1, "b": 2}, {"b": 2, "a": 1.0}]}, "enum has to be a list of"),
        ({"examples": 1}, "examples has to be a list"),
        ({"allOf": []}, "allOf is empty; write at least one schema"),
        ({"anyOf": {}}, "anyOf has to be a list of schemas"),
        ({"oneOf": [1]}, "oneOf.0 has to be a table, true or false"),
        ({"dependencies": {"a": ["b", "b"]}}, "dependencies.a has to be a list of"),
        ({"$ref": 1}, "$ref has to be a string, such as #/definitions/NAME"),
        ({"$ref": "other.json"}, "$ref refers to other.json, another document; put "),
        ({"$ref": "https://example.org/a#/b"}, "another document"),
        ({"$ref": "#name"}, "$ref refers to #name, where there is no schema"),
        ({"$ref": "#/definitions/a"}, "$ref refers to #/definitions/a, where there is"),
        ({"$ref": "#/definitions/%"}, "where there is no schema"),
        ({"$ref": "#/x", "x": {}}, "where there is no schema"),
        ({"items": {"$ref": "#/enum/0"}, "enum": [{}]}, "where there is no schema"),
        ({"$ref": "#"}, "the schema refers to itself for the same value, without end"),
        ({"allOf": [{"$ref": "#"}]}, "refers to itself"),
        ({"not": {"anyOf": [{"$ref": "#"}]}}, "refers to itself"),
        ({"dependencies": {"a": {"$ref": "#"}}}, "refers to itself"),
        (
            {"definitions": {"a": {"$ref": "#/definitions/a"}}},
            "definitions.a refers to itself",
        ),
        ({"const": {"a": [{"$ref": "#"}]}}, "const.a.0.$ref has a name that AsyncAPI"),
        ({"properties": {"$ref": {}}}, "properties.$ref has a name that AsyncAPI"),
        ({"x-mine": {"$ref": "#"}}, "x-mine.$ref has a name that AsyncAPI always"),
        ({"properties": {"a": {"$id": "b"}}}, "properties.a.$id belongs at the root"),
        ({"$id": 1}, "$id has to be a string"),
        (
            {"$schema": "https://json-schema.org/draft/2020-12/schema"},
            "draft-07/schema",
        ),
        ({"prefixItems": [{}]}, "prefixItems is of a later JSON Schema than draft-07"),
        ({"schema": {}}, "schema is not a keyword of JSON Schema"),
        ({"minimum": float("nan")}, "minimum is not a JSON number"),
        ({"default": float("-inf")}, "default is not a JSON number"),
        ({"default": -(1 << 1024)}, "default is not a JSON number, or beyond 1.8e308"),
        ({"const": 1 << 99999}, "const is not a JSON number, or beyond 1.8e308"),
        ({"const": date(2026, 1, 1)}, "const is not a JSON value; write it as a st"),
        (nested(MAX_DEPTH + 1), f"not.not.not.not is nested deeper than {MAX_DEPTH}"),
    ],
)
def test_errors(schema: Schema, text_part: str) -> None:
    ((place, text),) = find_errors(schema)
    assert text_part in f"{'.'.join(place) or 'the schema'} {text}"


def test_every_error_is_reported() -> None:
    assert len(find_errors({"type": 1, "minLength": "a", "items": {"enum": 1}})) == 3


@pytest.mark.parametrize("example", [None, 1, "a", [{"ref": "$ref"}]])
def test_examples(example: object) -> None:
    assert not find_example_errors(example)


@pytest.mark.parametrize(
    ("example", "text_part"),
    [
        ({"a": {"$ref": 1}}, "a.$ref has a name that AsyncAPI"),
        (date(2026, 1, 1), "the example is not a JSON value"),
        ([[float("nan")]], "0.0 is not a JSON number"),
    ],
)
def test_invalid_examples(example: object, text_part: str) -> None:
    ((place, text),) = find_example_errors(example)
    assert text_part in f"{'.'.join(place) or 'the example'} {text}"


@given(schemas(), st.lists(VALUES, min_size=1, max_size=5))
def test_relocation_changes_nothing(schema: Schema, values: list[Any]) -> None:
    assert not find_errors(schema)
    jsonschema.Draft7Validator.check_schema(schema)
    there = relocate(schema, PLACE)
    document = {"$ref": PLACE, "components": {"schemas": {"input": there}}}
    for value in values:
        assert jsonschema.Draft7Validator(document).is_valid(value) == as_meant(
            schema, value
        )


def as_meant(schema: Schema, value: object) -> bool:
    """The author's meaning: draft-07 ignores members beside a reference.

    Later drafts do not, and read every other schema of these strategies alike.
    """
    if isinstance(schema, dict):
        schema = {name: each for name, each in schema.items() if name != "$schema"}
    return bool(jsonschema.Draft201909Validator(schema).is_valid(value))
