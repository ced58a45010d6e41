"""Checks the JSON Schemas of an application file, and relocates them into a manifest.

Accepts JSON Schema draft-07, as AsyncAPI 3.0 does. Refuses schemas that change or lose
their meaning as part of a larger document. Every schema without errors gives a valid
manifest without dangling references. Knows nothing of the manifest itself, and does not
check messages against a schema.
"""

from __future__ import annotations

import sys

from chimirror.manifest import draft07

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    Path = tuple[str, ...]  # the path to a value, from the root
    Error = tuple[Path, str]

MAX_DEPTH = 100  # of nested values, because all readers of manifests recurse
# Of all numbers, because readers of manifests take them as doubles (RFC 8259, section
# 6). Python also refuses to write integers of more than 4,300 digits.
MAX_NUMBER = sys.float_info.max
_REFERENCE = "$ref"
_RESERVED_NAME = "has a name that AsyncAPI always reads as a reference"
_PLAIN_POINTER = (
    "AsyncAPI parsers follow escaped names without end; put the schema under "
    "definitions, with a name of letters, digits, - and _"
)
# Keywords that apply a schema to the same value as the schema around it. A reference
# back to that schema would never end.
_IN_PLACE = ("allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependencies")


def find_errors(schema: object) -> list[Error]:
    """Find the errors that keep a schema out of a manifest.

    Args:
        schema: A value from tomllib or json.

    Returns:
        The path of each error in the schema, and a text that continues a sentence with
        the path as its subject. A schema without errors is ready for `relocate`.
    """
    return [*_find_non_json(schema)] or _SchemaChecker(schema).find()


def find_example_errors(example: object) -> list[Error]:
    """Find the errors that keep an example of a message out of a manifest."""
    return [*_find_non_json(example)] or [*_find_references(example)]


def _find_non_json(value: object) -> Iterator[Error]:
    """Yield errors for values that are not JSON or nested too deep."""
    if _is_json(value, 0):  # nearly all, in a fifth of the time
        return
    for path, item in _walk(value):
        if len(path) > MAX_DEPTH:
            yield path[:4], f"is nested deeper than {MAX_DEPTH}"
        elif isinstance(item, (int, float)):
            if not -MAX_NUMBER <= item <= MAX_NUMBER:  # false for NaN, too
                yield path, "is not a JSON number, or beyond 1.8e308"
        elif not (item is None or isinstance(item, (str, list, dict))):
            yield path, "is not a JSON value; write it as a string"


def _is_json(value: object, depth: int) -> bool:
    if isinstance(value, (int, float)):
        return -MAX_NUMBER <= value <= MAX_NUMBER
    if isinstance(value, (dict, list)):
        items = value.values() if isinstance(value, dict) else value
        below = depth + 1
        return not value or (
            depth < MAX_DEPTH and all(_is_json(item, below) for item in items)
        )
    return value is None or isinstance(value, str)


def _find_references(value: object) -> Iterator[Error]:
    """Yield errors for plain data that looks like a reference."""
    if not _has_reference(value):
        return
    for path, _ in _walk(value):
        if path and path[-1] == _REFERENCE:
            yield path, _RESERVED_NAME


def _has_reference(value: object) -> bool:
    if isinstance(value, list):
        return any(_has_reference(item) for item in value)
    if isinstance(value, dict):
        if _REFERENCE in value:
            return True
        return any(_has_reference(item) for item in value.values())
    return False


def _walk(value: object) -> Iterator[tuple[Path, object]]:
    """Yield a value and all values within it with their paths, one level too deep."""
    waiting: list[tuple[Path, object]] = [((), value)]
    while waiting:
        path, item = waiting.pop()
        yield path, item
        if len(path) > MAX_DEPTH:
            continue
        if isinstance(item, dict):
            waiting += [((*path, name), below) for name, below in item.items()]
        elif isinstance(item, list):
            waiting += [((*path, str(n)), below) for n, below in enumerate(item)]


