"""Realistic application files (hypothesis strategies), and messages for them.

Every file that these strategies draw is valid, and so are the messages for its schemas.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from hypothesis import strategies as st

from chimirror.framing import registry

FRAMINGS = tuple(registry.FRAMINGS)
FOREIGN = ("mcp", "graphql-ws", "x")
WORDS = st.text(
    st.characters(codec="utf-8", min_codepoint=1, exclude_characters="\r\n"), max_size=6
)
KEYS = st.sampled_from(["move", "type", "a/b", "Größe", "%7E~"])
Values = st.SearchStrategy[Any]


class Side(NamedTuple):
    """An application file's description of the messages in one direction.

    Attributes:
        schema: The schema, or None.
        values: Messages of that kind.
    """

    schema: Any
    values: Values

    @property
    def is_text(self) -> bool:
        """Whether its lines are text, for framings with lines of any text."""
        return self.schema is None or self.schema.get("type") == "string"


class Application(NamedTuple):
    """One application file and its settings."""

    framings: list[str]
    foreign: dict[str, str]
    direction: str
    stderr: str
    control: bool
    max_message: int
    send: Side
    receive: Side
    text: str

    def offered(self) -> dict[str, str]:
        """The framing of each subprotocol."""
        ours = {f"chimirror.{name}.v1": name for name in self.framings}
        return ours | self.foreign


def scalars() -> st.SearchStrategy[tuple[Any, Values]]:
    text = st.just(({"type": "string", "maxLength": 6}, WORDS))
    number = st.integers(-9, 9).map(
        lambda least: (
            {"type": "integer", "minimum": least, "maximum": least + 5},
            st.integers(least, least + 5),
        )
    )
    choice = st.lists(WORDS | st.booleans(), min_size=1, max_size=3, unique_by=repr)
    return text | number | choice.map(lambda of: ({"enum": of}, st.sampled_from(of)))


@st.composite
def records(draw: st.DrawFn, inner: st.SearchStrategy[tuple[Any, Values]]) -> Any:
    members = draw(st.dictionaries(KEYS, inner, min_size=1, max_size=2))
    schema = {
        "type": "object",
        "required": [*members],
        "properties": {name: schema for name, (schema, _) in members.items()},
    }
    return schema, st.fixed_dictionaries(
        {n: values for n, (_, values) in members.items()}
    )


def lists(inner: tuple[Any, Values]) -> tuple[Any, Values]:
    schema, values = inner
    return {"type": "array", "items": schema}, st.lists(values, max_size=2)


@st.composite
def sides(draw: st.DrawFn) -> Side:
    """With or without definitions and references, or empty."""
    if draw(st.integers(0, 3)) == 0:
        return Side(None, WORDS)
    schema, values = draw(
        st.recursive(
            scalars(), lambda inner: inner.map(lists) | records(inner), max_leaves=3
        )
    )
    where = draw(st.sampled_from(["", "definitions", "$defs"]))
    if where:
        title = draw(st.sampled_from([{}, {"title": "one"}]))
        schema = {"$ref": f"#/{where}/a~1b", **title, where: {"a/b": schema}}
    return Side(schema, values)


@st.composite
def applications(draw: st.DrawFn) -> Application:
    framings = draw(st.lists(st.sampled_from(FRAMINGS), min_size=1, unique=True))
    foreign = draw(
        st.dictionaries(st.sampled_from(FOREIGN), st.sampled_from(FRAMINGS), max_size=2)
    )
    direction = draw(st.sampled_from(["send", "receive", "both"]))
    mute = {"lines", "lsp"} & {*framings, *foreign.values()} or direction == "send"
    found = Application(
        framings,
        foreign,
        direction,
        draw(st.sampled_from(["", "log", "discard", *([] if mute else ["client"])])),
        draw(st.booleans()),
        draw(st.integers(2000, 9000)),
        draw(sides()),
        draw(sides()),
        "",
    )
    examples = {
        "send": draw(st.lists(found.send.values, max_size=2)),
        "receive": draw(st.lists(found.receive.values, max_size=2)),
    }
    return found._replace(text=written(found, examples, draw(WORDS)))


def written(found: Application, examples: dict[str, list[Any]], title: str) -> str:
    lines = {
        "command": ["program"],
        "framing": found.framings,
        "subprotocol": found.foreign,
        "direction": found.direction,
        "control": found.control,
        "max-message": found.max_message,
    }
    if found.stderr:
        lines["stderr"] = found.stderr
    text = [f"{key} = {toml(value)}" for key, value in lines.items()]
    text += ["[interface]", f"title = {toml(title)}"]
    for name, side in (("send", found.send), ("receive", found.receive)):
        if found.direction in (name, "both"):
            text.append(f"[interface.{name}]")
            if side.schema is not None:
                text.append(f"schema = {toml(side.schema)}")
            text.append(f"examples = {toml(examples[name])}")
    return "\n".join([*text, ""])


def toml(value: Any) -> str:
    if isinstance(value, dict):
        members = [f"{toml(name)} = {toml(each)}" for name, each in value.items()]
        return "{ " + ", ".join(members) + " }"
    if isinstance(value, list):
        return f"[{', '.join(map(toml, value))}]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
