"""chimirror.js as a package: types, published files and description.

TypeScript compiles the code of a user, with the module resolved as an installed
package.
The declarations match the module.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

import chimirror
from js_runners import Node
from npm import NODE, NPM, packaged
from page_server import CASES, MODULE
from serve import server

ROOT = Path(__file__).parents[2]
WEB = MODULE.parent
SOURCES = ("chimirror.js", "chimirror.d.ts")
LIBRARY = "--lib esnext,dom,dom.iterable,dom.asynciterable"
# TypeScript's own declarations are not checked. Those of the package are.
OPTIONS = f"--noEmit --skipDefaultLibCheck --module nodenext {LIBRARY}"
TARGET = f"{OPTIONS} --target esnext"


def run(*argv: str | Path, cwd: Path | None = None) -> str:
    done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def check_types(*argv: str | Path) -> None:
    run(NODE, packaged("typescript/lib/tsc.js"), *TARGET.split(), *argv)


def test_the_module_is_sound() -> None:
    check_types("--allowJs", "--checkJs", MODULE)


def test_user_code(tmp_path: Path) -> None:
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules" / "chimirror").symlink_to(WEB)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    written = shutil.copy(CASES / "usage.ts", tmp_path)
    check_types("--strict", "--noUncheckedIndexedAccess", written)
    command = ["sh", "-c", "printf x >&2; cat"]
    with server(tmp_path, command) as service:
        said = run(NODE, written, f"ws://127.0.0.1:{service.port}/").splitlines()
    heard = sorted(said[:4])
    assert heard == ["1000 exit 0", "HI", "stderr 1", '{"SOME":["THING"]}']
    assert said[4:] == [
        "0 1000",
        "TypeError",
        "refused  no reachable server answers at 127.0.0.1:1",
    ]


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


def test_published_files() -> None:
    (packed,) = json.loads(run(*NPM, "pack", "--dry-run", "--json", cwd=WEB))
    files = {file["path"] for file in packed["files"]}
    assert files == {"LICENSE", "README.md", "package.json", *SOURCES}
    assert packed["id"] == f"chimirror@{chimirror.__version__}"


def test_the_licence_is_the_same() -> None:
    assert description()["license"] == "MIT"
    assert (WEB / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()