class _SchemaChecker:
    """One walk over a schema, which collects its subschemas and references."""

    def __init__(self, root: object) -> None:
        self._root = root
        self._found: list[Error] = []
        self._referred: list[tuple[Path, str]] = []
        # For the path of each subschema, the subschemas that apply to the same value.
        self._schemas: dict[Path, set[Path]] = {}
        # The target of each subschema with a reference, and subschemas that are only
        # that.
        self._references: dict[Path, tuple[str, Path]] = {}
        self._bare_references: set[Path] = set()

    def find(self) -> list[Error]:
        self._schema((), self._root)
        for path, reference in self._referred:
            self._check_reference(path, reference)
        if self._references and not self._found:
            self._check_cycles()
        if self._references and not self._found:
            self._check_recursion()
        return self._found

    def _add_error(self, path: Path, text: str) -> None:
        self._found.append((path, text))

    def _schema(self, path: Path, schema: object) -> None:
        self._schemas[path] = set()
        if isinstance(schema, bool):
            return
        if not isinstance(schema, dict):
            self._add_error(path, "has to be a table, true or false")
            return
        if [*schema] == [_REFERENCE]:
            self._bare_references.add(path)
        for keyword, value in schema.items():
            self._keyword((*path, keyword), value)

    def _keyword(self, path: Path, value: object) -> None:
        keyword = path[-1]
        if keyword == _REFERENCE:
            self._add_reference(path, value)
        elif keyword in draft07.FOREIGN:
            self._add_error(path, draft07.FOREIGN[keyword])
        elif keyword in ("$id", "$schema"):
            self._root_only(path, value)
        elif keyword in draft07.LISTS and isinstance(value, list):
            self._list(path, value)
        elif keyword in draft07.SINGLE:
            self._subschema(path[:-1], path, value)
        elif keyword in draft07.LISTS:
            self._add_error(path, "has to be a list of schemas")
        elif keyword in draft07.MAPS:
            self._map(path, value)
        elif text := draft07.check_value(keyword, value):
            self._add_error(path, text)
        else:
            self._found += [
                ((*path, *subpath), t) for subpath, t in _find_references(value)
            ]

    def _subschema(self, parent: Path, path: Path, value: object) -> None:
        """Check a schema within another one."""
        if path[len(parent)] in _IN_PLACE:
            self._schemas[parent].add(path)
        self._schema(path, value)

    def _add_reference(self, path: Path, value: object) -> None:
        if isinstance(value, str):
            self._referred.append((path, value))
        else:
            self._add_error(path, "has to be a string, such as #/definitions/NAME")

    def _root_only(self, path: Path, value: object) -> None:
        if len(path) > 1:
            self._add_error(path, "belongs at the root of a schema, or is left out")
        elif not isinstance(value, str):
            self._add_error(path, "has to be a string")
        elif path == ("$schema",) and value not in draft07.DIALECTS:
            self._add_error(path, f"has to be {draft07.DIALECTS[1]}")

    def _list(self, path: Path, value: list[object]) -> None:
        if not value:
            self._add_error(
                path, "is empty; write at least one schema, or leave it out"
            )
        for number, item in enumerate(value):
            self._subschema(path[:-1], (*path, str(number)), item)

    def _map(self, path: Path, value: object) -> None:
        if not isinstance(value, dict):
            self._add_error(path, "has to be a table of schemas")
            return
        for name, item in value.items():
            if name == _REFERENCE:
                self._add_error((*path, name), _RESERVED_NAME)
            elif path[-1] == "dependencies" and isinstance(item, list):
                if not draft07.is_unique_list(item, str):
                    self._add_error(
                        (*path, name), "has to be a list of different names"
                    )
            else:
                self._subschema(path[:-1], (*path, name), item)

    def _check_reference(self, path: Path, reference: str) -> None:
        """Check that a reference leads to another schema of this document."""
        if not reference.startswith("#"):
            text = f"refers to {reference}, another document; put the schema under"
            self._add_error(path, f"{text} definitions, and write #/definitions/NAME")
            return
        target = _target(reference)
        if target in self._schemas:
            self._schemas[path[:-1]].add(target)
            self._references[path[:-1]] = reference, target
        else:
            self._add_error(path, f"refers to {reference}, where there is no schema")

    def _check_cycles(self) -> None:
        """Find a schema that leads back to itself for the same value."""
        from chimirror.manifest.cycles import nodes_on_cycles

        circular = nodes_on_cycles(self._schemas)
        if circular:
            path = min(path for path in self._schemas if path in circular)
            text = "refers to itself for the same value, without end"
            self._add_error(path, text)

    def _check_recursion(self) -> None:
        """Find recursive schemas that the official AsyncAPI parser cannot resolve.

        The parser keeps a reference that leads back to itself, and a reference to a
        schema around it. It compares pointers as text. In two cases it resolves them
        until its stack overflows: an escaped pointer, and a reference to a reference to
        a reference.
        """
        targets_of = {
            path: target
            for path, (_, target) in self._references.items()
            if path[: len(target)] != target
        }
        cyclic = _cyclic_references(targets_of)
        targets = {targets_of[path] for path in cyclic}
        for path in cyclic:
            reference, target = self._references[path]
            if "%" in reference or "~" in reference:
                text = f"refers to {reference}, which leads back here: {_PLAIN_POINTER}"
                self._add_error((*path, _REFERENCE), text)
            elif path in targets and {path, target} <= self._bare_references:
                text = (
                    f"refers to {reference}, which leads back here and is a reference"
                )
                text += f" itself; write {self._references[target][0]}"
                self._add_error((*path, _REFERENCE), text)


