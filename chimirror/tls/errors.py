"""Errors of TLS, without the ssl module."""


class CertificateError(Exception):
    """Files that cannot be used. str() names the file, the reason and the cure."""


class TlsError(Exception):
    """A connection that has failed. str() is the reason in words."""
