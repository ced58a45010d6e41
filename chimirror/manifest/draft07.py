"""The keywords of JSON Schema draft-07 and the checks of their values.

Knows nothing of the position of a keyword in a schema.
"""

from __future__ import annotations

_TYPES = ("array", "boolean", "integer", "null", "number", "object", "string")

# Keywords by the kind of their value. Other keywords are data for other programs.
SINGLE = (
    *("additionalItems", "additionalProperties", "contains", "else", "if", "items"),
    *("not", "propertyNames", "then"),
)
LISTS = ("allOf", "anyOf", "oneOf", "items")
MAPS = ("$defs", "definitions", "dependencies", "patternProperties", "properties")
_TEXTS = (
    *("$comment", "contentEncoding", "contentMediaType", "description"),
    *("discriminator", "format", "pattern", "title"),
)
_COUNTS = (
    *("maxItems", "maxLength", "maxProperties"),
    *("minItems", "minLength", "minProperties"),
)
_NUMBERS = ("exclusiveMaximum", "exclusiveMinimum", "maximum", "minimum", "multipleOf")
_FLAGS = ("deprecated", "readOnly", "uniqueItems", "writeOnly")
DIALECTS = (
    "http://json-schema.org/draft-07/schema",
    "http://json-schema.org/draft-07/schema#",
)
_LATER = "is of a later JSON Schema than draft-07, which AsyncAPI 3.0 speaks; write "
FOREIGN = {
    "$anchor": _LATER + "definitions, and #/definitions/NAME to refer to them",
    "$dynamicRef": _LATER + "$ref",
    "$recursiveRef": _LATER + "$ref",
    "dependentRequired": _LATER + "dependencies",
    "dependentSchemas": _LATER + "dependencies",
    "externalDocs": "is not served; write the address into description",
    "maxContains": _LATER + "contains alone",
    "minContains": _LATER + "contains alone",
    "prefixItems": _LATER + "a list under items",
    "schema": "is not a keyword of JSON Schema, but one of AsyncAPI",
    "unevaluatedItems": _LATER + "additionalItems",
    "unevaluatedProperties": _LATER + "additionalProperties",
}


def check_value(keyword: str, value: object) -> str:
    """Return the error in the value of a keyword without schemas, or ""."""
    if keyword in _TEXTS:
        return "" if isinstance(value, str) else "has to be a string"
    if keyword in _FLAGS:
        return "" if isinstance(value, bool) else "has to be true or false"
    if keyword in _COUNTS + _NUMBERS:
        return _check_number(keyword, value)
    return _check_list(keyword, value)


def _check_number(keyword: str, value: object) -> str:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return "has to be a number"
    if keyword == "multipleOf" and value <= 0:
        return "has to be a number above 0"
    if keyword in _COUNTS and (value < 0 or value != int(value)):
        return "has to be a whole number from 0 on"
    return ""


def _check_list(keyword: str, value: object) -> str:
    if keyword == "required" and not is_unique_list(value, str):
        return "has to be a list of different names"
    if keyword == "enum" and not (value and is_unique_list(value, object)):
        return "has to be a list of different values"
    if keyword == "examples" and not isinstance(value, list):
        return "has to be a list"
    if keyword == "type":
        names = value if isinstance(value, list) else [value]
        if not (names and is_unique_list(names, str) and {*names} <= {*_TYPES}):
            return f"has to be one of {', '.join(_TYPES)}, or a list of them"
    return ""


def is_unique_list(value: object, kind: type) -> bool:
    """Tell whether a value is a list without equal elements, as JSON compares."""
    if not isinstance(value, list):
        return False
    seen = {repr(_equality_key(each)) for each in value}
    return len(seen) == len(value) and all(isinstance(each, kind) for each in value)


def _equality_key(value: object) -> object:
    """Return equal keys for equal JSON values: for 1 and 1.0, not for 1 and true."""
    if isinstance(value, dict):
        return sorted((name, repr(_equality_key(each))) for name, each in value.items())
    if isinstance(value, list):
        return [_equality_key(each) for each in value]
    if isinstance(value, float) and value == int(value):
        return int(value)
    return value
