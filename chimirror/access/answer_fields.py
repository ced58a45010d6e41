"""Checks the parts of an answer that both kinds of authorizers give.

An answer that breaks a rule is wrong as a whole: a name that is cut or repaired could
be the name of another user. Pure.
"""

from __future__ import annotations

from chimirror.access import MAX_GROUPS, is_valid_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_CHALLENGES = 16
MAX_CHALLENGE = 4096  # characters


class WrongAnswerError(ValueError):
    """An answer that breaks a rule. The text says which one.

    It quotes nothing: a faulty authorizer may send back the secret that it was asked.
    """


def check_user(name: object) -> str:
    """Return the name of a user.

    Raises:
        WrongAnswerError: It is not the name of a user.
    """
    if not isinstance(name, str) or not is_valid_name(name):
        raise WrongAnswerError("its answer names a user that is not a valid name")
    return name


def check_names(names: Sequence[object], kind: str) -> tuple[str, ...]:
    """Return names of groups or applications, each once.

    Args:
        names: to check.
        kind: "groups" or "applications".

    Raises:
        WrongAnswerError: One of them is not a name, or there are too many.
    """
    valid = [name for name in names if isinstance(name, str) and is_valid_name(name)]
    if len(valid) != len(names):
        raise WrongAnswerError(f"its answer has {kind} that are not valid names")
    if len(valid) > MAX_GROUPS:
        raise WrongAnswerError(f"its answer has more than {MAX_GROUPS} {kind}")
    return tuple(dict.fromkeys(valid))


def check_challenges(challenges: Sequence[object]) -> tuple[str, ...]:
    """Return values for WWW-Authenticate, which stand in a response as they are.

    Raises:
        WrongAnswerError: One of them cannot stand in a field, or there are too many.
    """
    valid = [
        text
        for text in challenges
        if isinstance(text, str)
        and 0 < len(text.strip()) <= MAX_CHALLENGE
        and text.isascii()
        and text.isprintable()
    ]
    if len(valid) != len(challenges) or len(valid) > MAX_CHALLENGES:
        raise WrongAnswerError("its answer has a challenge that no field can have")
    return tuple(valid)
