"""From the head of a request to an application: by its name, and by nothing else."""

from __future__ import annotations

import os
import posix
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chimirror import appfile, directory, options
from chimirror.appfile import is_name
from chimirror.directory import Directory, named
from chimirror.wire import http
from peers import upgrade

TEXT = 'command = ["{}"]\n'


class Place:
    """A directory of application files."""

    def __init__(self, path: Path, *arguments: str) -> None:
        self.path = path
        config = options.server(["--apps", str(path), *arguments])
        self.served = Directory(str(path), config, {"PATH": "/bin", "SECRET": "x"})

    def write(self, name: str, text: str = TEXT.format("cat")) -> Path:
        file = self.path / f"{name}.toml"
        file.write_text(text)
        return file

    def ask(self, target: str) -> Any:
        """The opening, the page or the refusal that a request gets."""
        head = upgrade(target, "json", ())
        try:
            return self.served.find(head).openings.read(head, "192.0.2.7", 4711)
        except http.Refusal as refusal:
            return refusal

    def command(self, name: str) -> str:
        return self.served.find(upgrade(f"/{name}", "json", ())).command


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


# From the head to the name

ENDS = st.sampled_from(["", "/", "?", "/x", "?x", "/..", "//", "/%00"])


@given(name=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", fullmatch=True), end=ENDS)
def test_a_name_is_found(name: str, end: str) -> None:
    head = upgrade(name.join(("/", end)), "json", ())
    assert named(head) == name
    assert named(head.replace(b"GET", b"HEAD", 1)) == name


@settings(max_examples=300)
@given(st.binary(max_size=100) | st.text(max_size=70).map(str.encode))
def test_whatever_is_found_is_a_name_of_its_path_or_none(target: bytes) -> None:
    found = named(b"GET /" + target + b" HTTP/1.1\r\n\r\n")
    if is_name(found):
        rest = target[len(found) :]
        assert target.startswith(found.encode())
        assert not rest or rest[:1] in (b"/", b"?", b" ")


ODD = ".. . / %2e%2e %2f %00 \\ apps one .toml .compiled \xe4 ~ * ; : @ & %".split()
ESCAPES = st.sampled_from([*ODD, "x" * 70])


@settings(max_examples=300, deadline=None)
@given(parts=st.lists(ESCAPES, max_size=6))
def test_no_path_leads_out_of_the_directory(
    parts: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Every file that is opened or looked at is one of a name, and in there."""
    path = tmp_path_factory.mktemp("apps")
    place = Place(path)
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
        place.served.find(head)
    for file in touched:
        folder, _, rest = file.rpartition("/")
        assert folder in (str(path), f"{path}/.compiled")
        assert is_name(rest.removesuffix(".toml"))


def test_half_a_head_touches_no_file(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.write("one")
    monkeypatch.setattr(appfile, "read", pytest.fail)
    head = upgrade("/one", "json", ())
    for end in range(len(head)):
        app = place.served.find(head[:end])
        assert app is place.served.unnamed
        if end > 20:
            assert app.openings.read(head[:end], "", 0) is None


# Requests


def test_an_application_has_its_part_of_the_path(place: Place) -> None:
    place.write("one")
    opening = place.ask("/one/a%2fb/?c")
    assert opening.variables["SCRIPT_NAME"] == "/one"
    assert opening.variables["PATH_INFO"] == "/a/b/"
    assert opening.variables["QUERY_STRING"] == "c"
    assert opening.variables["REQUEST_URI"] == "/one/a%2fb/?c"
    again = place.ask("/one/a%2fb/?c")
    assert again.variables == opening.variables


@pytest.mark.parametrize("target", ["/two", "/", "/two/one", "/ONE", "//one", "/..one"])
def test_there_is_no_such_application(target: str, place: Place) -> None:
    place.write("one")
    refusal = place.ask(target)
    assert (refusal.status, refusal.cause) == (404, "no-application")


def looked_at(place: Place, target: str, method: bytes = b"GET") -> Any:
    head = method + b" " + target.encode() + b" HTTP/1.1\r\nHost: localhost:1\r\n\r\n"
    try:
        return place.served.find(head).openings.read(head, "192.0.2.7", 4711)
    except http.Refusal as refusal:
        return refusal


def test_somebody_looks(place: Place) -> None:
    place.write("one", TEXT.format("cat") + "framing = 'lines'\n")
    for target in ("/one", "/one/", "/one?x"):
        visit = looked_at(place, target)
        assert visit.policy.root == "/one"
        assert list(visit.policy.subprotocols) == [b"chimirror.lines.v1"]
    assert looked_at(place, "/").policy is place.served.unnamed.policy
    assert looked_at(place, "/two").status == 404
    assert looked_at(place, "/one/x").status == 426


def test_who_may_not_ask_does_not_learn_what_there_is(place: Place) -> None:
    """A name that was rebound to us is refused before the application is looked for."""
    place.write("one")
    for target in ("/one", "/two"):
        head = upgrade(target, "json", ()).replace(b"localhost", b"evil.example", 1)
        assert b"evil.example" in head
        with pytest.raises(http.Refusal) as caught:
            place.served.find(head).openings.read(head, "192.0.2.7", 4711)
        assert caught.value.status == 403


def test_origins_are_the_application_s(place: Place) -> None:
    place.write("one", TEXT.format("cat") + "origin = 'https://a.example'\n")
    place.write("two")
    for name, status in (("one", 101), ("two", 403)):
        head = upgrade(f"/{name}", "json", ("Origin: https://a.example",))
        app = place.served.find(head)
        if status == 101:
            assert app.openings.read(head, "192.0.2.7", 4711)
        else:
            with pytest.raises(http.Refusal, match="403"):
                app.openings.read(head, "192.0.2.7", 4711)


# Files that change


def test_a_file_is_read_once(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    file = place.write("one")
    monkeypatch.setattr(directory, "time_ns", lambda: 1 << 62)  # long after
    first = place.served.find(upgrade("/one", "json", ()))
    monkeypatch.setattr(appfile, "read", pytest.fail)
    assert place.served.find(upgrade("/one", "json", ())) is first
    assert file.exists()


def test_one_that_was_written_just_now_is_not_believed(place: Place) -> None:
    for word in ("one", "two", "six", "ten"):
        place.write("it", TEXT.format(word))
        assert place.command("it") == word


def test_one_that_is_bad_and_gets_better(place: Place) -> None:
    place.write("one", "command = 1\n")
    place.write("two")
    refusal = place.ask("/one")
    assert (refusal.status, refusal.cause) == (500, "application-file")
    assert refusal.detail.startswith("one.toml:1: not a list of the program")
    assert "one" not in refusal.text
    assert place.ask("/one").status == 500
    assert place.command("two") == "cat"
    place.write("one")
    assert place.command("one") == "cat"
    os.unlink(place.path / "one.toml")
    assert place.ask("/one").status == 404


def test_one_that_does_not_go_with_the_command_line(tmp_path: Path) -> None:
    place = Place(tmp_path, "--framing=json", "--stderr=client")
    place.write("one", TEXT.format("cat") + "\nframing = 'lines'\n")
    text = "one.toml:3: --stderr: lines has no place for standard error; write log or"
    assert place.ask("/one").detail.startswith(text)
    place.write("two", TEXT.format("cat") + "direction = 'send'\nstderr = 'client'\n")
    assert place.ask("/two").detail.startswith("two.toml:3: --stderr: a client that on")


def test_variables_that_go_away(place: Place) -> None:
    variables = place.path / "variables"
    variables.write_text("A=1\n")
    place.write("one", f"env-file = '{variables}'\n" + TEXT.format("cat"))
    assert place.served.find(upgrade("/one", "json", ())).environment["A"] == "1"
    place.served.settle()
    variables.unlink()
    detail = f"one.toml:1: {variables}: No such file or directory"
    assert place.ask("/one").detail == detail


def test_what_was_read_is_compiled_when_there_is_time(place: Place) -> None:
    place.write("one")
    place.write("bad", "x")
    place.ask("/one")
    place.ask("/bad")
    assert not (place.path / ".compiled").exists()
    place.served.settle()
    assert os.listdir(place.path / ".compiled") == ["one"]


def test_what_is_started(place: Place) -> None:
    """Whoever starts it for us has to be told."""
    place.write("one", 'command = ["a", "b"]\ndirectory = "/usr"\npty = true\n')
    program = place.served.get("one").program
    assert (program.argv, program.directory) == (("a", "b"), "/usr")
    assert (program.pty, program.found) == (True, True)


def test_what_it_says_of_itself(place: Place) -> None:
    place.write("one", TEXT.format("cat") + "[interface]\ntitle = 'One'\n")
    place.write("two")
    told = place.served.find(upgrade("/one", "json", ())).interface
    assert (told.name, told.title, told.send_schema) == ("one", "One", None)
    told = place.served.find(upgrade("/two", "json", ())).interface
    assert (told.name, told.title) == ("two", "")
