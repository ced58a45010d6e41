"""The catalog of a directory: the file DIR/NAME.toml describes the application `/NAME`.

Guarantees: from the path of a request, only a NAME of plain letters reaches the file
system. A file that cannot be used affects no other application, whatever the reason. A
change counts from the next connection on, and running sessions keep their settings. A
file is read once, and read again only if its signature has changed. If the reason for
an error can be outside of the file, it is also read again after a second. A file that
takes long is not read again for a while, so that its writer cannot use up the event
loop.
"""

from __future__ import annotations

from time import monotonic_ns, thread_time_ns, time_ns

from chimirror.apps import Application, application_file
from chimirror.apps.application_file import MAX_NAME, SUFFIX, ApplicationFileError
from chimirror.builtin_modules import os
from chimirror.config import Config
from chimirror.config.parser import check_combination
from chimirror.process.spawner import size_error
from chimirror.protocol.policy import remove_base

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

    from chimirror.apps.application_file import ApplicationFile

    Signature = tuple[int, int, int, int]

# Names in the answer to a wrong one, files that are read for it, and names that are
# compared with it, which takes 0.5 ms.
MAX_SHOWN = 8
MAX_TRIED = 16
MAX_COMPARED = 32
# Nanoseconds. Two changes of a file within one tick have the same time.
CLOCK_TICK = 50_000_000
# Nanoseconds of CPU time for reading a file. A file that takes longer is read again
# only after a hundred times as long: it gets 1 % of the time at most.
LONG_READ = 10_000_000
PAUSE_FACTOR = 100
# Nanoseconds until a file is read again after an error outside of its text. For
# example, a file of variables is missing, or descriptors are short.
RETRY_INTERVAL = 1_000_000_000
NO_APPLICATION_TEXT = "there is no application of this name here"
NO_APPLICATION = {"status": 404, "cause": "no-application"}
BAD_FILE = {
    "status": 500,
    "text": "this application is not set up as it should be; the log has the reason",
    "cause": "application-file",
}
CHANGING_FILE = {
    "status": 503,
    "text": "the file of this application is large and has just changed; try again",
    "headers": (("Retry-After", "5"),),
    "cause": "application-file",
}


class CachedApplication:
    """An application, and the signature of the file from which it was made.

    Attributes:
        signature: The signature, or None if the file has vanished.
        next_read: The monotonic time from which on it may be read again.
        next_retry: The time from which on it is read again unchanged, or None.
    """

    __slots__ = ("app", "next_read", "next_retry", "signature")

    def __init__(
        self,
        app: Application,
        signature: Signature | None,
        cost: int,
        *,
        is_settled: bool,
        is_lasting: bool,
    ) -> None:
        self.app = app
        self.signature = signature
        now = monotonic_ns()
        self.next_read = now + (PAUSE_FACTOR * cost if cost > LONG_READ else 0)
        self.next_retry: int | None = None
        if not is_settled:
            self.next_retry = self.next_read
        elif not is_lasting:
            self.next_retry = max(self.next_read, now + RETRY_INTERVAL)

    def is_current(self, signature: Signature | None) -> bool:
        """Return True if the file need not be read again."""
        if self.signature is None or self.signature != signature:
            return False
        return self.next_retry is None or monotonic_ns() < self.next_retry


