from mmap import mmap

def reserve() -> int: ...
def release() -> None: ...
def spawn(
    paths: tuple[str, ...],
    argv: tuple[str, ...],
    environment: dict[str, str],
    fds: tuple[int, int, int, int],
    directory: str | None,
    terminal: bool,
    limit: tuple[int, int] | None,
    cgroup: int,
    binds: bool,
    record: mmap | bytearray,
    offset: int,
    /,
) -> tuple[int, int, int, int]: ...
