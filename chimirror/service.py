"""What all sessions of one process share: its applications, limits and records.

Built once, by the bridge or by a worker of the server; a session reaches everything
that is not its own through it. Knows no descriptor.
"""

from __future__ import annotations

from chimirror.apps import Single
from chimirror.system.children import describe
from chimirror.system.lean import os, signal
from chimirror.wire.http import Refusal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Protocol

    from chimirror.apps import App, Apps
    from chimirror.courier import Courier
    from chimirror.helm import Helm
    from chimirror.options import Config
    from chimirror.session import Session
    from chimirror.system.application import Starter
    from chimirror.system.loop import Loop
    from chimirror.system.records import Records

    class Admission(Protocol):
        """Who may have a session."""

        def enter(self, peer: Peer, app: App) -> str | None:
            """Count one session in, or say which limit forbids it."""

        def leave(self, peer: Peer, app: App) -> None:
            """Count it out."""

        def retry_after(self, cause: str) -> int:
            """Seconds after which the same peer may try again."""


NO_ROOM = {
    "max-sessions": "all sessions are taken",
    "max-sessions-per-source": "all sessions of this address are taken",
    "max-sessions-per-application": "all sessions of this application are taken",
    "max-rate": "too many new sessions just now",
    "start-shortage": "no application can be started just now",
    "drain": "this service is going down",
}


class Peer:
    """The other end of a connection.

    Attributes:
        address: IPv4 or IPv6 text; empty on a Unix socket.
        port: 0 where there is none.
        uid: of the peer's process, on a Unix socket; else -1.
    """

    __slots__ = ("address", "port", "uid")

    def __init__(self, address: str, port: int, uid: int = -1) -> None:
        self.address = address
        self.port = port
        self.uid = uid

    @property
    def endpoint(self) -> tuple[str, int]:
        """Address and port."""
        return self.address, self.port

    @property
    def text(self) -> str:
        """As records show it: `127.0.0.1:4711`, `[::1]:4711`, `unix:1000`."""
        if not self.address:
            return f"unix:{self.uid}" if self.uid >= 0 else "unix"
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{host}:{self.port}" if self.port else host


class Unlimited:
    """The admission of a process that serves one session."""

    __slots__ = ()

    def enter(self, peer: Peer, app: App) -> None:
        """There is always room."""

    def leave(self, peer: Peer, app: App) -> None:
        """Nothing was counted."""

    def retry_after(self, cause: str) -> int:
        """Never asked."""
        return 1


class Service:
    """See the module; one per process.

    Args:
        apps: what is served.
        make_records: called once, with the first record.

    Attributes:
        config: of the command line; each application has its own.
    """

    __slots__ = (
        "_make_records",
        "_records",
        "admission",
        "apps",
        "config",
        "connecting",
        "couriers",
        "helms",
        "loop",
        "sessions",
        "starter",
    )

    def __init__(
        self,
        config: Config,
        apps: Apps,
        loop: Loop,
        starter: Starter,
        make_records: Callable[[], Records],
        admission: Admission | None = None,
    ) -> None:
        self.config = config
        self.apps = apps
        self.loop = loop
        self.starter = starter
        self._make_records = make_records
        self._records: Records | None = None
        self.admission: Admission = admission or Unlimited()
        self.sessions: dict[str, Session] = {}  # by their ids
        self.couriers: set[Courier] = set()  # to those who steer sessions
        self.helms: dict[str, Helm] = {}  # of the sessions that somebody steers
        self.connecting = 0  # handshakes in flight

    @property
    def records(self) -> Records:
        """Where sessions are recorded; made when there is something to record."""
        if self._records is None:
            self._records = self._make_records()
        return self._records

    @property
    def recorded(self) -> bool:
        """Whether there has been anything to record."""
        return self._records is not None

    def no_room(self, cause: str) -> Refusal:
        """The refusal for a limit, or for a service that goes down."""
        seconds = str(self.admission.retry_after(cause))
        text = f"{NO_ROOM[cause]}; try again later"
        return Refusal(503, text, (("Retry-After", seconds),), cause=cause)

    def interruption(self, reason: str) -> Refusal:
        """The answer to a request that our own end, or a bug of ours, overtook."""
        if reason in NO_ROOM:
            return self.no_room(reason)
        return Refusal(500, "an internal error", cause="internal")

    def reason_for(self, status: int) -> str:
        """Why a session ends whose application has ended; for subclasses."""
        return describe(status)

    def on_decided(self) -> None:
        """A handshake is over, one way or the other."""
        self.connecting -= 1

    def on_vacancy(self) -> None:
        """A session has been recorded and forgotten, or a courier; for subclasses."""

    @property
    def idle(self) -> bool:
        """Whether there is nobody to serve."""
        return not self.sessions and not self.couriers

    def everybody(self) -> list[Session | Courier]:
        """All that are served."""
        return [*self.sessions.values(), *self.couriers]

    # Control

    @property
    def number(self) -> int:
        """Which of the workers of a server this is; for subclasses."""
        return 0

    def is_steerable(self) -> bool:
        """Whether others can reach the control socket of our sessions; likewise."""
        return False

    def control_path(self, identity: str, secret: str) -> str | None:
        """Where to ask for a session of this service that has such a secret."""
        return None

    def fault(self, error: Exception, session: str) -> None:
        """A bug of ours met by one session: the log gets all of it."""
        import traceback

        text = "".join(traceback.format_exception(error))
        self.records.note(3, f"internal error in session {session}", detail=text)


def go(config: Config) -> None:
    """Go where the application starts, or see whether the files of many are there.

    Raises:
        OSError: there is no such directory.
    """
    if config.apps is not None:
        os.stat(f"{config.apps}/.")
    elif config.directory is not None:
        os.chdir(config.directory)


def applications(config: Config, inherited: Mapping[str, str]) -> Apps:
    """The applications that a command line asks for."""
    if config.apps is None:
        return Single(config, inherited)
    from chimirror.directory import Directory

    return Directory(config.apps, config, inherited)


def endings() -> list[int]:
    """The signals that end a program, but those that nohup(1) or `&` switched off."""
    usual = (signal.SIGINT, signal.SIGHUP)
    wanted = [number for number in usual if signal.getsignal(number) != signal.SIG_IGN]
    return [signal.SIGTERM, *wanted]


def explain(error: OSError) -> tuple[str, int]:
    """A failed system call of the start as one line and an exit status."""
    if error.filename is None:
        return error.strerror or str(error), os.EX_OSERR
    return f"{error.filename}: {error.strerror}", os.EX_UNAVAILABLE


def complain(text: str, status: int) -> int:
    """Say on standard error why a program does not start; the status to exit with."""
    os.write(2, f"{text}\n".encode(errors="backslashreplace"))
    return status


def new_identity() -> str:
    """128 random bits, as systemd writes an INVOCATION_ID."""
    return os.urandom(16).hex()
