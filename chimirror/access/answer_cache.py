"""Answers of an authorizer, kept for as long as each one says.

A question is known by a keyed SHA-256 of all of it but the client's port. So no secret
of a client stays in memory, and its hash cannot be looked up in a list of passwords.
Bounded in entries: the oldest one gives way. Asks nothing.
"""

from __future__ import annotations

from chimirror.builtin_modules import OrderedDict, os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hashlib import sha256

    from chimirror.access import Answer, Question
else:
    try:
        from _sha2 import sha256  # hashlib loads OpenSSL: 3.8 MB
    except ImportError:
        try:
            from _sha256 import sha256  # until Python 3.11
        except ImportError:  # this Python was built without its own hashes
            from hashlib import sha256

MAX_ENTRIES = 1024
_KEY_SIZE = 32  # bytes


class AnswerCache:
    """Answers by their questions."""

    __slots__ = ("_answers", "_secret")

    def __init__(self) -> None:
        self._secret = os.urandom(_KEY_SIZE)
        # answer and the time at which it expires, the oldest first
        self._answers: OrderedDict[bytes, tuple[Answer, float]] = OrderedDict()

    def key_of(self, question: Question) -> bytes:
        """Return the key of a question. Different questions have different keys."""
        parts = [
            question.application.encode(errors="surrogateescape"),
            question.method.encode(errors="surrogateescape"),
            question.target.encode(errors="surrogateescape"),
            question.scheme.encode(errors="surrogateescape"),
            question.host.encode(errors="surrogateescape"),
            question.address.encode(errors="surrogateescape"),
            *[part for field in question.fields for part in field],
        ]
        # The lengths keep two questions with the same bytes apart.
        lengths = ",".join([str(len(part)) for part in parts]).encode()
        return sha256(b"".join([self._secret, lengths, b"\0", *parts])).digest()

    def get(self, key: bytes, now: float) -> Answer | None:
        """Return the answer to a question, None if there is none that still holds."""
        found = self._answers.get(key)
        if found is None:
            return None
        answer, expires_at = found
        if now < expires_at:
            return answer
        del self._answers[key]
        return None

    def add(self, key: bytes, answer: Answer, now: float) -> None:
        """Keep an answer for its max_age."""
        if answer.max_age <= 0:
            return
        self._answers.pop(key, None)
        while len(self._answers) >= MAX_ENTRIES:
            self._answers.popitem(last=False)
        self._answers[key] = answer, now + answer.max_age

    def __len__(self) -> int:
        """Return the number of answers, expired ones included."""
        return len(self._answers)
