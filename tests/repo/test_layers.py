"""The layers of the package, held by its imports: each package imports only lower ones.

Every import counts, wherever it stands in a file, those for type checking included. A
new package has to be given its place in LAYERS.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import chimirror

PACKAGE = Path(chimirror.__file__).parent

# From the bottom to the top: a package, and the packages that it may import. "" stands
# for the modules text and builtin_modules and for chimirror itself.
LAYERS: dict[str, set[str]] = {
    "": set(),
    "protocol": {""},
    "framing": {"protocol", ""},
    "regular_file": {""},
    "config": {"framing", "protocol", "regular_file", ""},
    "io": {"config", "protocol", ""},
    "host": {""},
    "log": {""},
    "tls": {""},
    "manifest": {"framing", "protocol", ""},
    "metrics": {"protocol", ""},
    "process": {"log", "io", ""},
    "spawn": {"process", "log", "io", ""},
    "apps": {"manifest", "process", "config", "protocol", "regular_file", ""},
    "resources": {"apps", "manifest", "io", "protocol", ""},
    "access": {"apps", "process", "host", "tls", "io", "config", "protocol", ""},
    "program": {"access", "apps", "tls", "log", "io", "config", "protocol", ""},
    "session": {
        *("tls", "access", "resources", "apps", "process", "log", "io", "framing"),
        *("config", "protocol", ""),
    },
    "control": {
        *("session", "resources", "apps", "process", "host", "io", "framing"),
        *("protocol", ""),
    },
    "bridge": {
        *(
            "tls",
            "access",
            "control",
            "session",
            "program",
            "apps",
            "process",
            "log",
            "host",
            "io",
        ),
        *("config", "protocol", ""),
    },
    "server": {
        *("tls", "access", "control", "session", "program", "apps", "spawn", "process"),
        *("log", "host", "io", "framing", "metrics", "config", "protocol", ""),
    },
    "zygote": {
        *("session", "program", "apps", "spawn", "process", "log", "host", "io"),
        *("config", ""),
    },
    "ctl": {
        *("server", "program", "tls"),
        *("resources", "apps", "process", "log", "host", "framing", "metrics"),
        *("config", "protocol", "regular_file", ""),
    },
    "client": {""},
    "connect": {"client", "config", ""},
    "authorize": {
        *("access", "process", "io", "host", "config", "protocol", "regular_file", ""),
    },
    "services": {""},
    "web": set(),
}
# What the pure packages may import besides each other: no files, no sockets, no clock.
PURE = {"framing", "manifest", "metrics", "protocol"}
HARMLESS = {
    "_blake2",
    "_codecs",
    "_json",
    "_random",
    "_sha1",
    "binascii",
    "collections.abc",
    "gc",
    "hashlib",
    "ipaddress",
    "json",
    "orjson",
    "pybase64",
    "struct",
    "sys",
    "typing",
    "wsproto.frame_protocol",
    # Loads websockets' C masking without the package around it.
    "_frozen_importlib",
    "_frozen_importlib_external",
}
# The client library has a pure half of its own: WebSocket, but nothing that waits.
APIS = {"aio", "blocking", "control_aio", "control_blocking"}
WAITING = APIS | {
    "asyncio_driver",
    "dialer",
    "failover",
    "resource",
    "servers",
    "thread_driver",
    "tls_handshake",
    "tls_settings",
    "transport",
}
UNWAITING = {
    "binascii",
    "collections",
    "collections.abc",
    "copy",
    "dataclasses",
    "functools",
    "ipaddress",
    "itertools",
    "json",
    "logging",
    "math",
    "re",
    "signal",  # for the names
    "typing",
    "unicodedata",
    "urllib.parse",
    "weakref",
    "websockets.client",
    "websockets.exceptions",
    "websockets.frames",
    "websockets.headers",
    "websockets.protocol",
    "websockets.typing",
    "websockets.uri",
}
# The packages that know the operating system know no WebSocket.
SYSTEM = {"host", "io", "log", "process", "spawn"}
WEBSOCKET = {"h11", "websockets", "wsproto"}
# So has the services library.
SERVICES_PURE = {
    "codec",
    "errors",
    "flow",
    "line_parser",
    "names",
    "options",
    "results",
}


def imports(tree: ast.AST, package: str) -> Iterator[str]:
    """The modules imported anywhere in a tree, by absolute name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            up = package.split(".")[: -node.level + 1 or None] if node.level else []
            base = ".".join([*up, *filter(None, [node.module])])
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                yield whole if whole in MODULES else base


