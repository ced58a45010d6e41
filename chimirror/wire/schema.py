"""The JSON Schemas of an application file: what is wrong with one, and how it moves.

Law: JSON Schema draft-07, the one that AsyncAPI 3.0 speaks, and nothing that would
mean something else, or nothing, once the schema is part of a larger document: whatever
has no fault here makes a valid manifest without dangling references.
Ignorance: the manifest itself, and whether messages fit a schema.
"""

from __future__ import annotations

from . import keywords

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    Place = tuple[str, ...]  # the way to a value, from the root
    Fault = tuple[Place, str]

MAX_DEPTH = 100  # of values within values; all that look at a manifest recurse
_INFINITE = float("inf")
_REFERENCE = "$ref"
_TAKEN = "has a name that AsyncAPI takes for a reference wherever it stands"
# Applied to the same value as the schema that holds them: round and round, if they
# lead back to it.
_IN_PLACE = ("allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependencies")


def faults(schema: object) -> list[Fault]:
    """Tell what keeps a schema from being part of a manifest.

    Args:
        schema: As tomllib or json read it.

    Returns:
        The place of each fault in the schema, and what is wrong there, to be read
        behind the name of the place; without any, it may be given to `moved`.
    """
    return [*_strange(schema)] or _Survey(schema).faults()


def unfit(example: object) -> list[Fault]:
    """Tell what keeps an example of a message from being part of a manifest."""
    return [*_strange(example)] or [*_alluding(example)]


def _strange(value: object) -> Iterator[Fault]:
    """What is no JSON, or too much of it."""
    for place, each in _walk(value):
        if len(place) > MAX_DEPTH:
            yield place[:4], f"is nested deeper than {MAX_DEPTH}"
        elif isinstance(each, float):
            if not -_INFINITE < each < _INFINITE:  # nor NaN, which is never less
                yield place, "is no number of JSON's"
        elif not (each is None or isinstance(each, (str, int, list, dict))):
            yield place, "is no value of JSON's; write it as a string"


def _alluding(value: object) -> Iterator[Fault]:
    """What is no schema must not look like a reference."""
    for place, _ in _walk(value):
        if place and place[-1] == _REFERENCE:
            yield place, _TAKEN


def _walk(value: object) -> Iterator[tuple[Place, object]]:
    """A value and all within it, with the way to each; a little deeper than allowed."""
    waiting: list[tuple[Place, object]] = [((), value)]
    while waiting:
        place, each = waiting.pop()
        yield place, each
        if len(place) > MAX_DEPTH:
            continue
        if isinstance(each, dict):
            waiting += [((*place, name), below) for name, below in each.items()]
        elif isinstance(each, list):
            waiting += [((*place, str(n)), below) for n, below in enumerate(each)]


