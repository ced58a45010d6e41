"""Error of certificates, without the ssl module."""


class CertificateError(Exception):
    """Files that cannot be used. str() names the file, the reason and the cure."""
