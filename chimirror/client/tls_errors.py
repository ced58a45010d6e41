"""Failures of TLS: which fault, in which words, with which cure.

The tables are the only place of these words. Pure: reads the attributes of exceptions
of the module `ssl`, and does not import it. Reasons are those of OpenSSL: errors of
X509_verify_cert(3), and alerts of the peer (RFC 8446, section 6).
"""

from __future__ import annotations

import re
from typing import NamedTuple

from chimirror.client.errors import TLSFailure, Untrusted
from chimirror.text import escape_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from ssl import SSLCertVerificationError

    from chimirror.client.url import Target


class OptionNames(NamedTuple):
    """Names of the options of TLS in messages, and how to write them."""

    ca: str = "ca"
    cert: str = "cert"
    key: str = "cert"
    ca_use: str = "ca=FILE"
    cert_use: str = "cert=FILE"
    key_use: str = "cert=(FILE, KEY)"


# The server's certificate.


class Verdict(NamedTuple):
    """Why a certificate is not trusted. The cure may name an option."""

    fault: str
    text: str
    cure: str


UNKNOWN_AUTHORITY = Verdict(
    "unknown authority",
    "its authority is not known here, or the server does not send its whole chain",
    "name the authority with {ca}",
)
WRONG_NAME = Verdict(
    "wrong name",
    "it is for {names}, not for {host}",
    "use a name of the certificate in the URL, or issue one for {host}",
)
REVOKED = Verdict(
    "revoked", "its authority has revoked it", "the server needs a new one"
)
VERDICTS = {
    2: UNKNOWN_AUTHORITY,
    9: Verdict(
        "not yet valid", "it is not valid yet", "check the clocks of both machines"
    ),
    10: Verdict(
        "expired",
        "it has expired",
        "the server needs a new one, or the clock of this machine is wrong",
    ),
    18: Verdict(
        "self-signed", "it is self-signed", "if it is your own, trust it with {ca}"
    ),
    19: UNKNOWN_AUTHORITY,
    20: UNKNOWN_AUTHORITY,
    21: UNKNOWN_AUTHORITY,
    23: REVOKED,
    62: WRONG_NAME,
    64: WRONG_NAME,
}


def is_wrong_name(error: SSLCertVerificationError) -> bool:
    """Whether the certificate is for other names."""
    return VERDICTS.get(error.verify_code) is WRONG_NAME


def untrusted(
    target: Target,
    error: SSLCertVerificationError,
    options: OptionNames,
    names: Sequence[str] = (),
) -> Untrusted:
    """Make the exception for a certificate that is not trusted.

    Args:
        target: The server.
        error: The failed verification.
        options: Names of the options in the cure.
        names: Names in the certificate, if they are known.
    """
    other = escape_line(error.verify_message.rstrip("."))
    verdict = VERDICTS.get(error.verify_code) or Verdict("other", other, "")
    reason = "; ".join(filter(None, verdict[1:]))
    shown = escape_line(", ".join(names), 256) if names else "other names"
    host = escape_line(target.server_name)
    if verdict.fault != "other":
        reason = reason.format(ca=options.ca_use, host=host, names=shown)
    return Untrusted(
        f"TLS failure: the certificate of {target} is not trusted: {reason}",
        fault=verdict.fault,
        names=names,
    )


# Everything else.


class Failure(NamedTuple):
    """Text of a failure. `retry` tells whether another server may do better."""

    text: str
    retry: bool = True


FAILURES = {
    "no TLS": Failure("{place} does not speak TLS; use ws:// for it"),
    "TLS required": Failure("{place} speaks TLS on this port; use wss:// for it"),
    "certificate required": Failure(
        "{place} requires a client certificate; give yours with {cert}", retry=False
    ),
    "certificate refused": Failure(
        "{place} refuses the client certificate: {why}; give another with {cert}",
        retry=False,
    ),
    "protocol version": Failure(
        "{place} and this client share no version of TLS; update the older of both"
    ),
    "handshake refused": Failure(
        "{place} refuses the handshake: it requires a client certificate ({cert}), or "
        "both sides share no cipher"
    ),
    "unknown name": Failure(
        "{place} has no certificate for {host}; check the name in the URL"
    ),
    "closed": Failure(
        "{place} closed the connection during the handshake; if it has no TLS, use "
        "ws://"
    ),
    "other": Failure("{place}: {why}"),
}

