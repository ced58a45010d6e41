"""The connection of a target to a service of its server. Knows neither API.

No open waits: a FIFO without a server at its other end is an error at once.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import Any

from chimirror.services.codec import Decoder, Encoder
from chimirror.services.errors import NotConnected
from chimirror.services.memory import MemorySocket
from chimirror.services.names import (
    INPUT,
    OUTPUT,
    VARIABLE,
    check_name,
    services_of,
)
from chimirror.services.options import MAX_MESSAGE, UNSET, PipeOptions
from chimirror.services.pipe_core import PipeCore
from chimirror.services.receiving_end import ReceivingEnd
from chimirror.services.sending_end import SendingEnd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_FIFO = os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW


class Alone:
    """Surroundings of a pipe in the target: the FIFOs themselves show all ends."""

    peer_has_ended = False
    deadline = None

    def events(self) -> dict[int, int]:
        """Return no events."""
        return {}

    def advance(self, ready: Mapping[int, int]) -> None:
        """Do nothing."""


class Connection(PipeCore):
    """One service as its target sees it.

    Args:
        name: of the service.
        receive: type of the values from the server, or UNSET.
        send: type of the values to the server, or UNSET.
        options: of the pipe.

    Raises:
        NotConnected: There is no such service, or its server has ended.
    """

    def __init__(
        self, name: str, receive: Any, send: Any, options: PipeOptions
    ) -> None:
        super().__init__(check_name(name), Alone())
        if receive is UNSET and send is UNSET:
            raise ValueError(f"service {name}: write receive=TYPE, send=TYPE or both")
        encoder = None if send is UNSET else Encoder(options.get("enc_hook"))
        decoder = (
            None
            if receive is UNSET
            else Decoder(name, receive, options.get("dec_hook"))
        )
        self._directory = _open_directory()
        self._memory = MemorySocket()
        try:
            self._memory = MemorySocket.connect(self._directory, name)
            if encoder is not None:
                self._open_sending(encoder)
            if decoder is not None:
                self._open_receiving(decoder, options.get("max_message", MAX_MESSAGE))
        except BaseException:
            self.close()
            raise
        finally:
            os.close(self._directory)

    def _open_sending(self, encoder: Encoder) -> None:
        fd = self._open(INPUT, os.O_WRONLY, "receives nothing")
        self.sending = SendingEnd(fd, encoder, self._memory, _keep)

    def _open_receiving(self, decoder: Decoder, max_message: int) -> None:
        fd = self._open(OUTPUT, os.O_RDONLY, "sends nothing")
        self.receiving = ReceivingEnd(
            self.name, fd, decoder, self._memory, max_message, _keep
        )
        self.receiving.require_writer()
        if self.receiving.has_ended:
            raise NotConnected(f"service {self.name}: its server has ended")

    def _open(self, end: str, flags: int, lack: str) -> int:
        file = self.name + end
        try:
            return os.open(file, flags | _FIFO, dir_fd=self._directory)
        except FileNotFoundError:
            raise NotConnected(self._missing(lack)) from None
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
        mode = os.stat(file, dir_fd=self._directory, follow_symlinks=False).st_mode
        if stat.S_ISFIFO(mode):
            raise NotConnected(f"service {self.name}: its server has ended")
        raise NotConnected(f"service {self.name}: this direction was closed before")

    def _missing(self, lack: str) -> str:
        names = services_of(os.listdir(self._directory))
        if self.name in names:
            return f"service {self.name}: the server {lack} there"
        known = ", ".join(names) or "none"
        return f"the server has no service {self.name}; it has: {known}"

    def close(self) -> None:
        """Close both directions."""
        super().close()
        self._memory.close()


def _keep() -> None:
    """The server retires the FIFO."""


def _open_directory() -> int:
    path = os.environ.get(VARIABLE)
    if not path:
        raise NotConnected(
            f"{VARIABLE} is not set: this program was not started by a"
            " chimirror.services Server"
        )
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise NotConnected(
            f"{VARIABLE}: the server has ended ({error.strerror}: {path!r})"
        ) from None
