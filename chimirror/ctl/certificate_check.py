"""Checks the certificates of a service, as the service reads them.

`unit_probe` runs this with the user, credentials and sandbox of the unit. No key leaves
the process. ssl is imported only if there is a certificate.
"""

from __future__ import annotations

import os
import time

from chimirror import program
from chimirror.tls.errors import CertificateError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from chimirror.config import Config

DAY = 24 * 60 * 60  # seconds
SOON = 14  # days before the end of a certificate
READ_CURE = "correct it, or name another file; chimirror-systemd(7), TLS, has examples"
RENEW_CURE = "renew it, as by certbot renew"


def review(config: Config, now: float) -> Iterator[dict[str, object]]:
    """Review each certificate of a command line.

    Args:
        config: The command line, with the credentials of the unit.
        now: The time, in seconds since the epoch.

    Yields:
        Objects as `unit_probe.probe` does, with `about`. `setting` is the setting of
        the unit that names the file, if it is a credential. A fault that is a warning
        only has `is_warning`.
    """
    try:
        certificates = program.open_certificates(config)
        if certificates is None:
            return
        validity = certificates.validity()
    except CertificateError as error:
        paths, _, text = str(error).partition(": ")
        yield _found(paths.partition(", ")[0], text, READ_CURE)
        return
    for path, (begin, end) in zip(config.tls_certs, validity, strict=True):
        if now < begin:
            cure = "check the clock of this machine, or wait"
            yield _found(path, f"it is not valid before {_date(begin)}", cure)
        elif now >= end:
            yield _found(path, f"it ended on {_date(end)}", RENEW_CURE)
        elif now >= end - SOON * DAY:
            found = _found(path, f"it ends on {_date(end)}", RENEW_CURE)
            yield found | {"is_warning": True}
        else:
            yield _found(path, f"it is valid until {_date(end)}")


def _found(path: str, text: str, cure: str = "") -> dict[str, object]:
    found: dict[str, object] = {"name": "", "about": "certificate", "absent": []}
    found |= {"script": "", "text": text, "file": path, "line": None}
    directory = os.environ.get(program.CREDENTIALS)
    if directory and path.startswith(f"{directory}/"):
        name = path.removeprefix(f"{directory}/")
        found |= {"text": f"credential {name}: {text}", "file": None}
        found["setting"] = "LoadCredential"
    return found | {"cure": cure} if cure else found


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))
