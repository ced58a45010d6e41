"""The path of a request selects the application, and nothing else reaches a file."""

from __future__ import annotations

import os
import posix
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chimirror import regular_file
from chimirror.apps import application_file, directory, file_fields, refuse_limits
from chimirror.apps.application_file import is_name
from chimirror.apps.directory import ApplicationDirectory, name_in_request
from chimirror.config import Config, parser
from chimirror.protocol import http
from chimirror.resources import responder
from websocket_peer import upgrade

TEXT = 'command = ["{}"]\n'


class AppDirectory:
    """A directory of application files, and its catalog."""

    def __init__(
        self,
        path: Path,
        *arguments: str,
        check: Callable[[Config], None] = lambda _: None,
    ) -> None:
        self.path = path
        config = parser.parse_server(["--apps", str(path), *arguments])
        self.catalog = ApplicationDirectory(
            str(path), config, {"PATH": "/bin", "SECRET": "x"}, check
        )

    def write(self, name: str, text: str = TEXT.format("cat")) -> Path:
        file = self.path / f"{name}.toml"
        file.write_text(text)
        return file

    def request(self, target: str) -> Any:
        """Return the result of a request: a session, a page or a refusal."""
        head = upgrade(target, "json", ())
        try:
            return self.catalog.find_for_request(head).request_cache.read(
                head, "192.0.2.7", 4711
            )
        except http.HTTPError as refusal:
            return refusal

    def command(self, name: str) -> str:
        return self.catalog.find_for_request(upgrade(f"/{name}", "json", ())).command


@pytest.fixture
def apps(tmp_path: Path) -> AppDirectory:
    return AppDirectory(tmp_path)


# Parts of application files.
PIECES = [
    *(b"[interface]\n", b"[interface.send]\n", b"schema = ", b"examples = [", b"]\n"),
    *(b"{ items = ", b"{ not = ", b"}", b'"$ref" = "#"', b"{ '$ref' = '#/not' }"),
    *(
        b"title = 'x'\n",
        b"title = '\xff'\n",
        b"enum = [1, 1e400]\n",
        b"a",
        b" = ",
        b"[[",
    ),
    *(b"99999999999999999999", b"{", b"'\xf0\x9f\x98\x80'", b"\n", b", ", b"true"),
    *(b"\0", b"idle-timeout = ", b"env-file = ['/dev/zero']\n", b"inf", b"[" * 200),
]

# From the head to the name

ENDS = st.sampled_from(["", "/", "?", "/x", "?x", "/..", "//", "/%00"])


