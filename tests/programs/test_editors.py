"""The snippets of examples/editors, in the editors that Debian has.

Neovim runs with the snippet as its only configuration, and pylsp is on the server. The
snippets for other editors are parsed, and compared with the application files.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from npm import NODE
from processes import until
from serve import Service, reserved, server
from tls_servers import server_url

EXAMPLES = Path(__file__).parents[2] / "examples"
SNIPPETS = EXAMPLES / "editors"
SESSION = Path(__file__).parents[1] / "support" / "neovim_session.lua"
SERVED = "ws://127.0.0.1:30747/pylsp"
DEBUGGED = "ws://127.0.0.1:30747/debugpy"
PYLSP = [sys.executable, "-P", "-m", "pylsp"]
TEXT = 'def greet(name):\n    """Grüße an: 😀."""\n    return name\n\ngreet(nme)\n'

pytestmark = pytest.mark.timeout(300)  # slow on a busy machine


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home directory of Neovim, and chimirror-connect in PATH."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    monkeypatch.setenv("PATH", path)
    for name in ("CONFIG", "CACHE", "DATA", "STATE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name.lower()))
    (tmp_path / "greet.py").write_text(TEXT)
    return tmp_path


def neovim(home: Path, url: str, *commands: str) -> tuple[list[Any], str]:
    """Run Neovim with the snippet. Returns the JSON of stdout, and stderr."""
    snippet = (SNIPPETS / "neovim.lua").read_text()
    assert snippet.count(SERVED) == 1
    (home / "init.lua").write_text(snippet.replace(SERVED, url))
    argv = ["nvim", "--headless", "-u", "init.lua", "-i", "NONE", "-n", "greet.py"]
    argv += [word for command in commands for word in ("-c", command)]
    done = subprocess.run(argv, cwd=home, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()], done.stderr


@pytest.fixture
def service(home: Path) -> Iterator[Service]:
    """Pylsp, whose input is kept in a file."""
    command = ["sh", "-c", f'tee {home}/input | "$@"', "sh", *PYLSP]
    with server(
        home, command, "--protocol=lsp", f"--env=XDG_CACHE_HOME={home}"
    ) as found:
        yield found


def test_neovim(home: Path, service: Service) -> None:
    session = f"luafile {SESSION}"
    said, _ = neovim(home, server_url(service), session)
    assert said[0] == ["mistakes", ["undefined name 'nme'"]]
    assert said[1][0] == "hover"
    assert "Grüße an: 😀." in said[1][1]
    assert said[2] == ["definition", 0]
    assert said[3][0] == "completion"
    assert "greet(name)" in said[3][1]
    assert said[4:] == [["mistakes", []]]
    until(lambda: not service.applications(), "no language server is left")
    assert '"processId":null' in (home / "input").read_text().replace(" ", "")


AWAIT_QUIT = """lua vim.wait(50000, function()
    return vim.fn.execute("messages"):find("Client %d quit") end, 20)"""


def failures(home: Path, url: str) -> tuple[str, str]:
    """Open two files. Returns the messages that the user sees, and Neovim's log."""
    steps = (AWAIT_QUIT % 1, "edit other.py", AWAIT_QUIT % 2, "qall!")
    _, seen = neovim(home, url, *steps)
    (log,) = home.rglob("lsp.log")
    return seen, log.read_text()


def test_neovim_without_a_server(home: Path) -> None:
    """The user sees the exit status, and the log has the reason."""
    with reserved() as port:
        seen, log = failures(home, f"ws://127.0.0.1:{port}/")
    assert "Client 1 quit with exit code 255" in seen
    assert "Client 2 quit with exit code 255" in seen
    assert "connection refused" in log


def test_neovim_with_a_server_that_crashes(home: Path) -> None:
    """The next file of the language starts another server."""
    command = ["sh", "-c", "echo no memory >&2; head -c 1; kill -KILL $$"]
    with server(home, command, "--protocol=lsp") as service:
        seen, log = failures(home, server_url(service))
        until(lambda: not service.applications(), "no language server is left")
    assert "Client 1 quit with exit code 137" in seen
    assert "Client 2 quit with exit code 137" in seen
    assert "no memory" in log


