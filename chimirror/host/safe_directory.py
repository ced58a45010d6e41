"""Directories that a program changes, also as root and in places of other users.

A path is resolved step by step. A directory or link that another user owns may lead
only to what the same user owns: who owns a path does not choose where root writes.
(systemd has the same rule: CHASE_SAFE in chase.c, tmpfiles.d(5).) Afterwards all work
is relative to the open directory, by names that follow no link: openat(2). A new file
has a random name until it is complete.
"""

from __future__ import annotations

from errno import EEXIST, ELOOP, EPERM

from chimirror.builtin_modules import deque, os, stat

MAX_LINKS = 40  # as the kernel follows: path_resolution(7)
ATTEMPTS = 100  # at a random name
_PATH = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class UnsafePath(OSError):
    """A path that another user could lead elsewhere."""

    def __init__(self, path: str, owner: int) -> None:
        text = f"user {owner} owns a part of this path and could lead it elsewhere"
        cure = "write the path without links, or give all parts one owner"
        super().__init__(EPERM, f"{text}; {cure}", path)


class SafeDirectory:
    """An open directory.

    Args:
        path: The path, in an error too.
        create: Create the directory and its parents if they are missing.

    Raises:
        UnsafePath: Another user could lead the path elsewhere.
        OSError: There is no such directory.
    """

    __slots__ = ("fd", "path")

    def __init__(self, path: str, *, create: bool = False) -> None:
        self.path = path
        self.fd = -1
        self.fd = _Walk(path, create).open()

    def __enter__(self) -> SafeDirectory:
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self.fd)

    def names(self) -> list[str]:
        """List the names in the directory."""
        return os.listdir(self.fd)

    def add(self, name: str, content: bytes) -> None:
        """Create a file for all readers, at once and complete.

        Raises:
            FileExistsError: There is such a name.
            OSError: The file cannot be written.
        """
        temporary = self._write(content)
        try:
            os.link(
                temporary,
                name,
                src_dir_fd=self.fd,
                dst_dir_fd=self.fd,
                follow_symlinks=False,
            )
        finally:
            os.unlink(temporary, dir_fd=self.fd)

    def replace(
        self, name: str, content: bytes, mode: int = 0o644, *, durable: bool = False
    ) -> None:
        """Create a file, or replace the name atomically.

        Args:
            name: The name in the directory.
            content: All of the file.
            mode: Its permissions. By default it is for all readers.
            durable: Write it to the disk first: after a loss of power there is the
                former or the new file, and no empty one.
        """
        temporary = self._write(content, mode, durable)
        try:
            os.rename(temporary, name, src_dir_fd=self.fd, dst_dir_fd=self.fd)
        except OSError:
            os.unlink(temporary, dir_fd=self.fd)
            raise

    def _write(self, content: bytes, mode: int = 0o644, durable: bool = False) -> str:
        """Write a new file. Returns its random name."""
        temporary, fd = self._create()
        try:
            try:
                rest = memoryview(content)
                while rest:
                    rest = rest[os.write(fd, rest) :]
                os.fchmod(fd, mode)
                if durable:
                    os.fsync(fd)
            finally:
                os.close(fd)
        except OSError:
            os.unlink(temporary, dir_fd=self.fd)
            raise
        return temporary

    def _create(self) -> tuple[str, int]:
        for _ in range(ATTEMPTS):
            name = f".new-{os.urandom(8).hex()}"
            try:
                return name, os.open(name, _NEW, 0o600, dir_fd=self.fd)
            except FileExistsError:
                pass
            except OSError as error:
                raise OSError(error.errno, error.strerror, self.path) from None
        raise FileExistsError(EEXIST, "no free name for a new file", self.path)

    def remove(self, name: str) -> bool:
        """Remove a name, and never what a link of this name leads to.

        Returns:
            False if there is none.
        """
        try:
            os.unlink(name, dir_fd=self.fd)
        except FileNotFoundError:
            return False
        return True


class _Walk:
    """The way along a path, by descriptors."""

    __slots__ = ("_create", "_fd", "_links", "_owner", "_path", "_rest", "_trusted")

    def __init__(self, path: str, create: bool) -> None:
        self._path = path
        self._create = create
        self._rest = deque(path.split("/"))
        self._links = 0
        # In a user namespace, "/" belongs to a user that stands for root outside.
        self._trusted = (0, os.geteuid(), os.stat("/").st_uid)
        self._fd = os.open("/" if path.startswith("/") else ".", _PATH)
        self._owner = os.fstat(self._fd).st_uid  # of the last directory or link

    def open(self) -> int:
        """Return a descriptor of the directory at the end."""
        try:
            while self._rest:
                name = self._rest.popleft()
                if name not in ("", "."):
                    self._step(name)
            return os.open(".", _DIRECTORY, dir_fd=self._fd)
        except UnsafePath:
            raise
        except OSError as error:
            raise OSError(error.errno, error.strerror, self._path) from None
        finally:
            os.close(self._fd)

    def _step(self, name: str) -> None:
        fd = self._open(name)
        try:
            found = os.fstat(fd)
            self._lead_to(found.st_uid)
            if stat.S_ISLNK(found.st_mode):
                self._follow(os.readlink("", dir_fd=fd))
            else:
                self._fd, fd = fd, self._fd
        finally:
            os.close(fd)

    def _lead_to(self, owner: int) -> None:
        """Check the step from the last directory or link to the next."""
        if self._owner != owner and self._owner not in self._trusted:
            raise UnsafePath(self._path, self._owner)
        self._owner = owner

    def _follow(self, target: str) -> None:
        self._links += 1
        if self._links > MAX_LINKS:
            raise OSError(ELOOP, "too many symbolic links")
        self._rest.extendleft(reversed(target.split("/")))
        if target.startswith("/"):
            root = os.open("/", _PATH)
            self._fd, root = root, self._fd
            os.close(root)
            self._lead_to(os.fstat(self._fd).st_uid)

    def _open(self, name: str) -> int:
        try:
            return os.open(name, _PATH, dir_fd=self._fd)
        except FileNotFoundError:
            # In a directory of another user, that user could replace the new one.
            if not self._create or self._owner not in self._trusted:
                raise
        try:
            os.mkdir(name, 0o755, dir_fd=self._fd)
        except FileExistsError:
            pass
        return os.open(name, _PATH, dir_fd=self._fd)
