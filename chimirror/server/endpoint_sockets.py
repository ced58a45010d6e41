"""Finds the listening sockets of --metrics and --agent.

An option opens one, or systemd passes them under the name of the option
(FileDescriptorName= in systemd.socket(5), sd_listen_fds_with_names(3)).
"""

from __future__ import annotations

from chimirror.io import listener

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from chimirror.config import Config
    from chimirror.io.listener import Listener

METRICS, AGENT = "metrics", "agent"


def split_by_name(
    inherited: list[Listener], environ: Mapping[str, str]
) -> dict[str, list[Listener]]:
    """Sort the sockets that systemd passed.

    Returns:
        Those named METRICS and AGENT, and under "" all others, which serve sessions.
    """
    found: dict[str, list[Listener]] = {METRICS: [], AGENT: [], "": []}
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    if len(names) != len(inherited):
        names = [""] * len(inherited)
    for each, name in zip(inherited, names, strict=True):
        found[name if name in found else ""].append(each)
    return found


def open_endpoint(
    name: str, config: Config, inherited: list[Listener]
) -> list[Listener]:
    """Return the listeners of an endpoint, none if it is not asked for.

    Args:
        name: METRICS or AGENT.
        config: the command line.
        inherited: the sockets that systemd passed under this name.

    Raises:
        ListenError: the address of the option cannot be opened, or both are given.
    """
    text = config.metrics if name == METRICS else config.agent
    if text is None:
        return inherited
    if inherited:
        raise listener.ListenError(
            f"a socket named {name} came from systemd and --{name} was given too",
            f"leave --{name} out, or disable chimirror-server-{name}.socket",
        )
    return listener.open_all((text,), config.socket_mode)
