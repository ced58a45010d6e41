"""Verifies passwords with PAM: accounts of this machine, or of its directory service.

pam(3) by pamela. Only a password can be asked for. The user also has to pass the
account management: an expired account is refused. No session of PAM is opened.
"""

from __future__ import annotations

import grp
import os
import pwd
import re
import threading

import pamela

from chimirror.access import ALLOWED, FAILED, Answer, Identity, is_valid_name
from chimirror.authorize.credentials import (
    BASIC_CHALLENGE,
    forbidden,
    login,
    unknown,
)
from chimirror.authorize.messages import FileFault, warn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.authorize import LoginAttempt

AUTH_TYPE = "Basic"
TTY = "chimirror"
DIRECTORIES = ("/etc/pam.d", "/run/pam.d", "/usr/lib/pam.d", "/lib/pam.d")
# Flags and results of security/_pam_types.h.
SILENT, DISALLOW_NULL_AUTHTOK = 0x8000, 0x0001
SUCCESS = 0
# The modules or their setup are at fault, and not the password.
BROKEN = {1, 2, 3, 4, 5, 9, 26, 28}
_SERVICE = re.compile(r"[a-z0-9][a-z0-9._-]*", re.ASCII)


class PamVerifier:
    """Verifies Basic credentials.

    Args:
        service: The file of /etc/pam.d that names the modules.
        max_age: Seconds for which a yes holds.

    Raises:
        FileFault: There is no such service. PAM would take the file "other" instead.
    """

    threads = 32  # of which many wait: a module delays each failure by seconds

    def __init__(self, service: str, max_age: float) -> None:
        check_service(service)
        self._service = service
        self._max_age = max_age
        self._lock = threading.Lock()
        self._reported = SUCCESS

    def verify(self, attempt: LoginAttempt) -> Answer:
        """Decide on one attempt."""
        found = login(attempt)
        if isinstance(found, Answer):
            return found
        user, password = found
        if not is_valid_name(user):
            return unknown(BASIC_CHALLENGE, "wrong user or password")
        return self._ask(user, password, attempt.address)

    def _ask(self, user: str, password: str, address: str) -> Answer:
        # The library does not keep the conversation, and PAM calls it.
        conversation = pamela.new_simple_password_conv((password,), "utf-8")
        handle = pamela.pam_start(self._service, user, conv_func=conversation)
        result = SUCCESS
        try:
            handle.set_item(pamela.PAM_TTY, TTY)
            if address:
                handle.set_item(pamela.PAM_RHOST, address)
            flags = SILENT | DISALLOW_NULL_AUTHTOK
            result = pamela.PAM_AUTHENTICATE(handle, flags)
            if result != SUCCESS:
                return self._refuse(handle, result)
            result = pamela.PAM_ACCT_MGMT(handle, flags)
            if result in BROKEN:
                return self._refuse(handle, result)
            if result != SUCCESS:
                return forbidden(f"this account: {pamela.pam_strerror(handle, result)}")
            # A module may have changed the name, such as to lower case.
            user = handle.get_item(pamela.PAM_USER) or ""
        finally:
            pamela.PAM_END(handle, result)
        if not is_valid_name(user):
            return forbidden("this account has no usable name")
        identity = Identity(user, AUTH_TYPE, groups_of(user))
        return Answer(ALLOWED, identity, max_age=self._max_age)

    def _refuse(self, handle: object, result: int) -> Answer:
        if result not in BROKEN:
            return unknown(BASIC_CHALLENGE, "wrong user or password")
        with self._lock:
            is_new, self._reported = self._reported != result, result
        if is_new:
            reason = pamela.pam_strerror(handle, result)
            warn(
                f"PAM, {self._service}: {reason}; the journal has more. pam_unix needs "
                "root, or the group that may read /etc/shadow"
            )
        return Answer(FAILED, text="PAM cannot tell")


def check_service(service: str) -> None:
    """Check that a service has a file.

    Raises:
        FileFault: It has none.
    """
    if not _SERVICE.fullmatch(service):
        raise FileFault(
            f'"{service}" is no service of PAM; write one such as chimirror'
        )
    if not any(os.path.isfile(f"{each}/{service}") for each in DIRECTORIES):
        raise FileFault(
            f"/etc/pam.d/{service}: No such file or directory; write it: "
            "chimirror-authorize(1)"
        )


def groups_of(user: str) -> tuple[str, ...]:
    """Return the names of the groups of a user, the primary one first."""
    try:
        primary = pwd.getpwnam(user).pw_gid
    except KeyError:
        return ()  # a user that only a module knows
    found = []
    for number in os.getgrouplist(user, primary):
        try:
            found.append(grp.getgrgid(number).gr_name)
        except KeyError:
            pass  # a group without a name
    return tuple(name for name in found if is_valid_name(name))
