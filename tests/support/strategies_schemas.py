"""Realistic JSON Schemas, and values for them (hypothesis strategies).

Every schema is draft-07 and holds its definitions. Some definitions have odd names, and
some are recursive. References stand alone, beside other keywords, at the root or below.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from hypothesis import strategies as st

Schema = Any

ODD_NAMES = ("a", "a/b", "~1", "50%", "é", "two words", "$defs", "allOf", "0", "")
KEYS = st.sampled_from(["a", "b", "type", "é/~", "x y"])
TEXTS = st.text(st.characters(codec="utf-8"), max_size=8)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-9, 9)
    | st.sampled_from([0.5, 1.0, -2.5, 1e9])
    | TEXTS
)
VALUES = st.recursive(
    SCALARS,
    lambda below: (
        st.lists(below, max_size=3) | st.dictionaries(KEYS, below, max_size=3)
    ),
    max_leaves=6,
)
TYPES = ("array", "boolean", "integer", "null", "number", "object", "string")
UNIQUE = st.lists(
    SCALARS, min_size=1, max_size=4, unique_by=lambda v: (isinstance(v, bool), v)
)


# Arbitrary content, mostly wrong.
KEYWORDS = st.sampled_from(
    """
    $comment $defs $id $ref $schema additionalItems additionalProperties allOf anyOf
    const contains contentEncoding contentMediaType default definitions dependencies
    deprecated description discriminator else enum examples exclusiveMaximum
    exclusiveMinimum externalDocs format if items maxItems maxLength maxProperties
    maximum minItems minLength minProperties minimum multipleOf not oneOf pattern
    patternProperties properties propertyNames readOnly required schema schemaFormat
    then title type uniqueItems writeOnly x-a
    """.split()
)
JUNK: st.SearchStrategy[Any] = st.recursive(
    SCALARS
    | st.sampled_from([*TYPES, "#", "#/definitions/a", "#/not", "#/items/0", "a"]),
    lambda below: (
        st.lists(below, max_size=2)
        | st.dictionaries(KEYWORDS | KEYS, below, max_size=3)
    ),
    max_leaves=8,
)


def pointer(where: str, name: str) -> str:
    escaped = name.replace("~", "~0").replace("/", "~1")
    return f"#/{where}/{quote(escaped)}"


def plain(below: st.SearchStrategy[Schema]) -> st.SearchStrategy[Schema]:
    """Schemas that hold others only within the value, so that no cycle arises."""
    counts = st.integers(0, 4)
    maps = st.dictionaries(KEYS, below, max_size=2)
    return st.fixed_dictionaries(
        {},
        optional={
            "type": st.sampled_from(TYPES)
            | st.lists(st.sampled_from(TYPES), min_size=1, max_size=3, unique=True),
            "title": TEXTS,
            "description": TEXTS,
            "enum": UNIQUE,
            "const": VALUES,
            "default": VALUES,
            "examples": st.lists(VALUES, max_size=2),
            "minimum": st.integers(-5, 5),
            "multipleOf": st.sampled_from([1, 2, 0.5]),
            "maxLength": counts,
            "minItems": counts,
            "maxProperties": counts,
            "uniqueItems": st.booleans(),
            "pattern": st.sampled_from(["^a", "[0-9]+$", "."]),
            "required": st.lists(KEYS, max_size=2, unique=True),
            "properties": maps,
            "patternProperties": st.dictionaries(
                st.sampled_from(["^a", "b$"]), below, max_size=1
            ),
            "additionalProperties": below,
            "propertyNames": below,
            "items": below | st.lists(below, min_size=1, max_size=2),
            "contains": below,
            "x-note": VALUES,
        },
    )


def within(targets: list[str]) -> st.SearchStrategy[Schema]:
    """Schemas that refer to some of these from within the value."""
    references = st.sampled_from(targets).map(lambda to: {"$ref": to})
    beside = st.tuples(references, st.fixed_dictionaries({"title": TEXTS})).map(
        lambda both: both[0] | both[1]
    )
    return plain(st.booleans() | references | beside | plain(st.booleans()))


@st.composite
def schemas(draw: st.DrawFn) -> Schema:
    """A complete schema without errors."""
    where = draw(st.sampled_from(["definitions", "$defs"]))
    names = draw(st.lists(st.sampled_from(ODD_NAMES), max_size=3, unique=True))
    # A definition refers to others only from within the value, so that no definition
    # leads back to itself in place. The root may refer to definitions in place. Escaped
    # pointers lead only to earlier definitions, or to schemas around them.
    if not names:
        return draw(within(["#"]) | st.booleans())
    definitions: dict[str, Schema] = {}
    pointers = [pointer(where, name) for name in names]
    unescaped = [each for each in pointers if not set("%~") & set(each)]
    for name, own in zip(names, pointers, strict=True):
        to = {"#", own, *unescaped}
        if own not in unescaped:
            to.update(pointers[: len(definitions)])
        definitions[name] = draw(within(sorted(to)) | st.booleans())
    targets = ["#", *pointers]
    inner = within(targets)
    root = draw(inner)
    in_place = st.sampled_from(targets[1:]).map(lambda to: {"$ref": to})
    how = draw(st.sampled_from(["", "$ref", "allOf", "anyOf", "oneOf", "not", "if"]))
    if how == "$ref":
        root |= draw(in_place)
    elif how in ("allOf", "anyOf", "oneOf"):
        root[how] = draw(st.lists(in_place | inner, min_size=1, max_size=2))
    elif how:
        root[how] = draw(in_place)
    if draw(st.booleans()):
        root["$schema"] = "http://json-schema.org/draft-07/schema#"
    return root | {where: definitions}


Path = tuple[Any, ...]


def places(value: Any, path: Path = ()) -> list[Path]:
    """Yield the paths of a value and of all values in it."""
    members: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        members = [*value.items()]
    elif isinstance(value, list):
        members = [*enumerate(value)]
    below = [places(each, (*path, key)) for key, each in members]
    return [path, *(place for each in below for place in each)]


def put(value: Any, path: Path, new: Any) -> Any:
    """Return a copy with another value at one path."""
    if not path:
        return new
    found = value.copy()
    found[path[0]] = put(value[path[0]], path[1:], new)
    return found


@st.composite
def damaged(draw: st.DrawFn) -> Schema:
    """A schema with one value changed or added."""
    schema = draw(schemas().filter(lambda found: isinstance(found, dict)))
    path = draw(st.sampled_from(places(schema)))
    there = schema
    for step in path:
        there = there[step]
    new = draw(JUNK)
    if isinstance(there, dict) and draw(st.booleans()):
        new = {**there, draw(KEYWORDS | KEYS): new}
    return put(schema, path, new)
