"""chimirror-bridge: serves one inherited connection, with one session, in one process.

systemd, inetd or another server accepts the connection and starts the bridge with it.
This file is the program, and only puts the parts together. Modules that a session may
not need are imported when it needs them, because a bridge starts for each connection.
The other files are loaded by option or after the first byte:

- admission: --max-sessions and --user-range, before the first byte.
- users, credentials: a user for each session, and systemd's credentials for it.
- status: the status file of the session, and `systemctl status`.

May import all packages below it: control, session, program and lower ones.
"""

from __future__ import annotations

import gc
import sys

from chimirror.builtin_modules import environ_dict, os, signal
from chimirror.io import activation

gc.disable()  # until the session is open: collecting takes 0.5 ms of the start
STDERR_WAS_CONNECTION = activation.detach_stderr()  # before anything is printed

from chimirror.apps import refuse_limits  # noqa: E402
from chimirror.config import parser  # noqa: E402
from chimirror.io.loop import NEVER, EventLoop, FatalErrorHandler  # noqa: E402
from chimirror.process import children  # noqa: E402
from chimirror.process.spawner import Spawner  # noqa: E402
from chimirror.program import (  # noqa: E402
    change_directory,
    fail_with,
    find_authorizer,
    is_systemd_unit,
    open_access,
    open_catalog,
    open_certificates,
    termination_signals,
    with_credentials,
)
from chimirror.protocol import (  # noqa: E402
    CLOSED_BY_OPERATOR,
    DRAIN,
    KILLED_BY_OPERATOR,
    OUT_OF_MEMORY,
)
from chimirror.session import Peer, SessionContext, new_session_id  # noqa: E402
from chimirror.session.session import Session  # noqa: E402

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.access.endpoint import Endpoint
    from chimirror.bridge.admission import TemplateAdmission
    from chimirror.config import Config
    from chimirror.control import ControlRegistry
    from chimirror.log.records import EventLog
    from chimirror.protocol import CloseReason
    from chimirror.session import Closable, SessionEntry
    from chimirror.tls.certificates import Certificates


STOP_MARGIN = 5.0  # seconds for a session to end, besides its own timeouts


class StopError(Exception):
    """The session cannot be ended."""


def find_session_id() -> str:
    """Return the invocation id of this unit, or a new id.

    With the invocation id, journalctl finds the session. It is used only if this
    process is the unit's own: under xinetd, all sessions inherit the same variable.
    """
    if is_systemd_unit():
        return environ_dict().get("INVOCATION_ID") or new_session_id()
    return new_session_id()


class BridgeContext(SessionContext):
    """The session context of a bridge, which has one session."""

    __slots__ = ()

    def on_session_admitted(self, session: SessionEntry) -> None:
        """Called before the application is started. Names this process in the journal.

        The records of a unit count only from its bridge.
        """
        super().on_session_admitted(session)
        if session.session_id == environ_dict().get("INVOCATION_ID"):
            from chimirror.log.serving import announce_bridge

            announce_bridge(session.session_id)

    def supports_control(self) -> bool:
        """Return True if control sockets can be made, by this bridge and by others."""
        from chimirror.host import runtime_dir

        directory = runtime_dir.sessions(environ_dict(), os.geteuid())
        if directory is None:
            return False
        with runtime_dir.SavedGroup():
            return os.access(directory, os.W_OK | os.X_OK, effective_ids=True)

    def control_path(self, session_id: str, secret: str) -> str | None:
        """Return the path of a session's control socket, beside its status file."""
        from chimirror.host import runtime_dir

        directory = runtime_dir.sessions(environ_dict(), os.geteuid())
        if directory is None or not runtime_dir.is_session(session_id):
            return None
        return f"{directory}/{runtime_dir.control(session_id)}"

    def reason_for(self, status: int, session_id: str) -> str:
        """Return the close reason for the end of the application.

        The cgroup of the unit is that of the session, so the kernel's OOM kills there
        concern this session.
        """
        if status == -signal.SIGKILL and is_systemd_unit():
            from chimirror.host import cgroup

            if cgroup.oom_kills():
                return OUT_OF_MEMORY.text
        return super().reason_for(status, session_id)