# What OpenSSL says of bytes that are not TLS.
NOT_TLS = {
    "HTTP_REQUEST",
    "PACKET_LENGTH_TOO_LONG",
    "RECORD_LAYER_FAILURE",
    "UNEXPECTED_MESSAGE",
    "WRONG_VERSION_NUMBER",
}
OLD_VERSION = {"UNSUPPORTED_PROTOCOL", "NO_PROTOCOLS_AVAILABLE", "VERSION_TOO_LOW"}
# Alerts about the client certificate, with the reason.
CERTIFICATE_ALERTS = {
    "ACCESS_DENIED": "it gives no access",
    "BAD_CERTIFICATE": "it is not valid",
    "CERTIFICATE_EXPIRED": "it has expired",
    "CERTIFICATE_REVOKED": "its authority has revoked it",
    "CERTIFICATE_UNKNOWN": "it is not acceptable",
    "DECRYPT_ERROR": "its signature is wrong",
    "UNKNOWN_CA": "its authority is not known there",
    "UNSUPPORTED_CERTIFICATE": "its kind is not supported",
}
ALERT_FAULTS = {
    "CERTIFICATE_REQUIRED": "certificate required",
    "HANDSHAKE_FAILURE": "handshake refused",
    "INSUFFICIENT_SECURITY": "handshake refused",
    "PROTOCOL_VERSION": "protocol version",
    "UNRECOGNIZED_NAME": "unknown name",
}
# Answers of chimirror, nginx, Go and Apache about TLS, which have status 400.
PAGES = {
    rb"this port speaks TLS": "TLS required",
    rb"plain HTTP request was sent to HTTPS port": "TLS required",
    rb"HTTP request to an HTTPS server": "TLS required",
    rb"plain HTTP to an SSL-enabled server": "TLS required",
    rb"No required SSL certificate was sent": "certificate required",
    rb"The SSL certificate error": "certificate refused",
}
_PREFIX = re.compile(r"^(TLSV1|TLSV13|SSLV3|SSL_TLS)_(ALERT_)?")  # of an alert
_TEXT = re.compile(r"\[SSL[^]]*\] (.+?) \(_ssl")
ALERT_RECORD = re.compile(rb"\x15\x03[\x00-\x04]\x00\x02[\x01\x02]", re.DOTALL)


def failure(
    target: Target,
    reason: str,
    options: OptionNames,
    *,
    has_certificate: bool | None,
) -> TLSFailure:
    """Make the exception for a failure that is none of the server's certificate.

    Args:
        target: The server.
        reason: Name of the reason in OpenSSL, "" for the end of the connection.
        options: Names of the options in the cure.
        has_certificate: Whether the client has a certificate, None if it is unknown.
    """
    alert = _PREFIX.sub("", reason)
    is_alert = alert != reason
    why = reason_text(reason)
    if reason in ("", "UNEXPECTED_EOF_WHILE_READING"):
        fault = "closed"
    elif reason in NOT_TLS:
        fault = "no TLS"
    elif reason in OLD_VERSION:
        fault = "protocol version"
    elif is_alert and alert in CERTIFICATE_ALERTS:
        # TLS 1.2 has no alert for a missing certificate.
        is_missing = has_certificate is False
        fault = "certificate required" if is_missing else "certificate refused"
        why = CERTIFICATE_ALERTS[alert]
    else:
        fault = ALERT_FAULTS.get(alert, "other") if is_alert else "other"
    return _make(target, fault, options, why)


def failure_in_response(
    target: Target, data: bytes, options: OptionNames
) -> TLSFailure | None:
    """Make the exception for a response that is about TLS, None for others.

    Args:
        target: The server.
        data: The first bytes from the server.
        options: Names of the options in the cure.
    """
    if not target.uri.secure and ALERT_RECORD.match(data):
        return _make(target, "TLS required", options)
    if data.startswith(b"HTTP/") and data[8:13] == b" 400 ":
        for mark, fault in PAGES.items():
            if mark in data:
                return _make(target, fault, options, "the check of the server failed")
    return None


def _make(
    target: Target, fault: str, options: OptionNames, why: str = ""
) -> TLSFailure:
    row = FAILURES[fault]
    text = row.text.format(
        cert=options.cert_use,
        host=escape_line(target.server_name),
        place=target,
        why=why,
    )
    return TLSFailure(f"TLS failure: {text}", fault=fault, retry=row.retry)


def reason_of(error: Exception) -> str:
    """Return the reason of an `ssl.SSLError`, such as UNSUPPORTED_PROTOCOL.

    It is "" for the end of the stream and for other errors.
    """
    reason = getattr(error, "reason", None)
    if reason is None:  # Python has no name for some, and only gives OpenSSL's text
        found = _TEXT.search(str(error))
        reason = found[1] if found else ""
    return re.sub(r"[ /]", "_", str(reason)).upper()


def reason_text(reason: str) -> str:
    """Describe a reason of OpenSSL: `alert certificate required`."""
    alert = _PREFIX.sub("", reason)
    text = alert.replace("_", " ").lower()
    return escape_line(text if alert == reason else f"alert {text}")
