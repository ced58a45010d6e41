"""What no correct client sends: the reason why `chat server` disconnects a client."""

from __future__ import annotations

import chat_pb2 as pb


class Violation(Exception):
    """What a client has done wrong: the code and the text of its Failure."""

    def __init__(self, code: pb.Failure.Code, text: str) -> None:
        super().__init__(text)
        self.code = code


def invalid(text: str) -> Violation:
    return Violation(pb.Failure.INVALID_MESSAGE, text)


def check_size(what: str, value: bytes, size: int) -> None:
    if len(value) != size:
        raise invalid(f"a {what} of {len(value)} bytes ({size} are needed)")
