"""Many applications on one socket: `/NAME` is what the file DIR/NAME.toml describes.

Law: nothing of a path but a NAME of plain letters reaches the file system; a file that
cannot be used takes down no other; one that has been changed counts from the next
connection on, and sessions that live keep what they began with. A file is read once,
and after that only asked whether it is still the same.
"""

from __future__ import annotations

from time import time_ns

from chimirror import appfile
from chimirror.appfile import LONGEST_NAME, SUFFIX, BadFile
from chimirror.apps import App
from chimirror.options import Config, combined
from chimirror.system.lean import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from chimirror.appfile import Source

    Signature = tuple[int, int, int, int]

WINDOW = 16 + LONGEST_NAME  # bytes of a head: method, a NAME and what ends it
# Nanoseconds in which a file may change twice without a trace: its times are those of
# the last tick.
TICK = 50_000_000
NO_APPLICATION = {
    "status": 404,
    "text": "there is no application of this name here; see /.well-known/chimirror",
    "cause": "no-application",
}
BAD_FILE = {
    "status": 500,
    "text": "this application is not set up as it should be; the log has the reason",
    "cause": "application-file",
}


class Known:
    """An application that has been read."""

    __slots__ = ("app", "signature")

    def __init__(self, app: App, signature: Signature | None) -> None:
        self.app = app
        self.signature = signature  # None: it has to be read again


class Directory:
    """See the module.

    Args:
        path: of the directory.
        config: of the command line: the default of every application.
        inherited: see App.
    """

    __slots__ = ("_config", "_fresh", "_inherited", "_known", "_path", "unnamed")

    def __init__(self, path: str, config: Config, inherited: Mapping[str, str]) -> None:
        self._path = path if path.startswith("/") else f"{os.getcwd()}/{path}"
        self._config = config
        self._inherited = inherited
        self._known: dict[str, Known] = {}
        self._fresh: list[Source] = []  # to be compiled
        self.unnamed = App("", config, inherited, missing=NO_APPLICATION)

    def find(self, head: bytes) -> App:
        """See Apps; whoever is found for half a head only looks at its syntax."""
        if b"\r\n\r\n" not in head:
            return self.unnamed
        return self.get(named(head))

    def all(self) -> Iterator[App]:
        """See Apps."""
        for name in appfile.names(self._path):
            app = self.get(name)
            if app is not self.unnamed and app.missing is None:
                yield app

    def get(self, name: str) -> App:
        """The application of that name, or one that says in `missing` why not."""
        if not appfile.is_name(name):
            return self.unnamed
        known = self._known.get(name)
        if known is None:
            return self._read(name)
        if known.signature is not None and known.signature == self._look(name):
            return known.app
        del self._known[name]
        return self._read(name)

    def _look(self, name: str) -> Signature | None:
        try:
            return _signature(os.lstat(f"{self._path}/{name}{SUFFIX}"))
        except OSError:
            return None

    def _read(self, name: str) -> App:
        before = time_ns()
        source: Source | None = None
        signature: Signature | None
        try:
            source = appfile.read(self._path, name)
            if source is None:
                return self.unnamed
            app = self._make(source)
            signature = _signature(source.status)
        except BadFile as bad:
            missing = {**BAD_FILE, "detail": str(bad)}
            app = App(name, self._config, self._inherited, missing=missing)
            signature = self._look(name)
        self._known[name] = Known(app, _settled(signature, before))
        if source is not None and not source.is_compiled:
            self._fresh.append(source)
        return app

    def _make(self, source: Source) -> App:
        fields = dict(source.fields)
        said = fields.pop("interface", {})
        most = fields.pop("max_sessions", 0)
        place = fields.get("directory", "/")
        if not place.startswith("/"):
            fields["directory"] = f"{self._path}/{place}"
        try:
            config = merge(self._config, fields)
        except ValueError as error:
            from chimirror import apptoml

            line = apptoml.blame(source.text, str(error))
            raise BadFile(source.name, line, str(error)) from None
        return App(source.name, config, self._inherited, said=said, most=most)

    def settle(self) -> None:
        """See Apps: what was read is compiled for the next one to read it."""
        while self._fresh:
            appfile.compile_(self._path, self._fresh.pop())


def merge(config: Config, fields: Mapping[str, Any]) -> Config:
    """The command line's options, and over them those of a file.

    Raises:
        ValueError: they do not go together, or a file that they name cannot be read.
    """
    merged = {name: getattr(config, name) for name in Config.__slots__}
    merged |= fields
    merged["env_file"] = config.env
    if "env_file" in fields:
        from chimirror import envfile

        variables = envfile.read_all(fields["env_file"])
        merged["env_file"] = {**config.env, **variables}
    merged["env"] = fields.get("env", {})
    return Config(**combined(merged))


def named(head: bytes) -> str:
    """The first part of the path of a request, where it may be a NAME; else empty."""
    text = head[:WINDOW].partition(b" /")[2]
    for mark in (b" ", b"?", b"/"):
        text = text.partition(mark)[0]
    return text.decode("latin-1") if len(text) <= LONGEST_NAME else ""


def _signature(status: os.stat_result) -> Signature:
    times = (status.st_mtime_ns, status.st_ctime_ns)
    return (status.st_ino, status.st_size, *times)


def _settled(signature: Signature | None, now: int) -> Signature | None:
    """A file as young as that may change again and look the same."""
    if signature is None or signature[3] > now - TICK:
        return None
    return signature
