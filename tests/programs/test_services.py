"""A server and its target: values, ends, faults. With both APIs, in real processes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from chimirror.services import (
    Exit,
    ExitFailure,
    InvalidMessage,
    PeerClosed,
)
from service_apis import Api, python, shell
from service_fixtures import api, runtime, watch

__all__ = ["api", "runtime", "watch"]


SUMS = """
from chimirror.services import connect
with connect("sums", send=list[int], receive=int) as sums:
    for values in [], [1, 2], list(range(100)):
        sums.send(values)
        assert sums.receive() == sum(values)
"""
SUMS_ASYNCIO = """
import asyncio
from chimirror.services.aio import connect
async def main():
    async with connect("sums", send=list[int], receive=int) as sums:
        for values in [], [1, 2], list(range(100)):
            await sums.send(values)
            assert await sums.receive() == sum(values)
asyncio.run(main())
"""
SUMS_SHELL = """
exec 3>"$D/sums.in" 4<"$D/sums.out"
for values in '[] 0' '[1,2] 3' '[1,1,1] 3'; do
    echo "${values% *}" >&3
    read -r answer <&4
    [ "$answer" = "${values#* }" ] || exit 1
done
"""
SUMS_SHELL_OTHER_ORDER = SUMS_SHELL.replace(
    '3>"$D/sums.in" 4<"$D/sums.out"', '4<"$D/sums.out" 3>"$D/sums.in"'
)


@pytest.mark.parametrize(
    "command",
    [
        python(SUMS),
        python(SUMS_ASYNCIO),
        shell(SUMS_SHELL),
        shell(SUMS_SHELL_OTHER_ORDER),
    ],
    ids=["python", "asyncio", "shell", "shell, other order"],
)
@pytest.mark.usefixtures("watch")
def test_a_handler_answers(api: Api, command: list[str]) -> None:
    server = api.server(command)
    sums = server.pipe("sums", receive=list[int], send=int)
    seen: list[list[int]] = []

    def add(values: list[int]) -> int:
        seen.append(values)
        return sum(values)

    assert sums.handler(add) is add
    assert server.run() == Exit(0, None)
    assert len(seen) == 3


@pytest.mark.parametrize(
    ("script", "code", "name"),
    [("exit 3", 3, None), ("kill -s KILL $$", None, "KILL"), ("exit", 0, None)],
)
def test_the_exit(api: Api, script: str, code: int | None, name: str | None) -> None:
    found = api.server(shell(script)).run()
    assert (found.code, found.signal) == (code, name)
    if code == 0:
        found.check()
        return
    with pytest.raises(ExitFailure, match=f"the target ended with {found}") as caught:
        found.check()
    assert caught.value.exit == found


def test_environment_and_directory(api: Api, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with out.open("w") as stdout:
        server = api.server(
            shell('echo "$A $HOME $PWD"'),
            environment={"A": "b", "PATH": os.environ["PATH"]},
            directory=tmp_path,
            stdout=stdout,
        )
        assert server.run() == Exit(0, None)
    assert out.read_text() == f"b  {tmp_path}\n"


def test_what_was_written_is_handled_after_the_exit(api: Api) -> None:
    server = api.server(shell('printf "1\\n%.0s" $(seq 1000) >"$D/log.in"; exit 4'))
    seen: list[int] = []
    server.pipe("log", receive=int).handler(seen.append)
    assert server.run() == Exit(4, None)
    assert seen == [1] * 1000


def test_the_target_closes_its_input(api: Api) -> None:
    server = api.server(shell(f"exec 0<&-\n{SUMS_SHELL}"))
    server.pipe("sums", receive=list[int], send=int).handler(sum)
    server.run().check()


def test_iteration(api: Api) -> None:
    server = api.server(python(SUMS))
    sums = server.pipe("sums", receive=list[int], send=int)
    with server:
        server.start()
        for values in sums:
            sums.send(sum(values))
        assert server.wait() == Exit(0, None)
        with pytest.raises(PeerClosed):
            sums.receive()
        with pytest.raises(PeerClosed):
            sums.send(1)


def test_unread_messages_stay_readable(api: Api) -> None:
    server = api.server(shell('exec 3>"$D/log.in"; echo 1 >&3; echo 2 >&3'))
    log = server.pipe("log", receive=int)
    other = server.pipe("other", receive=int)
    with server:
        server.start()
        assert server.wait() == Exit(0, None)
        assert list(log) == [1, 2]
        assert list(other) == []


INVALID = rb"""
exec 3>"$D/log.in"
printf '"x"\n1\nx\n2\n\377\n3\n@bytes 5\n4\n\n5\n' >&3
head -c 300000 /dev/zero | tr '\0' '[' >&3
printf '\n6\n7' >&3
"""


def test_invalid_messages(api: Api) -> None:
    server = api.server(shell(INVALID.decode()))
    log = server.pipe("log", receive=int, max_message=1000)
    seen: list[int] = []
    faults: list[InvalidMessage] = []
    log.handler(seen.append)
    log.on_invalid(faults.append)
    server.run().check()
    assert seen == [1, 2, 3, 4, 5, 6]
    assert [fault.reason.partition(":")[0] for fault in faults] == [
        "it has the wrong type",
        "it is not JSON",
        "it is not UTF-8",
        "there is no descriptor for this reference",
        "it is not JSON",
        "300000 bytes are more than 1000",
        "it ends without a line break",
    ]
    assert [fault.evidence[:4] for fault in faults] == [
        '"x"', "x", "\\xff", "@byt", "", "[[[[", "7",
    ]  # fmt: skip


def test_invalid_messages_are_printed(
    api: Api, capsys: pytest.CaptureFixture[str]
) -> None:
    server = api.server(shell("printf '\\033[1m\\n1\\n' >\"$D/log.in\""))
    seen: list[int] = []
    server.pipe("log", receive=int).handler(seen.append)
    server.run().check()
    assert seen == [1]
    error = capsys.readouterr().err
    assert error.startswith("invalid message of service log: it is not JSON")
    assert error.endswith(": \\x1b[1m\n")


def test_invalid_messages_of_an_iteration(api: Api) -> None:
    server = api.server(shell('printf \'1\\n"x"\\n2\\n\' >"$D/log.in"'))
    log = server.pipe("log", receive=int)
    with server:
        server.start()
        assert log.receive() == 1
        with pytest.raises(InvalidMessage, match='"x"'):
            next(log)
        assert list(log) == [2]


@pytest.mark.usefixtures("watch")
def test_64_pipes(api: Api) -> None:
    count = 64
    script = f"""
