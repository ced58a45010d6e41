"""Workers that could not start with the files of the certificates, as these were.

The supervisor tries again each second. The log gets one line for each change of the
files, not one for each try. Knows no content of the files.
"""

from __future__ import annotations

from chimirror.tls.file_states import file_states

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chimirror.config import Config
    from chimirror.tls.file_states import FileState


class CertificateFailures:
    """The states of the files at the last try of each worker.

    Args:
        config: names the files.
    """

    def __init__(self, config: Config) -> None:
        certificates, keys = config.tls_certs or (), config.tls_keys or ()
        client_ca = (config.tls_client_ca,) if config.tls_client_ca else ()
        self._paths = (*certificates, *keys, *client_ca)
        self._tried: dict[int, list[FileState]] = {}
        self._failed: dict[int, list[FileState]] = {}

    def on_try(self, number: int) -> None:
        """Called before a worker is forked."""
        if self._paths:
            self._tried[number] = file_states(self._paths)

    def is_known(self, number: int) -> bool:
        """Return True if this worker has failed with the same files before."""
        return self._failed.get(number) == self._tried[number]

    def on_worker_exit(self, number: int, *, failed: bool) -> None:
        """Called when a worker has ended.

        Args:
            number: of the worker.
            failed: the files were the reason.
        """
        if failed:
            self._failed[number] = self._tried[number]
        else:
            self._failed.pop(number, None)
