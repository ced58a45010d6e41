"""The verb that answers an agent-check of HAProxy: agent.

HAProxy's configuration manual, `agent-check`: one line on a connection, which then
ends. chimirror-agent.socket gives each connection a process of this verb.
"""

from __future__ import annotations

import os

from chimirror.ctl import unit_load

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.ctl.output import OutputWriter
    from chimirror.ctl.paths import HostPaths
    from chimirror.ctl.usage import CommandLine


def agent(given: CommandLine, host: HostPaths, output: OutputWriter) -> int:
    """Print the line."""
    name = given.options.get("--application")
    output.write(unit_load.agent_answer(host, name).decode())
    return os.EX_OK