from chimirror.services import connect
pipes = [connect(f"s{{n}}", send=int, receive=int) for n in range({count})]
for round in range(3):
    for number, pipe in enumerate(pipes):
        pipe.send(number)
    for number, pipe in enumerate(pipes):
        assert pipe.receive() == number * number
"""
    server = api.server(python(script))
    for number in range(count):
        pipe = server.pipe(f"s{number}", receive=int, send=int)
        pipe.handler(lambda value, number=number: value * number)
    server.run().check()


class Broken(Exception):
    pass


@pytest.mark.parametrize("where", ["handler", "on_invalid"])
def test_an_exception_of_a_handler(api: Api, where: str) -> None:
    server = api.server(
        shell('echo 1 >"$D/log.in"; echo $$ >"$D/pid.in"; exec sleep 600')
    )
    log = server.pipe("log", receive=int if where == "handler" else str)
    pids: list[int] = []

    def fail(value: object) -> None:
        raise Broken(value)

    server.pipe("pid", receive=int).handler(pids.append)
    getattr(log, where)(fail)
    log.handler(fail)
    with pytest.raises(Broken):
        server.run()
    assert not os.path.exists(f"/proc/{server.pid}")


def test_a_handler_without_a_type_to_send(api: Api) -> None:
    server = api.server(shell('echo 1 >"$D/log.in"; exec sleep 600'))
    server.pipe("log", receive=int).handler(lambda value: value)
    with pytest.raises(TypeError, match="service log returned a value"):
        server.run()


def test_pipes_of_subprocess(api: Api) -> None:
    with pytest.raises(ValueError, match="give an open file"):
        api.server(["true"], stdout=subprocess.PIPE)


def test_a_target_that_cannot_be_started(api: Api, tmp_path: Path) -> None:
    server = api.server([tmp_path / "missing"])
    server.pipe("log", receive=int, send=int).handler(abs)
    with pytest.raises(FileNotFoundError, match="missing"):
        server.run()


def test_services_are_named_before_the_start(api: Api) -> None:
    server = api.server(["true"])
    pipe = server.pipe("a", receive=int)
    for named in (
        {"name": "a", "send": int},
        {"name": "b"},
        {"name": "/", "send": int},
    ):
        with pytest.raises(ValueError, match="service"):
            server.pipe(**named)
    with pytest.raises(ValueError, match="not been started"):
        pipe.receive()
    with pytest.raises(ValueError, match="given no type to send"):
        pipe.send(1)
    with pytest.raises(ValueError, match="not been started"):
        server.wait()
    server.kill()
    assert server.run() == Exit(0, None)
    with pytest.raises(ValueError, match="started before"):
        server.run()
    with pytest.raises(ValueError, match="has been started"):
        server.pipe("c", receive=int)