STUBS = """lua
local found = {}
vim.lsp.config = setmetatable({}, { __call = function(_, name, config)
    found.name, found.cmd, found.filetypes = name, config.cmd, config.filetypes end })
vim.lsp.enable = function(name) found.enabled = name end
dofile("%(snippets)s/neovim.lua")
local dap = { adapters = {}, configurations = {} }
package.loaded.dap = dap
dofile("%(snippets)s/neovim-dap.lua")
local chosen = dap.configurations.python[1]
found.debugger, found.console = dap.adapters[chosen.type], chosen.console
io.stdout:write(vim.fn.json_encode(found) .. "\\n")
"""


def test_snippets_for_other_versions_of_neovim(home: Path) -> None:
    """Runs them in this version, with stubs for the API of 0.11 and of nvim-dap."""
    step = STUBS.replace("\n", " ") % {"snippets": SNIPPETS}
    (found,), _ = neovim(home, SERVED, step, "qall!")
    assert found == {
        "name": "pylsp",
        "cmd": ["chimirror-connect", SERVED],
        "filetypes": ["python"],
        "enabled": "pylsp",
        "debugger": {
            "type": "executable",
            "command": "chimirror-connect",
            "args": [DEBUGGED],
        },
        "console": "internalConsole",
    }


# Editors that do not run here


def test_helix() -> None:
    found = tomllib.loads((SNIPPETS / "helix.toml").read_text())
    (language,) = found["language"]
    (name,) = language["language-servers"]
    assert found["language-server"][name]["command"] == "chimirror-connect"
    assert found["language-server"][name]["args"] == [SERVED]
    assert language["debugger"]["command"] == "chimirror-connect"
    assert language["debugger"]["args"] == [DEBUGGED]


def test_vs_code_settings() -> None:
    text = (SNIPPETS / "vscode-settings.json").read_text()
    settings = json.loads(re.sub("^ *//.*", "", text, flags=re.MULTILINE))
    assert settings["glspc.server.command"] == "chimirror-connect"
    assert settings["glspc.server.commandArguments"] == [SERVED]


ACTIVATE = """
const Module = require("node:module");
const load = Module._load;
const factories = {};
const vscode = {
  debug: {
    registerDebugAdapterDescriptorFactory(type, made) { factories[type] = made; },
  },
  DebugAdapterExecutable: class {
    constructor(command, args) { Object.assign(this, { command, args }); }
  },
};
Module._load = (name, ...rest) => (name === "vscode" ? vscode : load(name, ...rest));
const [directory] = process.argv.slice(1);
const { main, contributes } = require(directory + "/package.json");
const subscriptions = [];
require(directory + "/" + main).activate({ subscriptions });
const [debug] = contributes.debuggers;
const [configuration] = debug.initialConfigurations;
const made = factories[debug.type].createDebugAdapterDescriptor({ configuration });
console.log(JSON.stringify([subscriptions.length, configuration.console, made]));
"""


def test_vs_code_extension() -> None:
    """Runs the extension with a stub of the API of VS Code."""
    argv = [str(NODE), "-e", ACTIVATE, str(SNIPPETS / "vscode-debug")]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert not done.stderr
    command = {"command": "chimirror-connect", "args": [DEBUGGED]}
    assert json.loads(done.stdout) == [1, "internalConsole", command]


def test_urls_are_those_of_applications() -> None:
    files = [path for path in SNIPPETS.rglob("*") if path.is_file()]
    urls = {
        url for path in files for url in re.findall(r"ws://[^\s\"]+", path.read_text())
    }
    assert urls == {SERVED, DEBUGGED}
    for url in urls:
        assert (EXAMPLES / "editor" / f"{url.rpartition('/')[2]}.toml").exists()
