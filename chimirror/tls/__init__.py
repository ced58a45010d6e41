"""Layer 1: TLS of the servers, by the ssl module of the standard library.

Modules:
    certificates: Certificates, the files of certificates as contexts.
    errors: CertificateError.
    file_states: States of files, by which a change is found. Without ssl.
    channel: TlsChannel, one encrypted connection without its descriptors.
    peer_variables: What a connection says of its client, in Apache's variables.

Imported only where TLS is asked for: ssl costs a bridge 20 ms of its start. May import
text. Knows no WebSocket and no session.
"""
