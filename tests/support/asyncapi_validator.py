"""Validates AsyncAPI documents: the official schema, the official parser, references.

Uses nothing of chimirror. The schema comes from the npm package `@asyncapi/specs`, the
parser from `@asyncapi/parser`. The Makefile installs both into the environment of the
tests.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import jsonschema
from referencing import Registry
from referencing.jsonschema import DRAFT7

from npm import NODE, packaged

Object = Mapping[str, Any]

SCRIPT = Path(__file__).with_suffix(".js")
# It recommends a newer version of AsyncAPI, which is not an error.
EXPECTED = {"asyncapi-latest-version"}


class Parser:
    """The official parser in a process of its own."""

    def __init__(self) -> None:
        script = packaged("asyncapi-parser/browser/index.js")
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            [NODE, SCRIPT, script], stdin=pipe, stdout=pipe, text=True
        )

    def __enter__(self) -> Parser:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.communicate()

    def objections(self, document: Object) -> list[Object]:
        """Return the parser's errors and warnings, nothing for a valid document."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(document) + "\n")
        self._process.stdin.flush()
        verdict = json.loads(self._process.stdout.readline())
        messages = [
            each for each in verdict["messages"] if each["code"] not in EXPECTED
        ]
        assert verdict["valid"] or messages
        return messages


@cache
def specification() -> jsonschema.Draft7Validator:
    schema = json.loads(packaged("asyncapi-specs/schemas/3.0.0.json").read_text())
    # Without the crawl, each reference to a definition would crawl the whole schema.
    registry = (DRAFT7.create_resource(schema) @ Registry()).crawl()
    return jsonschema.Draft7Validator(schema, registry=registry)


def check(document: Object) -> None:
    """Fail unless the document is complete and valid by the official schema."""
    specification().validate(document)
    assert not [*dangling(document)]


def references(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for each in value.values():
            yield from references(each)
    elif isinstance(value, list):
        for each in value:
            yield from references(each)


def dangling(document: Object) -> Iterator[str]:
    """Yield the references without a target in this document."""
    for reference in references(document):
        try:
            lookup(document, reference)
        except LookupError:
            yield reference


def lookup(document: Object, reference: str) -> Any:
    """Return the target of a reference within the document (RFC 6901)."""
    if not reference.startswith("#/"):
        raise LookupError(reference)
    found: Any = document
    for token in unquote(reference[2:]).split("/"):
        name = token.replace("~1", "/").replace("~0", "~")
        found = found[int(name)] if isinstance(found, list) else found[name]
    return found


def fits(document: Object, schema: Object, value: object) -> bool:
    """Tell whether a value is valid by a schema of the document."""
    whole = {**schema, "components": document["components"]}
    return bool(jsonschema.Draft7Validator(whole).is_valid(value))
