"""The [interface] table of an application file, after its checks.

Holds plain values for manifests and catalogs. A text that the file omits is empty, and
a schema that the file omits is None.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    Schema = dict[str, Any]  # a JSON Schema as a JSON object


class Interface:
    """The application's own description for its clients.

    Attributes:
        name: The name in its path, `/NAME`. Empty for the application of a COMMAND.
        title, purpose, version: Texts for people.
        send_schema, send_examples: For the messages that a client sends.
        receive_schema, receive_examples: For the messages that a client receives.
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
