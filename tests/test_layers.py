"""The house of DESIGN.md, held up by its imports: arrows only ever point down.

Every import counts, wherever it stands in a file, but for those under TYPE_CHECKING,
which never run. A new module has to be given its place in LAYERS.
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

# Top down. A module may import from its own group and from the groups that are named.
LAYERS: dict[str, tuple[set[str], set[str]]] = {
    "bridge": ({"bridge", "crowd", "status"}, {"session", "options", "wire", "system"}),
    "server": (
        {
            "server",
            "worker",
            "entrance",
            "foster",
            "nursery",
            "provision",
            "zygote",
            "herald",
        },
        {"session", "options", "wire", "system"},
    ),
    "connect": ({"connect"}, {"client", "options"}),
    "client": ({"client"}, set()),
    "ctl": ({"ctl"}, {"apps", "appfile", "options", "wire", "system"}),
    "session": (
        {
            "clerk",
            "connection",
            "control",
            "courier",
            "exchange",
            "hand",
            "helm",
            "keys",
            "liveness",
            "murmur",
            "pilot",
            "reception",
            "report",
            "service",
            "session",
        },
        {"apps", "options", "wire", "system"},
    ),
    "apps": (
        {"apps", "console", "directory", "exhibit"},
        {"appfile", "options", "wire", "system"},
    ),
    "appfile": ({"appfile", "apptoml"}, {"options", "wire", "system"}),
    "options": ({"options", "usage", "names", "units", "envfile"}, set()),
    "wire": ({"wire"}, set()),
    "system": ({"system"}, set()),
}
# What the pure layer may import besides itself: no files, no sockets, no clock.
PURE = {
    "_blake2",
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
# The client library's own pure half: WebSocket, yes, but nothing that waits.
FACES = {"aio", "blocking", "control_aio", "control_blocking"}
WAITING = FACES | {"dial", "line", "link", "pump"}
UNWAITING = {
    "binascii",
    "collections",
    "collections.abc",
    "functools",
    "itertools",
    "json",
    "logging",
    "math",
    "signal",  # for the names
    "typing",
    "urllib.parse",
    "weakref",
    "websockets.client",
    "websockets.exceptions",
    "websockets.frames",
    "websockets.protocol",
    "websockets.typing",
    "websockets.uri",
}
WEBSOCKET = {"h11", "websockets", "wsproto"}
# What a bridge may load on the way to its first byte, beyond a bare interpreter: what
# is built into it, and one file of constants.
CHEAP = {
    "__future__",
    "_collections",
    "_json",
    "_sha1",
    "_socket",
    "_stat",
    "binascii",
    "gc",
    "select",
}


def imports(node: ast.AST, package: str) -> Iterator[str]:
    """The modules that are imported below this node, by absolute name."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            yield from imports(ast.Module(child.orelse, []), package)
        elif isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            up = package.split(".")[: -child.level + 1 or None] if child.level else []
            base = ".".join([*up, *filter(None, [child.module])])
            for alias in child.names:
                whole = f"{base}.{alias.name}"
                yield whole if whole in MODULES else base
        else:
            yield from imports(child, package)


def name_of(file: Path) -> str:
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


MODULES = {name_of(file): file for file in sorted(PACKAGE.rglob("*.py"))}
IMPORTS = {
    name: {
        found
        for found in imports(
            ast.parse(file.read_text()),
            name if file.stem == "__init__" else name.rpartition(".")[0],
        )
        if found not in {"__future__", "chimirror"}
    }
    for name, file in MODULES.items()
}


def layer_of(module: str) -> str:
    part = module.split(".")[1]
    for layer, (members, _) in LAYERS.items():
        if part in members:
            return layer
    raise AssertionError(f"{module} has no place in LAYERS")


def ours(name: str) -> set[str]:
    return {found for found in IMPORTS[name] if found.startswith("chimirror.")}


def test_the_package_imports_nothing() -> None:
    assert not IMPORTS["chimirror"]


@pytest.mark.parametrize("name", [name for name in MODULES if "." in name])
def test_arrows_point_down(name: str) -> None:
    layer = layer_of(name)
    allowed = {layer} | LAYERS[layer][1]
    up = {found for found in ours(name) if layer_of(found) not in allowed}
    assert not up, f"{name} may import from {sorted(allowed)}"


def test_nothing_goes_round() -> None:
    graph = TopologicalSorter({name: ours(name) for name in MODULES})
    graph.prepare()  # the CycleError names the cycle


@pytest.mark.parametrize(
    "name", [name for name in MODULES if name.startswith("chimirror.wire")]
)
def test_wire_is_pure(name: str) -> None:
    assert not IMPORTS[name] - ours(name) - PURE


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in MODULES
        if ".client" in name and name.rpartition(".")[2] not in WAITING | {"client"}
    ],
)
def test_the_client_waits_in_its_faces_only(name: str) -> None:
    assert not {found.rpartition(".")[2] for found in ours(name)} & WAITING
    assert not IMPORTS[name] - ours(name) - UNWAITING


def test_the_blocking_face_loads_neither_asyncio_nor_tls() -> None:
    program = "import sys, chimirror.client.blocking; print(*sys.modules)"
    argv = [sys.executable, "-c", program]
    done = subprocess.run(argv, capture_output=True, check=True, text=True)
    assert not {"asyncio", "ssl"} & set(done.stdout.split())


@pytest.mark.parametrize("name", [name for name in MODULES if ".system" in name])
def test_system_knows_no_websocket(name: str) -> None:
    assert not {found.split(".")[0] for found in IMPORTS[name]} & WEBSOCKET


def test_the_bridge_loads_little() -> None:
    program = """
import sys
before = set(sys.modules)
sys.path.insert(0, sys.argv[1])
import chimirror.bridge
print(*set(sys.modules) - before)"""
    argv = [sys.executable, "-I", "-S", "-c", program, str(PACKAGE.parent)]
    done = subprocess.run(argv, capture_output=True, check=True, text=True)
    loaded = {name for name in done.stdout.split() if name.split(".")[0] != "chimirror"}
    assert not loaded - CHEAP
