"""Hosts for ssh(1): a real sshd(8) for each, with keys and a configuration of its own.

ssh starts the sshd of a host as its ProxyCommand, so that no host needs a port. A host
has its own chimirror-ctl, which sees the runtime directory of that host alone.
"""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SSHD = "/usr/sbin/sshd"
# sshd wants this directory, if root starts it: README.Debian of openssh-server.
PRIVILEGE_SEPARATION = Path("/run/sshd")
CTL = """\
#!{python} -P
import sys
from chimirror.ctl import main
from chimirror.ctl.paths import HostPaths
main.this_host = lambda: HostPaths({runtime!r}, run={run!r})
sys.exit(main.main())
"""
SSHD_CONFIG = """\
HostKey {place}/host_key
AuthorizedKeysFile {place}/user_key.pub
AuthenticationMethods publickey
StrictModes no
UsePAM no
PidFile none
LogLevel ERROR
SetEnv PATH={place}/{name}/bin:/usr/bin:/bin HOME={place}/{name}
"""
SSH_CONFIG = """\
Host {name}
    HostKeyAlias every
    ProxyCommand {command}
"""
SSH_COMMON = """\
Host *
    IdentityFile {place}/user_key
    IdentitiesOnly yes
    UserKnownHostsFile {place}/known_hosts
    GlobalKnownHostsFile none
"""


class SshHosts:
    """The hosts that one configuration of ssh knows.

    Attributes:
        program: stands for ssh, with this configuration.
    """

    def __init__(self, place: Path) -> None:
        self.place = place
        self.program = place / "ssh"
        for key in ("host_key", "user_key"):
            make = ("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", place / key)
            subprocess.run(make, check=True)
        public = (place / "host_key.pub").read_text()
        (place / "known_hosts").write_text(f"every {public}")
        (place / "config").write_text(SSH_COMMON.format(place=place))
        self.program.write_text(f'#!/bin/sh\nexec ssh -F {place}/config "$@"\n')
        self.program.chmod(0o755)
        if os.geteuid() == 0:
            PRIVILEGE_SEPARATION.mkdir(exist_ok=True)

    def add(self, name: str, runtime: Path | None = None) -> None:
        """Add a host.

        Args:
            name: its name for ssh.
            runtime: its runtime directory. Without one, it has no chimirror-ctl.
        """
        home = self.place / name
        (home / "bin").mkdir(parents=True)
        text = SSHD_CONFIG.format(place=self.place, name=name)
        (home / "sshd_config").write_text(text)
        command = shlex.join([SSHD, "-i", "-e", "-f", str(home / "sshd_config")])
        self._configure(name, command)
        if runtime is not None:
            program = home / "bin" / "chimirror-ctl"
            runtimes = (str(runtime),)
            script = CTL.format(python=sys.executable, runtime=runtimes, run=str(home))
            program.write_text(script)
            program.chmod(0o755)

    @contextmanager
    def dead(self, name: str) -> Iterator[None]:
        """Add a host that refuses connections within this context."""
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))  # it does not listen
            port = closed.getsockname()[1]
            text = f"Host {name}\n    HostName 127.0.0.1\n    Port {port}\n"
            self._prepend(text)
            yield

    def _configure(self, name: str, command: str) -> None:
        self._prepend(SSH_CONFIG.format(name=name, command=command))

    def _prepend(self, text: str) -> None:
        """Add to the configuration. The first value that ssh finds counts."""
        config = self.place / "config"
        config.write_text(text + config.read_text())
