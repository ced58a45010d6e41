"""What an application says of itself: the [interface] of its file, checked.

Pure values, for whoever describes the application to its clients. Nothing here is made
up: a text that the file leaves out is empty, a schema that it leaves out is None.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    Schema = dict[str, Any]  # JSON Schema, of what JSON has a form for


class Interface:
    """One application, as its clients are told of it.

    Attributes:
        name: as in its path, `/NAME`; empty for the one of a COMMAND.
        title, purpose, version: texts for people.
        send_schema, send_examples: of the messages that a client sends.
        receive_schema, receive_examples: of those that it receives.
    """

    name: str
    title: str
    purpose: str
    version: str
    send_schema: Schema | None
    send_examples: tuple[Any, ...]
    receive_schema: Schema | None
    receive_examples: tuple[Any, ...]

    __slots__ = tuple(__annotations__)

    def __init__(
        self,
        name: str = "",
        *,
        title: str = "",
        purpose: str = "",
        version: str = "",
        send_schema: Schema | None = None,
        send_examples: tuple[Any, ...] = (),
        receive_schema: Schema | None = None,
        receive_examples: tuple[Any, ...] = (),
    ) -> None:
        texts = (name, title, purpose, version)
        messages = (send_schema, send_examples, receive_schema, receive_examples)
        for field, value in zip(self.__slots__, (*texts, *messages), strict=True):
            object.__setattr__(self, field, value)

    def __setattr__(self, name: str, value: object = None) -> NoReturn:
        raise AttributeError(f"an Interface cannot be changed ({name})")

    __delattr__ = __setattr__
