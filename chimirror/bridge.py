"""chimirror-bridge: one connection that it is handed, one process, one session.

This file only puts the parts together. Its start-up is a feature: what a session may
never need is not imported before the session needs it.
"""

from __future__ import annotations

import gc
import sys

from chimirror.system import activation
from chimirror.system.lean import environment, os, signal

gc.disable()  # until the session is open: it is 0.5 ms of the start
WIRE_WAS_STDERR = activation.protect_wire()  # nothing may be printed before this

from chimirror import options  # noqa: E402
from chimirror.service import (  # noqa: E402
    Peer,
    Service,
    applications,
    complain,
    endings,
    explain,
    go,
    new_identity,
)
from chimirror.session import Session  # noqa: E402
from chimirror.system import children  # noqa: E402
from chimirror.system.child import Starter  # noqa: E402
from chimirror.system.loop import Loop  # noqa: E402

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.control import Office
    from chimirror.service import Admission
    from chimirror.system.records import Records


def is_unit() -> bool:
    """Whether systemd has started us, and not somebody whom it has started."""
    return environment().get("SYSTEMD_EXEC_PID") == str(os.getpid())


def identity() -> str:
    """systemd's invocation id where it is ours, so that the journal finds the session.

    The variable is inherited: under xinetd every session would have the same.
    """
    if is_unit():
        return environment().get("INVOCATION_ID") or new_identity()
    return new_identity()


class Alone(Service):
    """What the sessions of a process share, where there is only one."""

    __slots__ = ()

    def is_steerable(self) -> bool:
        """Where there is a place for our control socket, others have one, too."""
        from chimirror.system import runtime

        place = runtime.sessions(environment(), os.geteuid())
        if place is None:
            return False
        with runtime.Inside():
            return os.access(place, os.W_OK | os.X_OK, effective_ids=True)

    def control_path(self, identity: str, secret: str) -> str | None:
        """Beside the status file of its bridge."""
        from chimirror.system import runtime

        place = runtime.sessions(environment(), os.geteuid())
        if place is None or not runtime.is_session(identity):
            return None
        return f"{place}/{runtime.control(identity)}"

    def reason_for(self, status: int) -> str:
        """The unit's cgroup is the session's: what the kernel kills there is ours."""
        if status == -signal.SIGKILL and is_unit():
            from chimirror.system import cgroup

            if cgroup.memory_kills():
                return "out of memory"
        return super().reason_for(status)


def make_records() -> Records:
    """The records, whose import the application's first byte need not wait for."""
    from chimirror.system.records import Records

    return Records(stderr_was_wire=WIRE_WAS_STDERR)


def serve(
    config: options.Config,
    found: activation.Found,
    name: str,
    admission: Admission | None,
) -> None:
    """Serve the one session to its end, and leave nothing behind."""
    loop = Loop()
    served = applications(config, environment())
    service = Alone(config, served, loop, Starter(loop), make_records, admission)
    peer = Peer(found.address, found.port, found.uid)
    session = Session(service, peer, found.source, found.sink, name)

    def drain() -> None:
        for one in service.everybody():
            one.close(1001, "drain")

    def abort() -> None:
        for one in service.everybody():
            one.abort()

    for number in endings():
        loop.on_signal(number, drain)
    loop.on_signal(signal.SIGUSR1, abort)
    try:
        session.connection.begin()
        while service.connecting:
            loop.turn()
        gc.enable()
        show(service, session)
        while not service.idle:
            loop.turn()
    finally:
        children.end_all()
    loop.close_all()


def _make_office(service: Service, session: Session) -> Office | None:
    """Our control socket, where there is a place for one.

    With a user for each session, those who bring control connections are other bridges,
    of other users and of the group that may enter the place.
    """
    path = service.control_path(session.identity, "")
    if path is None:
        return None
    from chimirror.control import Office
    from chimirror.system.doorbell import Doorbell
    from chimirror.system.runtime import Inside

    mode = 0o600 if service.config.user_range is None else 0o660
    try:
        with Inside():
            return Office(service, Doorbell(path, mode))
    except OSError:
        return None  # not set up, or not for us: the session goes on without


def show(service: Service, session: Session) -> None:
    """Serve what is left of the session, and let others see how it is."""
    while service.sessions and not service.recorded:
        service.loop.turn()  # up to the first tick: the first byte waits for no import
    if not (service.sessions and session.opened):
        return
    from chimirror.status import Status
    from chimirror.system.runtime import Inside

    status, office = Status(service, session), _make_office(service, session)
    try:
        while service.sessions:
            service.loop.turn()
    finally:
        status.remove()
        if office is not None:
            with Inside():
                office.close()


def main() -> None:
    """Run the program; exit statuses are sysexits."""
    config, found = _prepare()
    name = identity()
    admission = None
    if config.max_sessions is not None or config.user_range is not None:
        from chimirror import crowd

        admission = crowd.join(config, name)
    try:
        serve(config, found, name, admission)
    except BaseException:  # noqa: BLE001 (told, and the process ends)
        sys.excepthook(*sys.exc_info())
        sys.exit(os.EX_SOFTWARE)


def _prepare() -> tuple[options.Config, activation.Found]:
    try:
        config = options.bridge(sys.argv[1:])
        found = activation.find(environment())
        go(config)
    except options.UsageError as error:
        sys.exit(complain(str(error), error.status))
    except activation.NoConnection as error:
        sys.exit(complain(f"chimirror-bridge: {error}", os.EX_USAGE))
    except OSError as error:
        text, status = explain(error)
        sys.exit(complain(f"chimirror-bridge: {text}", status))
    return config, found


if __name__ == "__main__":
    main()