class BridgeStop(FatalErrorHandler):
    """The stop of a bridge by a signal: close, then abort, then give up.

    Args:
        context: has the session.
    """

    def __init__(self, context: SessionContext) -> None:
        self._context = context
        self._draining = self._closing = self._aborting = False
        self.armed = 0
        self.deadline = NEVER

    @property
    def has_begun(self) -> bool:
        """True once the session is being closed by a signal."""
        return self._draining or self._closing or self._aborting

    def drain(self) -> None:
        """Called on SIGTERM. Closes the session. A second SIGTERM aborts it."""
        if self._draining or self._aborting:
            self._abort(DRAIN)
            return
        self._draining = True
        self._close(DRAIN)

    def close(self) -> None:
        """Called on SIGUSR2: an operator closes the session."""
        self._close(CLOSED_BY_OPERATOR)

    def kill(self) -> None:
        """Called on SIGUSR1: an operator kills the application."""
        self._abort(KILLED_BY_OPERATOR)

    def _close(self, reason: CloseReason) -> None:
        """Close the session, unless it is ending already."""
        if self._closing or self._aborting:
            return
        self._closing = True
        connections = self._context.all_connections()
        for connection in connections:
            connection.close(reason)
        configs = [connection.connection.config for connection in connections]
        graces = [config.stop_grace + config.kill_grace for config in configs]
        self._set_timer(max(graces, default=0.0))

    def _abort(self, reason: CloseReason) -> None:
        """Kill the application. The client is told the first reason."""
        self._aborting = True
        for connection in self._context.all_connections():
            connection.abort(reason)
        self._set_timer(0.0)

    def _set_timer(self, timeout: float) -> None:
        loop = self._context.loop
        loop.set_timer(self, loop.now + timeout + STOP_MARGIN)

    def on_timer(self, now: float) -> None:
        """Called when the session has not ended in time."""
        if self._aborting:
            raise StopError("the session does not end after SIGKILL; giving up")
        self._abort(DRAIN)


def open_event_log(config: Config, loop: EventLoop) -> EventLog:
    """Import the event log and open it, after the application's first byte."""
    from chimirror.log.records import EventLog

    event_log = EventLog(config.log_format, stderr_was_connection=STDERR_WAS_CONNECTION)
    event_log.attach(loop)
    return event_log


def load_control(context: SessionContext) -> ControlRegistry:
    """Import control on first use. Most sessions need none."""
    from chimirror.control import ControlRegistry

    return ControlRegistry(context)


def serve(
    config: Config,
    inherited: activation.InheritedConnection,
    session_id: str,
    admission: TemplateAdmission | None,
    certificates: Certificates | None,
    authorizer: Endpoint | None,
) -> None:
    """Serve the one session to its end, and leave no process behind."""
    loop = EventLoop()
    catalog = open_catalog(config, environ_dict(), refuse_limits)
    context = BridgeContext(
        config,
        catalog,
        loop,
        Spawner(loop),
        lambda: open_event_log(config, loop),
        load_control,
        admission,
    )
    if certificates is not None:
        context.certificates = certificates
        certificates.set_report(lambda text: context.event_log.message(3, text))
    context.access = open_access(config, context, authorizer, environ_dict())
    peer = Peer(inherited.address, inherited.port, inherited.uid)
    session = Session(context, peer, inherited.read_fd, inherited.write_fd, session_id)

    stop = BridgeStop(context)
    for number in termination_signals():
        loop.add_signal_handler(number, stop.drain)
    loop.add_signal_handler(signal.SIGUSR1, stop.kill)
    loop.add_signal_handler(signal.SIGUSR2, stop.close)
    try:
        session.connection.start()
        if not context.sessions:
            show_program_name()  # the client is awaited, so there is time
        if admission is not None and not context.sessions:
            from chimirror.bridge.admission import CrowdGuard

            CrowdGuard(context, admission)
        while context.connecting:
            loop.run_once()
        gc.enable()
        serve_open_session(context, session)
        while not context.is_idle:
            loop.run_once()
    finally:
        if context.access is not None:
            context.access.close()
        children.end_all()
        if context.has_event_log:
            if stop.has_begun:
                context.event_log.finish(config.linger_timeout)
            else:
                context.event_log.finish()
    loop.close_all()


