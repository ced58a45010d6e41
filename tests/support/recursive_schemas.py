"""Recursive JSON Schemas that manifests accept, and those that they refuse."""

from __future__ import annotations

from strategies_schemas import Schema

RECURSIVE: list[Schema] = [
    {"properties": {"child": {"$ref": "#"}}},
    {"items": {"$ref": "#/$defs/a"}, "$defs": {"a": {"items": {"$ref": "#"}}}},
    # Trees: a schema within itself, and two that are in each other.
    {"$defs": {"a/b": {"items": {"$ref": "#/$defs/a~1b"}}}},
    {"$defs": {"é": {"items": {"items": {"$ref": "#/$defs/%C3%A9"}}}}},
    {"$defs": {"a": {"items": {"$ref": "#/$defs/b"}}, "b": {"$ref": "#/$defs/a"}}},
    {
        "properties": {
            "a": {"items": {"$ref": "#/properties/b"}},
            "b": {"contains": {"$ref": "#/properties/a"}},
        }
    },
    # References to references, and escaped names, outside of a cycle.
    {
        "$ref": "#/$defs/a",
        "$defs": {
            "a": {"$ref": "#/$defs/b"},
            "b": {"$ref": "#/$defs/c~0"},
            "c~": {"$ref": "#/$defs/d%20"},
            "d ": {"items": {"$ref": "#/$defs/d%20"}},
        },
    },
]

# The official parser's stack overflows on each of these (test_document.py).
UNRESOLVABLE: list[tuple[Schema, str]] = [
    (
        {
            "definitions": {
                "a/b": {"items": {"$ref": "#/definitions/~01"}},
                "~1": {"properties": {"x": {"$ref": "#/definitions/a~1b"}}},
            }
        },
        "definitions.a/b.items.$ref refers to #/definitions/~01, which leads back",
    ),
    (
        {
            "properties": {
                "é": {"contains": {"$ref": "#/properties/x%20y"}},
                "x y": {"propertyNames": {"$ref": "#/properties/%C3%A9"}},
            }
        },
        "properties.é.contains.$ref refers to #/properties/x%20y, which leads back",
    ),
    (
        {
            "definitions": {
                "a": {"$ref": "#/definitions/b"},
                "b": {"$ref": "#/definitions/c"},
                "c": {"items": {"$ref": "#/definitions/a"}},
            }
        },
        "which leads back here and is a reference itself; write #/definitions/c",
    ),
]
