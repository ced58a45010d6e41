"""Client of the control sockets of workers and bridges: JSON-RPC 2.0 in lines.

Every field of a response is checked. A worker that does not answer raises NoAnswer,
so that the caller can report it and ask the next. Knows nothing of WebSocket.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from contextlib import contextmanager
from stat import S_ISSOCK

from chimirror.ctl import json_fields
from chimirror.host import runtime_dir
from chimirror.host.safe_directory import SafeDirectory, UnsafePath
from chimirror.protocol import jsonrpc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from chimirror.ctl.json_fields import Object

ANSWER_TIMEOUT = 2.0  # seconds until more of a response has to arrive
RESPONSE_TIMEOUT = 10.0  # seconds until all of it has to arrive
MAX_RECEIVED = 1 << 26  # bytes of all responses of a connection
MAX_WORKERS = 1024  # of a server
MAX_NOTIFICATION = 1 << 20  # bytes
READ_SIZE = 1 << 18
# The begin of a notification: a response has its id there.
NOTIFICATION = b'{"jsonrpc":"2.0","method":'
_CREDENTIALS = struct.Struct("3i")  # pid, uid and gid: SO_PEERCRED in unix(7)


class NoAnswer(Exception):
    """The worker exists, but gave no response, or an unreadable one."""


class Ended(NoAnswer):
    """There is no such process any more, or it closed the connection."""


class ConnectionClosed(Ended):
    """The worker closed the connection: it has ended, or refuses this user."""


class AccessDenied(NoAnswer):
    """This user may not connect to the worker."""


class RequestDenied(NoAnswer):
    """The response is a JSON-RPC error. The text gives its reason."""


class ControlClient:
    """A connection to one worker or one bridge.

    The path may lie in a directory of another user. A link is not followed, and the
    process behind the socket has to be of the user who owns it.

    Args:
        path: The path of the socket.
        about: What the operator knows the process by, such as `session 6f1c0e8d`.
            Every error begins with it.

    Raises:
        Ended: The worker has ended.
        AccessDenied: This user may not connect to it.
        NoAnswer: The path is no socket, that of another user's process, or cannot be
            connected for another reason.
    """

    def __init__(self, path: str, about: str) -> None:
        self._about = about
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(ANSWER_TIMEOUT)
        self._last_id = 0
        self._received = 0
        self._buffer = b""
        try:
            found = os.lstat(path)
            if not S_ISSOCK(found.st_mode):
                raise NoAnswer(f"{about}: {path} is not a socket; remove it")
            self._socket.connect(path)
            if self._peer_uid() != found.st_uid:
                text = f"{path} belongs to another user than its process; remove it"
                raise NoAnswer(f"{about}: {text}")
        except NoAnswer:
            self._socket.close()
            raise
        except OSError as error:
            self._socket.close()
            raise self._failure(error) from None

    def _failure(self, error: OSError) -> NoAnswer:
        if isinstance(error, FileNotFoundError | ConnectionRefusedError):
            return Ended(f"{self._about} has ended, or is just starting")
        if isinstance(error, PermissionError):
            return AccessDenied(f"{self._about}: permission denied; run it as root")
        if isinstance(error, BrokenPipeError | ConnectionResetError):
            return ConnectionClosed(f"{self._about} closed the connection")
        if isinstance(error, TimeoutError | BlockingIOError):
            text = f"did not answer in {ANSWER_TIMEOUT:g} s; it is busy or stopped"
            return NoAnswer(f"{self._about} {text}: try again")
        return NoAnswer(f"{self._about}: {error.strerror or error}")

    def _peer_uid(self) -> int:
        size = _CREDENTIALS.size
        found = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
        uid: int = _CREDENTIALS.unpack(found)[1]
        return uid

    def __enter__(self) -> ControlClient:
        return self

    def __exit__(self, *error: object) -> None:
        self._socket.close()

    def request(self, method: str, **params: object) -> Object:
        """Send one request and return its result, an object.

        Raises:
            NoAnswer: There is no readable response.
            ConnectionClosed: The worker closed the connection.
            RequestDenied: The response is an error.
        """
        line = self._exchange(method, jsonrpc.encode(params))
        with self.reading():
            answer = json_fields.decode(line)
            if "error" in answer:
                fault = json_fields.as_object(answer["error"])
                raise self._denied(json_fields.text(fault, "message"))
            self._check_id(answer.get("id"))
            return json_fields.as_object(answer.get("result"))

    def call(self, method: str, params: bytes) -> str:
        """Send one request, and return its result as the text that has arrived.

        Args:
            method: A method of the session or of its application.
            params: JSON text on one line.

        Raises:
            NoAnswer, ConnectionClosed, RequestDenied: As request() does.
        """
        line = self._exchange(method, params)
        try:
            answer = jsonrpc.split(line)
        except jsonrpc.RPCError as error:
            raise NoAnswer(f"{self._about}: {error}") from None
        if not isinstance(answer, dict):
            raise NoAnswer(f"{self._about}: the response is no object")
        denial = jsonrpc.read_error(answer)
        if denial is not None:
            raise self._denied(str(denial))
        self._check_id(answer.get("id", (None, ""))[0])
        if "result" not in answer:
            raise NoAnswer(f"{self._about}: the response has no result")
        return answer["result"][1]

    def _denied(self, reason: str) -> RequestDenied:
        return RequestDenied(f"{self._about}: {reason}")

    def _check_id(self, number: object) -> None:
        if number != self._last_id:
            raise NoAnswer(f"{self._about} answered another request")

    def _exchange(self, method: str, params: bytes) -> bytes:
        """Send one request and return the line of the response."""
        deadline = time.monotonic() + RESPONSE_TIMEOUT
        self._last_id += 1
        head = b'{"jsonrpc":"2.0","id":%d,"method":' % self._last_id
        name = jsonrpc.encode(method)
        try:
            self._socket.sendall(b'%b%b,"params":%b}\n' % (head, name, params))
            line = self._read_line(deadline)
            while line.startswith(NOTIFICATION):  # the application may send them
                line = self._read_line(deadline)
        except OSError as error:
            raise self._failure(error) from None
        if not line:
            raise ConnectionClosed(f"{self._about} closed the connection")
        return line

    def _read_line(self, deadline: float) -> bytes:
        """Read one line, or less at the end of the connection."""
        parts = [self._buffer]
        while b"\n" not in parts[-1]:
            part = self._socket.recv(READ_SIZE)
            self._received += len(part)
            parts.append(part)
            if not part:
                break
            if self._received > MAX_RECEIVED or time.monotonic() > deadline:
                text = f"over {RESPONSE_TIMEOUT:g} s, or {MAX_RECEIVED >> 20}M"
                raise NoAnswer(f"{self._about}: a response of {text}")
        line, newline, self._buffer = b"".join(parts).partition(b"\n")
        return line + newline

    def notifications(self) -> Iterator[tuple[str, Object]]:
        """Receive notifications until the connection closes, however late they come.

        Yields:
            The method and the params of each.

        Raises:
            NoAnswer: A line is unreadable or too long, or the connection fails.
        """
        self._socket.settimeout(None)
        data = self._buffer
        while True:
            *lines, data = data.split(b"\n")
            for line in lines:
                with self.reading():
                    found = json_fields.decode(line)
                    params = json_fields.as_object(found.get("params"))
                    method = json_fields.text(found, "method")
                yield method, params
            if len(data) > MAX_NOTIFICATION:
                text = f"a line of over {MAX_NOTIFICATION} bytes"
                raise NoAnswer(f"{self._about}: {text}")
            try:
                part = self._socket.recv(READ_SIZE)
            except ConnectionResetError:
                return
            except OSError as error:
                raise self._failure(error) from None
            if not part:
                return
            data += part

    def sessions(self) -> Iterator[Object]:
        """Request the status of each session of this worker, page by page.

        The spares of the worker are among them, with a state of their own.
        """
        more: dict[str, object] = {}
        while True:
            page = self.request("sessions", **more)
            with self.reading():
                sessions = json_fields.objects(page, "sessions")
                if "spares" in page:
                    yield from json_fields.objects(page, "spares")
                if not json_fields.flag(page, "more"):
                    break
            if not sessions:
                raise NoAnswer(f"{self._about}: an empty page of sessions")
            yield from sessions
            more = {"more": True}
        yield from sessions

    def end_sessions(self, ids: list[str], *, force: bool) -> list[str]:
        """End sessions. Returns the ids of those that the worker had."""
        method = "kill" if force else "close"
        answer = self.request(method, ids=ids)
        with self.reading():
            return json_fields.texts(answer, "ids")

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Read fields of a response. Malformed ones raise NoAnswer."""
        try:
            yield
        except json_fields.Malformed as error:
            text = f"unreadable response: {error}; is it another version?"
            raise NoAnswer(f"{self._about}: {text}") from None


def worker_name(supervisor: int, path: str) -> str:
    """Name a worker for errors by the path of its socket."""
    return f"worker {os.path.basename(path)} of server {supervisor}"


def find_servers(directory: str) -> Iterator[tuple[int, list[str]]]:
    """Find the servers that have control sockets in a directory.

    Names that another user leads elsewhere are left out.

    Yields:
        The pid of the supervisor, and the socket path of each of its workers.
    """
    for name in sorted(os.listdir(directory), key=lambda name: name.zfill(20)):
        if runtime_dir.is_server(name):
            try:
                with SafeDirectory(f"{directory}/{name}") as server:
                    numbers = server.names()
            except (FileNotFoundError, NotADirectoryError, UnsafePath):
                continue
            numbers.sort(key=lambda number: number.zfill(8))
            paths = [f"{directory}/{name}/{number}" for number in numbers]
            yield int(name), paths[:MAX_WORKERS]