def _make_control_server(context: SessionContext, session: Session) -> Closable | None:
    """Open the control socket, if its directory is set up.

    With --user-range, other bridges forward control connections. They run as other
    users, and the group of the directory admits them.
    """
    path = context.control_path(session.session_id, "")
    if path is None:
        return None
    from chimirror.host.runtime_dir import SavedGroup
    from chimirror.io.session_socket import SessionSocket

    mode = 0o600 if context.config.user_range is None else 0o660
    try:
        with SavedGroup():
            return context.control.listen(SessionSocket(path, mode))
    except OSError:
        return None  # not set up, or no permission: the session has no control socket


def show_program_name() -> None:
    """Show this process as chimirror-bridge. Takes 0.3 ms, so not on the way to 101."""
    from chimirror.process import process_title

    process_title.show_as("chimirror-bridge", sys.argv[1:])


def serve_open_session(context: SessionContext, session: Session) -> None:
    """Serve the rest of the session, with a status file and a control socket."""
    if context.access is not None:
        context.access.close()  # no other request follows: its helper can end
    while context.sessions and not context.has_event_log:
        context.loop.run_once()  # to the first tick: no import delays the first byte
    if not (context.sessions and session.opened_at):
        return
    show_program_name()
    from chimirror.bridge.status import StatusReporter
    from chimirror.host.runtime_dir import SavedGroup

    status = StatusReporter(context, session)
    control_server = _make_control_server(context, session)
    try:
        while context.sessions or (control_server and control_server.is_finishing):
            context.loop.run_once()
    finally:
        status.remove()
        if control_server is not None:
            with SavedGroup():
                control_server.close()


def main() -> None:
    """Run the program. Exit statuses are those of sysexits(3)."""
    config, inherited, certificates, authorizer = _prepare()
    children.set_dumpable(False)  # the application may have the same user
    session_id = find_session_id()
    guardian = 0
    if not is_systemd_unit():
        from chimirror.process.guardian import guard

        guardian = guard("chimirror-bridge", config.kill_grace)
    admission = None
    if config.max_sessions is not None or config.user_range is not None:
        from chimirror.bridge.admission import prepare_process

        admission = prepare_process(config, session_id)
    children.end_with_parent(guardian)
    try:
        serve(config, inherited, session_id, admission, certificates, authorizer)
    except BaseException as error:  # noqa: BLE001 (told, and the process ends)
        from chimirror.log.stderr import report_exception

        report_exception(error, session_id)
        sys.exit(os.EX_SOFTWARE)


def _prepare() -> tuple[
    Config, activation.InheritedConnection, Certificates | None, Endpoint | None
]:
    """Read all that the first user of the process may read, the key included."""
    certificates = None
    try:
        config = parser.parse_bridge(sys.argv[1:])
        config = with_credentials("chimirror-bridge", config, environ_dict())
        inherited = activation.find_connection(environ_dict())
        change_directory(config)
        authorizer = find_authorizer("chimirror-bridge", config, environ_dict())
    except (parser.UsageError, activation.NoConnection, OSError) as error:
        fail_with("chimirror-bridge", error, os.EX_USAGE)
    if config.tls_certs:
        from chimirror.tls.errors import CertificateError

        try:
            certificates = open_certificates(config)
        except CertificateError as error:
            fail_with("chimirror-bridge", error, os.EX_CONFIG)
    return config, inherited, certificates, authorizer
