"""What TLS says of a connection, in the variables of Apache's mod_ssl.

HTTPS, SSL_PROTOCOL, SSL_CIPHER, SSL_CLIENT_VERIFY and SSL_CLIENT_S_DN. The subject is
written as RFC 2253 says, the most specific part first.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl

# RFC 4519 and RFC 2985: short names of the parts of a subject
_SHORT = {
    "commonName": "CN",
    "countryName": "C",
    "domainComponent": "DC",
    "givenName": "GN",
    "localityName": "L",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "stateOrProvinceName": "ST",
    "streetAddress": "street",
    "surname": "SN",
    "userId": "UID",
}
_SPECIAL = ',+"\\<>;'


def of_connection(tls: ssl.SSLObject) -> dict[str, str]:
    """Return the variables of an established connection."""
    cipher, certificate = tls.cipher(), tls.getpeercert()
    found = {
        "HTTPS": "on",
        "SSL_PROTOCOL": tls.version() or "",
        "SSL_CIPHER": cipher[0] if cipher else "",
        "SSL_CLIENT_VERIFY": "SUCCESS" if certificate else "NONE",
    }
    if certificate:
        found["SSL_CLIENT_S_DN"] = subject_text(certificate.get("subject", ()))
    return found


def subject_text(subject: object) -> str:
    """Return a subject in the form of RFC 2253.

    Args:
        subject: As in `ssl.SSLSocket.getpeercert`: a tuple of the relative names, each
            a tuple of pairs.
    """
    parts: list[str] = []
    relative: tuple[tuple[str, str], ...]
    for relative in subject:  # type: ignore[attr-defined]
        pairs = [f"{_SHORT.get(name, name)}={_escape(text)}" for name, text in relative]
        parts.append("+".join(reversed(pairs)))  # as OpenSSL does
    return ",".join(reversed(parts))


def _escape(text: str) -> str:
    escaped = "".join(
        f"\\{char}"
        if char in _SPECIAL
        else char
        if char.isprintable()
        else "".join(f"\\{byte:02X}" for byte in char.encode("utf-8", "replace"))
        for char in text
    )
    if escaped[:1] in ("#", " "):
        escaped = f"\\{escaped}"
    if escaped[-1:] == " " and len(text) > 1:
        escaped = f"{escaped[:-1]}\\ "
    return escaped
