"""The entry point of chimirror-server, with systemd or without.

Parses the command line, opens the listeners (or takes those that systemd passed,
sd_listen_fds(3)), raises the descriptor limit and runs the supervisor. Removes the
sockets of the listeners at the end. Knows nothing of workers or sessions.
"""

from __future__ import annotations

import os
import sys

from chimirror import program
from chimirror.apps.program_check import ProgramFault
from chimirror.config import options, parser
from chimirror.host.cgroup_tree import CgroupError
from chimirror.io import fds, listener
from chimirror.log import stderr
from chimirror.log.records import EventLog
from chimirror.process import children, fast_spawner, fork, guardian, process_title
from chimirror.server import capacity, endpoint_sockets, server_cgroups
from chimirror.server.endpoint_sockets import AGENT, METRICS, open_endpoint
from chimirror.server.supervisor import Supervisor
from chimirror.tls.errors import CertificateError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.config import Config
    from chimirror.io.listener import Listener


EXPECTED = (
    *(parser.UsageError, listener.ListenError, ProgramFault, CgroupError),
    OSError,
)


def _describe() -> str:
    """Return which process starts applications, and which sessions have cgroups."""
    obstacle = fast_spawner.try_start()
    starts = fast_spawner.describe(obstacle)
    return f"{starts}\n{server_cgroups.describe(is_cheap=not obstacle)}"


def _open_listeners(config: Config, inherited: list[Listener]) -> list[Listener]:
    """Open the listeners of sessions.

    Args:
        config: the command line.
        inherited: the listeners that systemd passed.

    Returns:
        The inherited listeners. Without any: the addresses of --listen, or else the
        default address.

    Raises:
        ListenError: an address cannot be opened, or systemd passed sockets and --listen
            or --bind-ipv6-only was given as well.
    """
    if inherited and config.listen:
        raise listener.ListenError(
            "sockets came from systemd and --listen was given too: use one of them"
        )
    if inherited and config.bind_ipv6_only:
        raise listener.ListenError(
            "sockets came from systemd and --bind-ipv6-only was given too",
            "write BindIPv6Only=ipv6-only in the socket unit",
        )
    if inherited:
        return inherited
    addresses = config.listen or (options.DEFAULT_LISTEN,)
    return listener.open_all(
        addresses, config.socket_mode, bind_ipv6_only=config.bind_ipv6_only
    )


def _check_certificates(config: Config) -> None:
    """Load the certificates in a child. Each worker loads them for itself.

    No copy of a preloaded application may have the key in its memory. The modules are
    imported here, so that the workers share their memory.

    Raises:
        CertificateError: They cannot be used.
    """
    if not config.tls_certs:
        return
    __import__("chimirror.session.tls_connection")
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        fork.run_child(lambda: _report_fault(config, writer))
    os.close(writer)
    with open(reader, errors="replace") as file:
        text = file.read()
    _, status = os.waitpid(pid, 0)
    if text or status:
        raise CertificateError(text or "the certificates cannot be loaded")


def _report_fault(config: Config, writer: int) -> int:
    try:
        program.open_certificates(config)
    except CertificateError as error:
        os.write(writer, str(error).encode(errors="replace"))
    return os.EX_OK


def main() -> None:
    """Run the program. Exit statuses are those of sysexits(3).

    Applications may have the same user. They must not read the environment and the
    memory of this process, of the workers and of the zygote, which inherit the setting.
    """
    children.set_dumpable(False)
    opened: list[Listener] = []
    try:
        config = parser.parse_server(sys.argv[1:], _describe)
        config = program.with_credentials("chimirror-server", config, os.environ)
        process_title.show_as("chimirror-server", sys.argv[1:])
        stderr.set_format(config.log_format)
        fds.open_missing_stdio()
        inherited = listener.systemd_listeners(os.environ)  # of this pid only
        parent = 0
        if not program.is_systemd_unit():
            grace = config.kill_grace
            parent = guardian.guard("chimirror-server", grace, keeps_workers=True)
            children.end_with_parent(parent)
        named = endpoint_sockets.split_by_name(inherited, os.environ)
        opened += (metrics := open_endpoint(METRICS, config, named[METRICS]))
        opened += (agent := open_endpoint(AGENT, config, named[AGENT]))
        opened += (listeners := _open_listeners(config, named[""]))
        fds.set_cloexec_all()
        program.change_directory(config)
        program.check_programs(config, os.environ)
        _check_certificates(config)
        authorizer = program.find_authorizer("chimirror-server", config, os.environ)
        descriptors = capacity.raise_descriptor_limit()
        event_log = EventLog(config.log_format)
        supervisor = Supervisor(
            config,
            listeners,
            event_log,
            descriptors,
            parent,
            authorizer,
            metrics,
            agent,
        )
        sys.exit(supervisor.run())
    except CertificateError as error:
        program.fail_with("chimirror-server", error, os.EX_CONFIG)
    except EXPECTED as error:
        program.fail_with("chimirror-server", error, os.EX_UNAVAILABLE)
    except Exception as error:  # noqa: BLE001 (told, and the process ends)
        stderr.report_exception(error)
        sys.exit(os.EX_SOFTWARE)
    finally:
        for each in opened:
            each.remove()


if __name__ == "__main__":
    main()