class ApplicationDirectory:
    """The catalog of the applications of a directory.

    Args:
        path: The directory.
        config: The options of the command line, the defaults of every application.
        inherited: The environment of this process.
        check: Raises ValueError for options of a file that this process cannot meet.
            The text begins with the name of an option.
    """

    __slots__ = (
        "_base",
        "_cache",
        "_catalog",
        "_changing",
        "_check",
        "_config",
        "_inherited",
        "_path",
        "default",
    )

    def __init__(
        self,
        path: str,
        config: Config,
        inherited: Mapping[str, str],
        check: Callable[[Config], None] = lambda _: None,
    ) -> None:
        self._path = path if path.startswith("/") else f"{os.getcwd()}/{path}"
        self._config = config
        self._inherited = inherited
        self._check = check
        self._cache: dict[str, CachedApplication] = {}
        self._changing: Application | None = None  # for files that changed again
        self._base = config.base_path
        self._catalog = f"see {self._base}/.well-known/chimirror"
        missing = {**NO_APPLICATION, "text": f"{NO_APPLICATION_TEXT}; {self._catalog}"}
        self.default = Application("", config, inherited, unavailable=missing)
        if not config.sources:  # the names are for users who may use them
            self.default.policy.describe_missing = self.describe_missing

    def find_for_request(self, head: bytes) -> Application:
        """Find the application for a request.

        For an incomplete head, it returns the default: only the syntax is checked.
        """
        if b"\r\n\r\n" not in head:
            return self.default
        return self.get(name_in_request(head, self._base))

    def all(self) -> Iterator[Application]:
        """List the applications by name, also those that are unavailable.

        Each step reads one file at most, so that callers can do other work in between.
        """
        for name in application_file.names(self._path):
            yield self.get(name)

    def describe_missing(self, path: str) -> str:
        """Return the text of NO_APPLICATION with the nearest name, and the first ones.

        Only applications that the list shows are named.

        Args:
            path: The path of the request, below the base.
        """
        from chimirror.text import nearest

        name = path.split("/", 2)[1][:MAX_NAME] if path[:1] == "/" else ""
        try:
            names = application_file.names(self._path)
        except OSError:
            names = []
        alike = sorted(names, key=lambda each: -_likeness(name.lower(), each.lower()))
        close = nearest(name, alike[:MAX_COMPARED]) if name else ""
        usable = [each for each in names[:MAX_TRIED] if self._is_usable(each)]
        base, parts = self._base, [NO_APPLICATION_TEXT]
        if close and self._is_usable(close):
            parts.append(f"the nearest is {base}/{close}")
        if usable:
            more = len(usable) > MAX_SHOWN or len(names) > MAX_TRIED
            shown = ", ".join([f"{base}/{each}" for each in usable[:MAX_SHOWN]])
            verb = "are" if len(usable) > 1 else "is"
            parts.append(f"there {verb} {shown}{' and others' if more else ''}")
        return "; ".join([*parts, self._catalog])

    def _is_usable(self, name: str) -> bool:
        return self.get(name).unavailable is None

    def get(self, name: str) -> Application:
        """Find an application by name. Sets `unavailable` if it cannot be served."""
        if not application_file.is_name(name):
            return self.default
        cached = self._cache.get(name)
        if cached is None:
            return self._read(name)
        if cached.is_current(self._current_signature(name)):
            return cached.app
        if monotonic_ns() < cached.next_read:
            return self._refuse_changing()
        del self._cache[name]
        return self._read(name)

    def _refuse_changing(self) -> Application:
        if self._changing is None:
            self._changing = Application(
                "", self._config, self._inherited, unavailable=CHANGING_FILE
            )
        return self._changing

    def _current_signature(self, name: str) -> Signature | None:
        try:
            return _signature(os.lstat(f"{self._path}/{name}{SUFFIX}"))
        except OSError:
            return None

    def _read(self, name: str) -> Application:
        before, start = time_ns(), thread_time_ns()
        signature: Signature | None
        is_lasting = True
        try:
            source = application_file.load(self._path, name)
            if source is None:
                return self.default
            app = self._make(source)
            signature = _signature(source.status)
        except Exception as error:  # noqa: BLE001  # this application alone fails
            failure = _describe(name, error)
            app = self._make_unavailable(failure)
            signature, is_lasting = self._current_signature(name), failure.is_lasting
        cost = thread_time_ns() - start
        self._cache[name] = CachedApplication(
            app,
            signature,
            cost,
            is_settled=_is_settled(signature, before),
            is_lasting=is_lasting,
        )
        return app

    def _make_unavailable(self, error: ApplicationFileError) -> Application:
        reason = {**BAD_FILE, "detail": str(error)}
        return Application(
            error.name, self._config, self._inherited, unavailable=reason
        )

    def _make(self, source: ApplicationFile) -> Application:
        fields = dict(source.fields)
        interface = fields.pop("interface", {})
        max_sessions = fields.pop("max_sessions", 0)
        path = fields.get("directory", "/")
        if not path.startswith("/"):
            fields["directory"] = f"{self._path}/{path}"
        try:
            config = merge(self._config, fields)
            self._check(config)
        except ValueError as error:
            from chimirror.apps import file_fields

            line = file_fields.conflict_line(source.text, str(error))
            raise ApplicationFileError(
                source.name, line, str(error), is_lasting=False
            ) from None
        app = Application(
            source.name,
            config,
            self._inherited,
            interface=interface,
            max_sessions=max_sessions,
        )
        too_large = size_error(app.program.argv, app.environment)
        if too_large:
            raise ApplicationFileError(source.name, 0, too_large, is_lasting=False)
        return app


def _describe(name: str, error: Exception) -> ApplicationFileError:
    if isinstance(error, ApplicationFileError):
        return error
    text = f"cannot be read: {type(error).__name__}; write it more simply"
    return ApplicationFileError(name, 0, text, is_lasting=False)


def merge(config: Config, fields: Mapping[str, Any]) -> Config:
    """Override the options of the command line with those of a file.

    Raises:
        ValueError: The options exclude each other, or a file of env-file cannot be
            read.
    """
    merged = {name: getattr(config, name) for name in Config.__slots__}
    if config.preset:
        from chimirror.config import presets

        merged = presets.override(merged, fields)
    else:
        merged |= fields
    merged["env_file"] = config.env
    if "env_file" in fields:
        from chimirror.config import env_file

        variables = env_file.read_files(fields["env_file"])
        merged["env_file"] = {**config.env, **variables}
    merged["env"] = fields.get("env", {})
    return Config(**check_combination(merged))


def name_in_request(head: bytes, base: str = "") -> str:
    """Return the first part of the path of a request, or "" if it is too long.

    Args:
        head: The request head.
        base: The path of a proxy, which is not part of the name.
    """
    start, size = head.find(b" ") + 1, len(base) + MAX_NAME + 2
    text = head[start : start + size]
    if text[:1] != b"/":
        text = _path_of_url(head[start:])[:size]
    path = text.partition(b" ")[0].partition(b"?")[0].decode("latin-1")
    name = remove_base(path, base)[1:].partition("/")[0]
    return name if len(name) <= MAX_NAME else ""


def _likeness(name: str, other: str) -> int:
    """Return the number of letters that both names begin with."""
    for count, (ours, theirs) in enumerate(zip(name, other, strict=False)):
        if ours != theirs:
            return count
    return min(len(name), len(other))


def _path_of_url(rest: bytes) -> bytes:
    """Return the path of a target in absolute-form, b"" if it is malformed."""
    from chimirror.protocol import request_target

    target = rest.partition(b"\r")[0].partition(b" ")[0].decode("latin-1")
    try:
        return request_target.split("", target)[2].encode("latin-1")
    except ValueError:
        return b""


def _signature(status: os.stat_result) -> Signature:
    times = (status.st_mtime_ns, status.st_ctime_ns)
    return (status.st_ino, status.st_size, *times)


def _is_settled(signature: Signature | None, now: int) -> bool:
    """Return False for a file so young that it may change again unnoticed."""
    return signature is not None and signature[3] <= now - CLOCK_TICK