@given(name=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", fullmatch=True), end=ENDS)
def test_a_name_is_found(name: str, end: str) -> None:
    head = upgrade(name.join(("/", end)), "json", ())
    assert name_in_request(head) == name
    assert name_in_request(head.replace(b"GET", b"HEAD", 1)) == name


@pytest.mark.parametrize(
    ("start", "name"),
    [
        ("GET http://h:1/game/x", "game"),
        ("OPTIONS HTTPS://[::1]/game?/x", "game"),
        ("GET http://h?/game", ""),
        ("GET http://me@h/game", ""),
        ("GET http:///game", ""),
        ("GET x:/game", ""),
        ("OPTIONS *", ""),
        ("CONNECT game:80", ""),
        ("GET //game", ""),
    ],
)
def test_the_name_is_that_of_the_parsed_path(start: str, name: str) -> None:
    """No later part of the head is taken for the path."""
    assert name_in_request(f"{start} HTTP/1.1\r\nA: /game\r\n\r\n".encode()) == name


@settings(max_examples=300)
@given(st.binary(max_size=100) | st.text(max_size=70).map(str.encode))
def test_a_found_name_is_part_of_the_path(target: bytes) -> None:
    found = name_in_request(b"GET /" + target + b" HTTP/1.1\r\n\r\n")
    if is_name(found):
        rest = target[len(found) :]
        assert target.startswith(found.encode())
        assert not rest or rest[:1] in (b"/", b"?", b" ")


ODD = ".. . / %2e%2e %2f %00 \\ apps one .toml .compiled \xe4 ~ * ; : @ & %".split()
ESCAPES = st.sampled_from([*ODD, "x" * 70])


@settings(max_examples=300)
@given(parts=st.lists(ESCAPES, max_size=6))
def test_no_path_leads_out_of_the_directory(
    parts: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Only files of a valid NAME, in the directory, are opened or examined."""
    path = tmp_path_factory.mktemp("apps")
    apps = AppDirectory(path)
    touched: list[str] = []
    real = {name: getattr(posix, name) for name in ("open", "lstat")}

    def spy(name: str) -> Any:
        def call(at: object, *arguments: object) -> object:
            touched.append(os.fsdecode(at))  # type: ignore[arg-type]
            return real[name](at, *arguments)

        return call

    target = f"/{''.join(parts)}".encode("latin-1")
    head = upgrade("/", "json", ()).replace(b"GET / ", b"GET " + target + b" ", 1)
    with pytest.MonkeyPatch.context() as patch:
        for name in real:
            patch.setattr(posix, name, spy(name))
        apps.catalog.find_for_request(head)
    for file in touched:
        folder, _, rest = file.rpartition("/")
        if folder != "/proc/self/fd":
            assert folder == str(path)
            assert is_name(rest.removesuffix(".toml"))


NONE = "there is no application of this name here"
SEE = "see /.well-known/chimirror"


def test_a_wrong_name_is_answered_with_those_that_exist(apps: AppDirectory) -> None:
    def answer(target: str) -> str:
        return str(apps.request(target).text)

    assert answer("/ches") == f"{NONE}; {SEE}"
    apps.write("chess")
    apps.write("chest", "command =")  # cannot be used, so no list names it
    assert answer("/chest") != answer("/ches")
    assert answer("/Ches?x") == f"{NONE}; the nearest is /chess; there is /chess; {SEE}"
    assert answer("/zzz") == answer("//chess") == f"{NONE}; there is /chess; {SEE}"
    for number in range(200):
        apps.write(f"app{number:03}-" + "x" * 50)
    names = ", ".join(f"/app{number:03}-{'x' * 50}" for number in range(8))
    others = f"there are {names} and others"
    assert answer("/hess") == f"{NONE}; {others}; {SEE}"
    assert answer("/CHESS/x") == f"{NONE}; the nearest is /chess; {others}; {SEE}"
    assert answer("/app150") == (
        f"{NONE}; the nearest is /app150-{'x' * 50}; {others}; {SEE}"
    )
    assert len(answer("/" + "y" * 9000)) < 700


def test_an_incomplete_head_touches_no_file(
    apps: AppDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    apps.write("one")
    monkeypatch.setattr(application_file, "load", pytest.fail)
    head = upgrade("/one", "json", ())
    for end in range(len(head)):
        app = apps.catalog.find_for_request(head[:end])
        assert app is apps.catalog.default
        if end > 20:
            assert app.request_cache.read(head[:end], "", 0) is None


# Requests


def test_an_application_has_its_part_of_the_path(apps: AppDirectory) -> None:
    apps.write("one")
    request = apps.request("/one/a%2fb/?c")
    assert request.variables["SCRIPT_NAME"] == "/one"
    assert request.variables["PATH_INFO"] == "/a/b/"
    assert request.variables["QUERY_STRING"] == "c"
    assert request.variables["REQUEST_URI"] == "/one/a%2fb/?c"
    again = apps.request("/one/a%2fb/?c")
    assert again.variables == request.variables


@pytest.mark.parametrize("target", ["/two", "/", "/two/one", "/ONE", "//one", "/..one"])
def test_unknown_applications(target: str, apps: AppDirectory) -> None:
    apps.write("one")
    refusal = apps.request(target)
    assert (refusal.status, refusal.cause) == (404, "no-application")


@pytest.mark.parametrize(
    ("target", "name"),
    [
        ("/a/b", ""),
        ("/a/b/", ""),
        ("/a/b?game", ""),
        ("/a/b/game", "game"),
        ("/a/b/game/x?y", "game"),
        ("/a/b/a/b", "a"),
        ("http://h:1/a/b/game?x", "game"),
        ("/game", "game"),
        ("/a/bc/game", "a"),
        ("/a", "a"),
        ("/a/b/" + "x" * 64, "x" * 64),
        ("/a/b/" + "x" * 65, ""),
        ("/" + "x" * 64, "x" * 64),
        ("/" + "x" * 65, ""),
    ],
)
def test_a_name_is_found_below_the_path_of_a_proxy(target: str, name: str) -> None:
    assert name_in_request(f"GET {target} HTTP/1.1\r\n\r\n".encode(), "/a/b") == name


def test_an_unknown_application_below_the_path_of_a_proxy(tmp_path: Path) -> None:
    apps = AppDirectory(tmp_path, "--base-path=/term")
    apps.write("chess")
    list_at = "see /term/.well-known/chimirror"
    for target in ("/term/ches", "/ches"):
        assert apps.request(target).text == (
            f"{NONE}; the nearest is /term/chess; there is /term/chess; {list_at}"
        )
    unavailable = apps.catalog.default.unavailable
    assert unavailable
    assert unavailable["text"] == f"{NONE}; {list_at}"
    for target in ("/term/chess", "/chess"):
        assert apps.request(target).variables["SCRIPT_NAME"] == "/term/chess"


def plain_request(apps: AppDirectory, target: str, method: bytes = b"GET") -> Any:
    head = method + b" " + target.encode() + b" HTTP/1.1\r\nHost: localhost:1\r\n\r\n"
    try:
        return apps.catalog.find_for_request(head).request_cache.read(
            head, "192.0.2.7", 4711
        )
    except http.HTTPError as refusal:
        return refusal


def test_plain_requests(apps: AppDirectory) -> None:
    apps.write("one", TEXT.format("cat") + "framing = 'lines'\n")
    for target in ("/one", "/one/", "/one?x"):
        request = plain_request(apps, target)
        assert request.policy.root == "/one"
        assert list(request.policy.subprotocols) == [b"chimirror.lines.v1"]
    assert plain_request(apps, "/").policy is apps.catalog.default.policy
    assert plain_request(apps, "/two").status == 404
    assert plain_request(apps, "/one/x").status == 426


def test_a_refused_host_does_not_learn_names(apps: AppDirectory) -> None:
    """A host name rebound to this server is refused before the lookup."""
    apps.write("one")
    for target in ("/one", "/two"):
        head = upgrade(target, "json", ()).replace(b"localhost", b"evil.example", 1)
        assert b"evil.example" in head
        with pytest.raises(http.HTTPError) as caught:
            apps.catalog.find_for_request(head).request_cache.read(
                head, "192.0.2.7", 4711
            )
        assert caught.value.status == 403


def test_origins_are_the_application_s(apps: AppDirectory) -> None:
    apps.write("one", TEXT.format("cat") + "origin = 'https://a.example'\n")
    apps.write("two")
    for name, status in (("one", 101), ("two", 403)):
        head = upgrade(f"/{name}", "json", ("Origin: https://a.example",))
        app = apps.catalog.find_for_request(head)
        if status == 101:
            assert app.request_cache.read(head, "192.0.2.7", 4711)
        else:
            with pytest.raises(http.HTTPError, match="403"):
                app.request_cache.read(head, "192.0.2.7", 4711)


# Files that change


def test_a_file_is_read_once(
    apps: AppDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = apps.write("one")
    monkeypatch.setattr(directory, "time_ns", lambda: 1 << 62)  # long after the change
    first = apps.catalog.find_for_request(upgrade("/one", "json", ()))
    monkeypatch.setattr(application_file, "load", pytest.fail)
    assert apps.catalog.find_for_request(upgrade("/one", "json", ())) is first
    assert file.exists()


def test_a_file_written_just_now_is_read_again(apps: AppDirectory) -> None:
    for word in ("one", "two", "six", "ten"):
        apps.write("it", TEXT.format(word))
        assert apps.command("it") == word


def test_a_bad_file_is_corrected(apps: AppDirectory) -> None:
    apps.write("one", "command = 1\n")
    apps.write("two")
    refusal = apps.request("/one")
    assert (refusal.status, refusal.cause) == (500, "application-file")
    assert refusal.detail.startswith("one.toml:1: not a list of the program")
    assert "one" not in refusal.text
    assert apps.request("/one").status == 500
    assert apps.command("two") == "cat"
    apps.write("one")
    assert apps.command("one") == "cat"
    os.unlink(apps.path / "one.toml")
    assert apps.request("/one").status == 404


def test_a_bridge_refuses_limits_of_sessions(tmp_path: Path) -> None:
    apps = AppDirectory(tmp_path, check=refuse_limits)
    apps.write("plain")
    apps.write("limited", TEXT.format("cat") + 'session-memory-max = "64M"\n')
    assert apps.command("plain") == "cat"
    fault = apps.catalog.get("limited").unavailable
    assert fault is not None
    reason = "limited.toml:2: --session-memory-max: chimirror-server enforces it, a "
    assert fault["detail"].startswith(reason)


def test_a_file_in_conflict_with_the_command_line(tmp_path: Path) -> None:
    apps = AppDirectory(tmp_path, "--framing=json", "--stderr=client")
    apps.write("one", TEXT.format("cat") + "\nframing = 'lines'\n")
    text = "one.toml:3: --stderr: lines has no place for standard error; write log or"
    assert apps.request("/one").detail.startswith(text)
    apps.write("two", TEXT.format("cat") + "direction = 'send'\nstderr = 'client'\n")
    assert apps.request("/two").detail.startswith(
        "two.toml:3: --stderr: a client that on"
    )


def test_a_file_of_variables_is_removed(apps: AppDirectory) -> None:
    variables = apps.path / "variables"
    variables.write_text("A=1\n")
    apps.write("one", f"env-file = '{variables}'\n" + TEXT.format("cat"))
    assert (
        apps.catalog.find_for_request(upgrade("/one", "json", ())).environment["A"]
        == "1"
    )
    variables.unlink()
    detail = f"one.toml:1: {variables}: No such file or directory"
    assert apps.request("/one").detail == detail


def test_any_failure_of_a_library_hurts_one_application(
    apps: AppDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    apps.write("one")
    apps.write("two")
    original = file_fields.parse
    error: Exception

    def parse(text: bytes) -> Any:
        if b"one" in text:
            raise error
        return original(text)

    monkeypatch.setattr(file_fields, "parse", parse)
    apps.write("one", TEXT.format("one"))
    for error in (MemoryError(), RecursionError(), OverflowError(), KeyError("x")):
        refusal = apps.request("/one")
        assert (refusal.status, refusal.cause) == (500, "application-file")
        kind = type(error).__name__
        assert (
            refusal.detail == f"one.toml: cannot be read: {kind}; write it more simply"
        )
        assert apps.command("two") == "cat"
        found = responder.build_catalog(apps.catalog)["applications"]
        assert [entry["name"] for entry in found] == ["two"]


@settings(max_examples=300)
@given(
    text=st.binary(max_size=60)
    | st.lists(st.sampled_from(PIECES), max_size=12).map(b"".join)
)
def test_any_file_is_an_application_or_an_error(
    text: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Every text that is accepted can be described to clients."""
    apps = AppDirectory(tmp_path_factory.mktemp("apps"))
    (apps.path / "one.toml").write_bytes(TEXT.format("cat").encode() + text)
    apps.write("two")
    app = apps.catalog.get("one")
    if app.unavailable is None:
        orjson.dumps(responder.build_manifest(app))
    else:
        assert app.unavailable["detail"].startswith("one.toml")
        assert "cannot be read" not in app.unavailable["detail"]
    found = orjson.dumps(responder.build_catalog(apps.catalog))
    assert found.count(b'"two"') == 1


def test_a_file_that_takes_long_is_read_again_later(
    apps: AppDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its writer gets 1 % of the time. Other files are not affected."""
    now = cost = 0

    def load(path: str, name: str) -> Any:
        nonlocal cost
        cost += reads.pop(name, 0)
        return original(path, name)

    original, reads = application_file.load, {"one": 11_000_000, "two": 9_000_000}
    monkeypatch.setattr(application_file, "load", load)
    monkeypatch.setattr(directory, "thread_time_ns", lambda: cost)
    monkeypatch.setattr(directory, "monotonic_ns", lambda: now)
    for name in reads.copy():
        apps.write(name)
        assert apps.command(name) == "cat"
        assert apps.command(name) == "cat"  # it has not changed
        apps.write(name, TEXT.format("dog"))
    assert apps.command("two") == "dog"
    refusal = apps.request("/one")
    assert (refusal.status, refusal.cause) == (503, "application-file")
    assert refusal.headers == (("Retry-After", "5"),)
    now = 1_100_000_000
    assert apps.command("one") == "dog"


@pytest.mark.parametrize("cause", ["variables", "descriptors", "memory"])
def test_an_error_outside_of_the_file_is_retried(
    cause: str, apps: AppDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At most once a second: clients may request the application all the time."""
    now, reads = 0, []
    original = application_file.load

    def load(path: str, name: str) -> Any:
        reads.append(name)
        if cause == "memory" and not now:
            raise MemoryError
        return original(path, name)

    def fail(path: str, limit: int, *, follow: bool) -> Any:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(application_file, "load", load)
    monkeypatch.setattr(directory, "time_ns", lambda: 1 << 62)  # long after the change
    monkeypatch.setattr(directory, "monotonic_ns", lambda: now)
    variables = apps.path / "variables"
    apps.write("one", f"env-file = '{variables}'\n" + TEXT.format("cat"))
    if cause != "variables":
        variables.write_text("A=1\n")
    with pytest.MonkeyPatch.context() as patch:
        if cause == "descriptors":
            patch.setattr(regular_file, "read", fail)
        for _ in range(3):
            assert apps.request("/one").status == 500
    variables.write_text("A=1\n")
    assert apps.request("/one").status == 500
    assert reads == ["one"]
    now = 1_000_000_000
    assert apps.command("one") == "cat"
    assert reads == ["one", "one"]
    now = 1 << 40
    assert apps.command("one") == "cat"
    assert reads == ["one", "one"]


def test_an_error_in_the_file_lasts(
    apps: AppDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory, "time_ns", lambda: 1 << 62)
    apps.write("one", "command = 1\n")
    assert apps.request("/one").status == 500
    monkeypatch.setattr(directory, "monotonic_ns", lambda: 1 << 62)
    monkeypatch.setattr(application_file, "load", pytest.fail)
    assert apps.request("/one").status == 500


def test_program_of_an_application(apps: AppDirectory) -> None:
    """The spawner needs the command, the directory and the features."""
    apps.write("one", 'command = ["a", "b"]\ndirectory = "/usr"\npty = true\n')
    program = apps.catalog.get("one").program
    assert (program.argv, program.directory) == (("a", "b"), "/usr")
    assert (program.pty, program.from_file) == (True, True)


def test_interface_of_an_application(apps: AppDirectory) -> None:
    apps.write("one", TEXT.format("cat") + "[interface]\ntitle = 'One'\n")
    apps.write("two")
    told = apps.catalog.find_for_request(upgrade("/one", "json", ())).interface
    assert (told.name, told.title, told.send_schema) == ("one", "One", None)
    told = apps.catalog.find_for_request(upgrade("/two", "json", ())).interface
    assert (told.name, told.title) == ("two", "")