class _Survey:
    """One walk over a schema: where its schemas are, and what they refer to."""

    def __init__(self, root: object) -> None:
        self._root = root
        self._found: list[Fault] = []
        self._referred: list[tuple[Place, str]] = []
        # Where each schema is, and which others it applies to the same value.
        self._schemas: dict[Place, set[Place]] = {}

    def faults(self) -> list[Fault]:
        self._schema((), self._root)
        for place, reference in self._referred:
            self._refer(place, reference)
        if not self._found:
            self._go_round()
        return self._found

    def _fault(self, place: Place, text: str) -> None:
        self._found.append((place, text))

    def _schema(self, place: Place, schema: object) -> None:
        self._schemas[place] = set()
        if isinstance(schema, bool):
            return
        if not isinstance(schema, dict):
            self._fault(place, "has to be a table, true or false")
            return
        for keyword, value in schema.items():
            self._keyword((*place, keyword), value)

    def _keyword(self, place: Place, value: object) -> None:
        keyword = place[-1]
        if keyword == _REFERENCE:
            self._reference(place, value)
        elif keyword in keywords.FOREIGN:
            self._fault(place, keywords.FOREIGN[keyword])
        elif keyword in ("$id", "$schema"):
            self._root_only(place, value)
        elif keyword in keywords.LISTS and isinstance(value, list):
            self._list(place, value)
        elif keyword in keywords.ONE:
            self._below(place[:-1], place, value)
        elif keyword in keywords.LISTS:
            self._fault(place, "has to be a list of schemas")
        elif keyword in keywords.MAPS:
            self._map(place, value)
        elif text := keywords.misfit(keyword, value):
            self._fault(place, text)
        else:
            self._found += [((*place, *way), t) for way, t in _alluding(value)]

    def _below(self, above: Place, place: Place, value: object) -> None:
        """A schema within one."""
        if place[len(above)] in _IN_PLACE:
            self._schemas[above].add(place)
        self._schema(place, value)

    def _reference(self, place: Place, value: object) -> None:
        if isinstance(value, str):
            self._referred.append((place, value))
        else:
            self._fault(place, "has to be a string, such as #/definitions/NAME")

    def _root_only(self, place: Place, value: object) -> None:
        if len(place) > 1:
            self._fault(place, "belongs at the root of a schema, or nowhere")
        elif not isinstance(value, str):
            self._fault(place, "has to be a string")
        elif place == ("$schema",) and value not in keywords.DIALECTS:
            self._fault(place, f"has to be {keywords.DIALECTS[1]}")

    def _list(self, place: Place, value: list[object]) -> None:
        if not value:
            self._fault(place, "is empty; write at least one schema, or leave it out")
        for number, each in enumerate(value):
            self._below(place[:-1], (*place, str(number)), each)

    def _map(self, place: Place, value: object) -> None:
        if not isinstance(value, dict):
            self._fault(place, "has to be a table of schemas")
            return
        for name, each in value.items():
            if name == _REFERENCE:
                self._fault((*place, name), _TAKEN)
            elif place[-1] == "dependencies" and isinstance(each, list):
                if not keywords.is_set(each, str):
                    self._fault((*place, name), "has to be a list of different names")
            else:
                self._below(place[:-1], (*place, name), each)

    def _refer(self, place: Place, reference: str) -> None:
        """A reference has to lead to another schema of this document."""
        if not reference.startswith("#"):
            text = f"refers to {reference}, another document; put what is there under"
            self._fault(place, f"{text} definitions, and write #/definitions/NAME")
            return
        target = _target(reference)
        if target in self._schemas:
            self._schemas[place[:-1]].add(target)
        else:
            self._fault(place, f"refers to {reference}, where there is no schema")

    def _go_round(self) -> None:
        """A schema that comes back to itself without going into the value."""
        left = dict(self._schemas)
        while left:
            ends = [place for place, nexts in left.items() if not nexts & left.keys()]
            if not ends:
                place = min(left)
                self._fault(place, "refers to itself for the same value, without end")
                return
            for place in ends:
                del left[place]


def _target(reference: str) -> Place | None:
    """The place that a fragment points to (RFC 6901, 6), None if it is no pointer."""
    from chimirror.wire.http import unquote

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


def moved(schema: object, to: str) -> dict[str, object]:
    """Return the schema as it has to read at another place of another document.

    Args:
        schema: One without `faults`.
        to: Where its root will be: the fragment of a reference, "#/components/…".
    """
    if isinstance(schema, bool):
        return {} if schema else {"not": {}}  # AsyncAPI wants an object at the root
    assert isinstance(schema, dict)
    kept = {k: v for k, v in schema.items() if k not in ("$id", "$schema")}
    found = _moved(kept, to)
    assert isinstance(found, dict)
    return found


def _moved(value: object, to: str) -> object:
    if isinstance(value, list):
        return [_moved(each, to) for each in value]
    if not isinstance(value, dict):
        return value
    rest = {name: _moved(each, to) for name, each in value.items()}
    if _REFERENCE not in rest:
        return rest
    reference = {_REFERENCE: to + str(rest.pop(_REFERENCE))[1:]}
    if not rest:
        return reference
    # AsyncAPI replaces the whole object by what it refers to: what stands beside the
    # reference, and may be referred to itself, would be gone.
    others = rest.pop("allOf", [])
    assert isinstance(others, list)
    return {**rest, "allOf": [*others, reference]}
