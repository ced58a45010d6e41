"""chimirror.js as a package: types, published files and description.

The package is installed from its tarball into an empty project, without a network. It
is then used by its name: with import, with require, from TypeScript and in a page.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

import chimirror
from js_runners import Node
from npm import NODE, NPM, packaged
from page_server import CASES, MODULE
from serve import server
from static_site import static_site

ROOT = Path(__file__).parents[2]
WEB = MODULE.parent
SOURCES = ("chimirror.js", "chimirror.d.ts")
LIBRARY = "--lib esnext,dom,dom.iterable,dom.asynciterable"
# TypeScript's own declarations are not checked. Those of the package are.
OPTIONS = f"--noEmit --skipDefaultLibCheck --target esnext {LIBRARY}"
STRICT = ("--strict", "--noUncheckedIndexedAccess")
RESOLUTIONS = {
    "nodenext": "--module nodenext",
    "node16": "--module node16",
    "bundler": "--module esnext --moduleResolution bundler",
}


def run(*argv: str | Path, cwd: Path | None = None) -> str:
    done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def check_types(*argv: str | Path, resolution: str = "nodenext") -> None:
    options = [*OPTIONS.split(), *RESOLUTIONS[resolution].split()]
    run(NODE, packaged("typescript/lib/tsc.js"), *options, *argv)


def test_the_module_is_sound() -> None:
    check_types("--allowJs", "--checkJs", MODULE)


def pack(source: Path, directory: Path) -> Path:
    """Return the tarball of the package."""
    command = (*NPM, "pack", "--silent", "--pack-destination", directory)
    return directory / run(*command, cwd=source).strip()


def install(tarball: Path, project: Path) -> None:
    cache = f"--cache={project}/cache"
    options = ("--offline", "--no-audit", "--no-fund", cache)
    run(*NPM, "install", *options, tarball, cwd=project)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with the package, installed from its tarball."""
    directory = tmp_path_factory.mktemp("npm")
    project = directory / "project"
    project.mkdir()
    install(pack(WEB, directory), project)
    shutil.copy(CASES / "usage.ts", project / "usage.mts")
    return project


def test_installed_files(project: Path) -> None:
    installed = project / "node_modules" / "chimirror"
    files = {str(file.relative_to(installed)) for file in installed.rglob("*")}
    assert files == {"LICENSE", "README.md", "package.json", *SOURCES}
    for name in SOURCES:
        assert (installed / name).read_bytes() == (WEB / name).read_bytes()


def test_an_upgrade(tmp_path: Path) -> None:
    """Of a project that has a former version."""
    project, former = tmp_path / "project", tmp_path / "former"
    project.mkdir()
    shutil.copytree(WEB, former)
    text = json.dumps(description() | {"version": "0.0.1"})
    (former / "package.json").write_text(text)
    installed = project / "node_modules" / "chimirror" / "package.json"
    for source, version in ((former, "0.0.1"), (WEB, chimirror.__version__)):
        install(pack(source, tmp_path), project)
        assert json.loads(installed.read_text())["version"] == version
    use = 'import { connect } from "chimirror"; console.log(typeof connect);'
    (project / "use.mjs").write_text(use)
    assert run(NODE, project / "use.mjs") == "function\n"