def _cyclic_references(targets_of: dict[Path, Path]) -> list[Path]:
    """Return the references that lead back to themselves.

    A path leads to the paths below it, and to the target of a reference there. The
    reference itself is a node of its own, because it does not lead to what is below.
    """
    from chimirror.manifest.cycles import nodes_on_cycles

    edges: dict[Any, set[Any]] = {}
    for path, target in targets_of.items():
        reference = (path,)
        edges[reference] = {target}
        _add_path(edges, path).add(reference)
        _add_path(edges, target)
    circular = nodes_on_cycles(edges)
    return [path for path in targets_of if (path,) in circular]


def _add_path(edges: dict[Any, set[Any]], path: Path) -> set[Any]:
    """Add a path and those above it. Returns the targets of the path."""
    length = len(path)
    targets: set[Any] = edges.setdefault(path, set())
    while length and path[:length] not in edges.setdefault(path[: length - 1], set()):
        edges[path[: length - 1]].add(path[:length])
        length -= 1
    return targets


def _target(reference: str) -> Path | None:
    """Return the path that a fragment points to (RFC 6901, section 6), else None."""
    from chimirror.protocol.http import unquote

    try:
        pointer = unquote(reference[1:].encode()).decode()
    except ValueError:
        return None
    if pointer == "":
        return ()
    first, *tokens = pointer.split("/")
    if first:
        return None
    return tuple([t.replace("~1", "/").replace("~0", "~") for t in tokens])


def relocate(schema: object, to: str) -> dict[str, object]:
    """Return the schema for another position in another document.

    Args:
        schema: A schema without errors.
        to: The fragment of its root there, such as "#/components/…".
    """
    if isinstance(schema, bool):
        return {} if schema else {"not": {}}  # AsyncAPI requires an object at the root
    assert isinstance(schema, dict)
    kept = {k: v for k, v in schema.items() if k not in ("$id", "$schema")}
    found = _relocated(kept, to)
    assert isinstance(found, dict)
    return found


def _relocated(value: object, to: str) -> object:
    if isinstance(value, list):
        return [_relocated(item, to) for item in value]
    if not isinstance(value, dict):
        return value
    rest = {name: _relocated(item, to) for name, item in value.items()}
    if _REFERENCE not in rest:
        return rest
    reference = {_REFERENCE: to + str(rest.pop(_REFERENCE))[1:]}
    if not rest:
        return reference
    # AsyncAPI replaces the whole object by the target of its reference. The members
    # beside the reference, which other references may need, would be lost.
    others = rest.pop("allOf", [])
    assert isinstance(others, list)
    return {**rest, "allOf": [*others, reference]}