def without_types(tree: ast.Module) -> ast.Module:
    """A module without the imports that only a type checker sees."""
    body: list[ast.stmt] = []
    for node in tree.body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            body += node.orelse
        else:
            body.append(node)
    return ast.Module(body, [])


def name_of(file: Path) -> str:
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


def package_of(name: str, file: Path) -> str:
    return name if file.stem == "__init__" else name.rpartition(".")[0]


MODULES = {name_of(file): file for file in sorted(PACKAGE.rglob("*.py"))}
TREES = {name: ast.parse(file.read_text()) for name, file in MODULES.items()}
IMPORTS = {
    name: set(imports(tree, package_of(name, MODULES[name])))
    for name, tree in TREES.items()
}
RUN_TIME = {
    name: set(imports(without_types(tree), package_of(name, MODULES[name])))
    - {"__future__"}
    for name, tree in TREES.items()
}


def layer_of(module: str) -> str:
    """The key of LAYERS that a module belongs to."""
    part = module.split(".")[1] if "." in module else ""
    return "" if part in {"text", "builtin_modules"} else part


def own(found: set[str]) -> set[str]:
    return {name for name in found if name.split(".")[0] == "chimirror"}


def in_packages(packages: set[str]) -> list[str]:
    return [name for name in MODULES if layer_of(name) in packages]


def test_the_package_itself_imports_nothing() -> None:
    assert not RUN_TIME["chimirror"]


def test_layers_stand_in_their_order() -> None:
    places = {name: place for place, name in enumerate(LAYERS)}
    for name, lower in LAYERS.items():
        assert all(places[other] < places[name] for other in lower), name


@pytest.mark.parametrize("name", MODULES)
def test_only_lower_layers_are_imported(name: str) -> None:
    layer = layer_of(name)
    assert layer in LAYERS, "this package has no place in LAYERS"
    allowed = {layer} | LAYERS[layer]
    up = {found for found in own(IMPORTS[name]) if layer_of(found) not in allowed}
    assert not up, f"{name} may import from {sorted(allowed)}"


def test_no_import_circle() -> None:
    graph = TopologicalSorter(
        {name: own(found) - {name} for name, found in IMPORTS.items()}
    )
    graph.prepare()  # the CycleError names the circle


@pytest.mark.parametrize("name", in_packages(PURE))
def test_pure_packages_do_no_io(name: str) -> None:
    assert not RUN_TIME[name] - own(RUN_TIME[name]) - HARMLESS


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in in_packages({"client"})
        if name.rpartition(".")[2] not in WAITING | {"client"}
    ],
)
def test_only_apis_and_drivers_of_the_client_wait(name: str) -> None:
    assert not {found.rpartition(".")[2] for found in own(RUN_TIME[name])} & WAITING
    assert not RUN_TIME[name] - own(RUN_TIME[name]) - UNWAITING


def test_the_blocking_api_loads_neither_asyncio_nor_tls() -> None:
    program = "import sys, chimirror.client.blocking; print(*sys.modules)"
    argv = [sys.executable, "-c", program]
    done = subprocess.run(argv, capture_output=True, check=True, text=True)
    assert not {"asyncio", "ssl"} & set(done.stdout.split())


@pytest.mark.parametrize("name", sorted(SERVICES_PURE))
def test_pure_parts_of_services_do_no_io(name: str) -> None:
    found = RUN_TIME[f"chimirror.services.{name}"]
    pure = {f"chimirror.services.{each}" for each in SERVICES_PURE}
    assert own(found) <= {*pure, "chimirror.text"}
    allowed = {"collections.abc", "msgspec", "re", "signal", "typing"}
    assert not found - own(found) - allowed


def test_the_services_load_no_asyncio_until_they_need_it() -> None:
    program = "import sys, chimirror.services; print(*sys.modules)"
    argv = [sys.executable, "-c", program]
    done = subprocess.run(argv, capture_output=True, check=True, text=True)
    assert "asyncio" not in done.stdout.split()


@pytest.mark.parametrize("name", in_packages(SYSTEM))
def test_packages_of_the_system_know_no_websocket(name: str) -> None:
    assert not {found.split(".")[0] for found in IMPORTS[name]} & WEBSOCKET