def test_it_can_be_published() -> None:
    """Without a correction by npm. The registry is not reached."""
    registry = "--registry=http://127.0.0.1:1"
    done = subprocess.run(
        (*NPM, "publish", "--dry-run", "--offline", registry),
        cwd=WEB,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "corrected" not in done.stderr
    assert done.stdout == f"+ chimirror@{chimirror.__version__}\n"


@pytest.mark.parametrize("resolution", RESOLUTIONS)
def test_types_of_user_code(project: Path, resolution: str) -> None:
    check_types(*STRICT, project / "usage.mts", resolution=resolution)


def test_user_code(project: Path, tmp_path: Path) -> None:
    written = project / "usage.mts"
    command = ["sh", "-c", "printf x >&2; cat"]
    with server(tmp_path, command) as service:
        said = run(NODE, written, f"ws://127.0.0.1:{service.port}/").splitlines()
    heard = sorted(said[:4])
    assert heard == ["1000 exit 0", "HI", "stderr 1", '{"SOME":["THING"]}']
    assert said[4:] == [
        "0 1000 false",
        "TypeError",
        "refused  no reachable server answers at 127.0.0.1:1",
        "TypeError",
    ]


@pytest.mark.parametrize(
    ("file", "head"),
    [
        ("use.mjs", 'import { connect, text } from "chimirror";'),
        ("use.cjs", 'const { connect, text } = require("chimirror");'),
    ],
)
def test_import_and_require(
    project: Path, tmp_path: Path, file: str, head: str
) -> None:
    with server(tmp_path, ["echo", "hi"]) as service:
        url = f"http://127.0.0.1:{service.port}/"
        use = f"connect({url!r}).then((s) => text(s.stdout)).then(console.log)"
        (project / file).write_text(f"{head}\n{use};\n")
        assert run(NODE, project / file) == "hi\n\n"


PAGE = """<!doctype html>
<script type="importmap">
{ "imports": { "chimirror": "./node_modules/chimirror/chimirror.js" } }
</script>
<script type="module">
import { connect, text } from "chimirror";
const session = await connect(location.hash.slice(1));
document.title = await text(session.stdout);
</script>
"""


def test_a_page_without_a_bundler(
    project: Path, tmp_path: Path, browser: Browser
) -> None:
    (project / "index.html").write_text(PAGE)
    with (
        static_site(project) as origin,
        server(tmp_path, ["echo", "hi"], "--origin", origin) as service,
        browser.new_context() as context,
    ):
        page = context.new_page()
        page.goto(f"{origin}#ws://127.0.0.1:{service.port}/")
        expect(page).to_have_title("hi")


def test_an_old_node_gets_one_sentence() -> None:
    """Debian's Node has no WebSocket, and this Node none here."""
    use = "(error) => console.log(error.kind, error.message)"
    script = (
        "delete globalThis.WebSocket;"
        f"import('{MODULE}').then((m) => m.connect('ws://127.0.0.1:1/')).catch({use})"
    )
    for node in ("nodejs", NODE):
        said = run(node, "--eval", script)
        assert said.startswith("unsupported chimirror.js needs Node 22 or newer, or a ")
        assert "; missing here: WebSocket" in said
        assert said.count("\n") == 1


EXAMPLES = {
    "README.md": r"^```js\n(.*?)^```",
    "chimirror/web/README.md": r"^```js\n(.*?)^```",
    "man/chimirror.js.3": r"^\.Bd -literal -offset indent\n(.*?)^\.Ed",
}


@pytest.mark.parametrize("file", EXAMPLES)
def test_examples(file: str, tmp_path: Path) -> None:
    (found,) = re.findall(EXAMPLES[file], (ROOT / file).read_text(), re.M | re.S)
    if "import" not in found:
        found = f'import {{ connect, lines }} from "./chimirror.js";\n{found}'
    assert re.search(r'from "(\./chimirror.js|chimirror)";', found)
    found = re.sub(r'from ".*?"', f'from "{MODULE}"', found)
    with server(tmp_path, ["sh", "-c", "read said; echo got $said"]) as service:
        example = tmp_path / "example.mjs"
        address = f"ws://127.0.0.1:{service.port}/"
        example.write_text(found.replace("ws://127.0.0.1:30747/", address))
        assert run(NODE, example).startswith("got ")


def test_declarations_match_the_module(tmp_path: Path) -> None:
    library = packaged("typescript/lib/typescript.js")
    argv = [NODE, CASES / "members.cjs", library, MODULE.with_suffix(".d.ts")]
    declared = json.loads(run(*argv))
    with (
        server(tmp_path, ["cat"]) as service,
        Node().run_case("members", f"ws://127.0.0.1:{service.port}/") as play,
    ):
        there = play.result()
    # These two members are internal.
    there["Control"] = sorted({*there["Control"]} - {"authorize", "end", "hold"})
    events = {"addEventListener", "removeEventListener"}
    for name in ("Session", "Control"):
        assert {*there[name]} - events == {*declared[name]} - events
    assert there["values"] == declared["values"]


def description() -> Any:
    return json.loads((WEB / "package.json").read_text())


def test_description() -> None:
    found = description()
    assert (found["name"], found["version"]) == ("chimirror", chimirror.__version__)
    assert found["license"] == "MIT"
    assert (WEB / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()
    assert {"dependencies", "repository", "scripts"}.isdisjoint(found)
    assert "://" not in json.dumps(found)
