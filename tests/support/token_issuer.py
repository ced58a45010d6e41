"""An issuer of JSON Web Tokens for tests: keys, tokens, and the key set by HTTP."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from jwt.algorithms import get_default_algorithms

CURVES: dict[str, ec.EllipticCurve] = {
    "ES256": ec.SECP256R1(),
    "ES384": ec.SECP384R1(),
    "ES512": ec.SECP521R1(),
}
ISSUER, AUDIENCE = "https://login.example", "chimirror"


@cache  # a key of RSA takes long to make
def private_key(algorithm: str, number: int = 0) -> PrivateKeyTypes:
    """Return a key for an algorithm. Each number has another one."""
    if algorithm.startswith("ES"):
        return ec.generate_private_key(CURVES[algorithm])
    if algorithm == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    return rsa.generate_private_key(65537, 2048)


class SigningKey:
    """A key of the issuer.

    Args:
        kid: Its name in the key set and in tokens. None: without one.
        algorithm: The algorithm of its tokens.
        number: Tells it from other keys for this algorithm.
    """

    def __init__(
        self, kid: str | None = "one", algorithm: str = "ES256", number: int = 0
    ) -> None:
        self.kid = kid
        self.algorithm = algorithm
        self.private = private_key(algorithm, number)

    def public(self, **more: object) -> dict[str, object]:
        """Return the public key as an entry of a key set."""
        handler: Any = get_default_algorithms()[self.algorithm]
        public = self.private.public_key()
        found: dict[str, object] = handler.to_jwk(public, as_dict=True)
        found.pop("key_ops", None)
        return {**found, **({} if self.kid is None else {"kid": self.kid}), **more}

    def token(self, **claims: object) -> str:
        """Sign a token. Claims of None are left out."""
        usual = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ann", "exp": time.time() + 600}
        payload = {**usual, **claims}
        return jwt.encode(
            {name: value for name, value in payload.items() if value is not None},
            self.private,  # type: ignore[arg-type]
            self.algorithm,
            {} if self.kid is None else {"kid": self.kid},
        )


def key_set(*keys: dict[str, object]) -> bytes:
    """Return a key set."""
    return json.dumps({"keys": keys}).encode()


class KeyServer(ThreadingHTTPServer):
    """Serves a key set by HTTP.

    Attributes:
        response: Status and content of the next responses.
        requests: Number of requests until now.
    """

    response = 200, b""
    requests = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/jwks"


class _Handler(BaseHTTPRequestHandler):
    server: KeyServer

    def do_GET(self) -> None:
        self.server.requests += 1
        status, content = self.server.response
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Location", "/other")
        self.end_headers()
        self.wfile.write(content)

    def log_request(self, *_: object) -> None:
        """Print nothing."""


@contextmanager
def key_server() -> Iterator[KeyServer]:
    """Run a server of key sets in a thread."""
    with KeyServer(("127.0.0.1", 0), _Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
