"""Public keys that sign tokens: a JSON Web Key Set (RFC 7517) of a file or a URL.

Keys of asymmetric algorithms alone: with the others, each reader of the set could sign.
Knows no token.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
import urllib.request
from typing import NamedTuple

from jwt import PyJWK
from jwt.exceptions import PyJWTError

from chimirror import __version__
from chimirror.authorize.messages import FileFault, warn
from chimirror.authorize.watched_file import WatchedFile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, Protocol

    class KeySource(Protocol):
        """A key set that can change."""

        def get(self) -> Sequence[Key]:
            """Return the keys. Raises FileFault if there never were any."""

        def get_newest(self) -> Sequence[Key]:
            """Return the keys, and look for new ones first."""


MAX_SIZE = 1 << 20  # bytes of a set
MAX_AGE = 300.0  # seconds until a URL is fetched again
MIN_AGE = 10.0  # seconds, if a token has an unknown key
FETCH_TIMEOUT = 3.0  # seconds
NO_SET = (json.JSONDecodeError, UnicodeDecodeError)
_RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
# The algorithms of a key, by its type and curve (RFC 7518, RFC 8037).
ALGORITHMS = {
    ("RSA", ""): _RSA,
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("EC", "P-521"): ("ES512",),
    ("OKP", "Ed25519"): ("EdDSA",),
}
ASYMMETRIC = {name for names in ALGORITHMS.values() for name in names}


class Key(NamedTuple):
    """A public key.

    Attributes:
        id: Its `kid`, "" without one.
        by_algorithm: The key for each algorithm that it may verify.
    """

    id: str
    by_algorithm: dict[str, PyJWK]


def read_keys(data: bytes) -> list[Key]:
    """Read a key set. Keys of other kinds and uses are left out.

    Raises:
        ValueError: It is no key set, or has no usable key. The text says what to do.
    """
    try:
        keys = json.loads(data)["keys"]
        found = [_read_key(each) for each in keys if _is_usable(each)]
    except (*NO_SET, TypeError, AttributeError, KeyError, RecursionError):
        raise ValueError('no key set; write {"keys":[...]} of RFC 7517') from None
    except PyJWTError:
        raise ValueError("a key that cannot be read; export the set again") from None
    if not found:
        raise ValueError("no public key for signatures; add one of RSA, EC or Ed25519")
    return found


def _is_usable(data: dict[str, Any]) -> bool:
    known = _algorithms(data)
    operations = data.get("key_ops", ["verify"])
    return bool(known) and data.get("use", "sig") == "sig" and "verify" in operations


def _algorithms(data: dict[str, Any]) -> tuple[str, ...]:
    known = ALGORITHMS.get((data.get("kty", ""), data.get("crv", "")), ())
    only = data.get("alg", "")
    return known if not only else tuple(name for name in known if name == only)


def _read_key(data: dict[str, Any]) -> Key:
    if "d" in data:
        raise ValueError("a private key; write its public part alone")
    names = _algorithms(data)
    return Key(str(data.get("kid", "")), {name: PyJWK(data, name) for name in names})


class KeyFile:
    """The key set of a file, which is read again when it changes.

    Raises:
        FileFault: The file cannot be used.
    """

    def __init__(self, path: str) -> None:
        self._file = WatchedFile(path, MAX_SIZE, read_keys)

    def get(self) -> Sequence[Key]:
        """Return the keys."""
        return self._file.get()

    get_newest = get


class KeyUrl:
    """The key set of a URL, which is fetched again from time to time.

    A set that cannot be fetched is reported once, and the last good one stays in use.

    Args:
        url: https:, or http: on this machine.
        fetch: Returns the content of a URL. Raises OSError or ValueError.
        clock: Returns monotonic seconds.
    """

    def __init__(
        self,
        url: str,
        fetch: Callable[[str], bytes] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = url
        self._fetch = fetch or fetch_url
        self._clock = clock
        self._lock = threading.Lock()
        self._keys: list[Key] = []
        self._fetched = -MAX_AGE
        self._reported = ""
        self._update(MAX_AGE)

    def get(self) -> Sequence[Key]:
        """Return the keys.

        Raises:
            FileFault: The set has never been fetched.
        """
        # Others go on with the old keys while one thread fetches.
        if self._is_older(MAX_AGE) and self._lock.acquire(blocking=False):
            try:
                self._update(MAX_AGE)
            finally:
                self._lock.release()
        return self._keys or self.get_newest()

    def get_newest(self) -> Sequence[Key]:
        """Return the keys. Fetches the set again, unless it is young."""
        if self._is_older(MIN_AGE):
            with self._lock:
                self._update(MIN_AGE)
        if not self._keys:
            raise FileFault(self._reported)
        return self._keys

    def _is_older(self, age: float) -> bool:
        return self._clock() >= self._fetched + age

    def _update(self, age: float) -> None:
        if not self._is_older(age):
            return  # another thread has fetched it meanwhile
        try:
            self._keys = read_keys(self._fetch(self._url))
        except (OSError, ValueError, http.client.HTTPException) as error:
            used = "its last good version stays" if self._keys else "no key is"
            fault = f"{self._url}: {str(error) or type(error).__name__}"
            if self._reported != fault:
                warn(f"{fault}; {used} in use")
            self._reported = fault
        else:
            if self._reported:
                warn(f"{self._url}: is good again, and in use")
            self._reported = ""
        self._fetched = self._clock()


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows no redirection, which could lead to http:."""

    def redirect_request(self, *_: object) -> None:
        """Return no further request."""


def fetch_url(url: str) -> bytes:
    """Return the content of a URL, within FETCH_TIMEOUT.

    Raises:
        OSError: It cannot be fetched.
        ValueError: It is too large.
    """
    fields = {"Accept": "application/json", "User-Agent": f"chimirror/{__version__}"}
    request = urllib.request.Request(url, headers=fields)  # noqa: S310  # usage
    opener = urllib.request.build_opener(_NoRedirect)
    deadline, data = time.monotonic() + FETCH_TIMEOUT, b""
    with opener.open(request, timeout=FETCH_TIMEOUT) as response:
        while part := response.read1(1 << 16):
            data += part
            if len(data) > MAX_SIZE:
                raise ValueError("over 1 MiB")
            if time.monotonic() > deadline:
                raise TimeoutError("timed out")
    return data
