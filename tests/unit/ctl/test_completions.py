"""Completions for bash and zsh equal the usage text. Real shells are asked."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from chimirror.control.controller import METHODS
from chimirror.ctl import usage
from chimirror.ctl.commands import control, sessions

COMPLETIONS = Path(__file__).parents[3] / "chimirror/ctl/completions"
HELP = {"--help", "-h"}
VALUED = {option.name for option in usage.OPTIONS if option.metavar}
BASH = """\
source "$1"; shift
COMP_WORDS=(chimirror-ctl "$@"); COMP_CWORD=$#
_chimirror_ctl
printf '%s\\n' "${COMPREPLY[@]}"
"""
# zsh offers the arguments of _arguments and _describe.
ZSH = """\
_arguments() { print -l -- "$@" }
_describe() { print -l -- "${(@P)2}" }
words=(chimirror-ctl "${@[2,-1]}"); CURRENT=$#words
source "$1"
"""


def shell(
    name: str, script: str, *words: str, path: str = "/usr/bin:/bin"
) -> list[str]:
    found = shutil.which(name)
    if not found:
        pytest.skip(f"no {name} on this machine")
    file = "chimirror-ctl.bash" if name == "bash" else "_chimirror-ctl"
    quiet = ["--norc"] if name == "bash" else ["-f"]
    result = subprocess.run(
        [found, *quiet, "-c", script, name, str(COMPLETIONS / file), *words],
        env={"PATH": path},
        capture_output=True,
        text=True,
    )
    assert (result.returncode, result.stderr) == (0, "")
    return [line for line in result.stdout.splitlines() if line]


def test_verbs_in_bash() -> None:
    assert shell("bash", BASH, "") == [*usage.VERBS, "--help", "-h", "--version"]
    assert shell("bash", BASH, "li") == ["limits", "limit"]


def test_verbs_in_zsh() -> None:
    offered = shell("zsh", ZSH, "")
    verbs = [line.partition(":")[0] for line in offered if line[:1] not in "(-"]
    assert verbs == list(usage.VERBS)
    names = [line.partition(")")[2] or line for line in offered[-3:]]
    assert [name.partition("[")[0] for name in names] == ["-h", "--help", "--version"]


@pytest.mark.parametrize("verb", usage.VERBS)
def test_options_in_bash(verb: str) -> None:
    short = {name for name, long in usage.SHORT.items() if long in usage.VERBS[verb]}
    offered = shell("bash", BASH, verb, "-")
    assert set(offered) == {*usage.VERBS[verb], *short, *HELP}


@pytest.mark.parametrize("verb", usage.VERBS)
def test_options_in_zsh(verb: str) -> None:
    offered = shell("zsh", ZSH, verb, "-")
    # An option that excludes others names them first, in parentheses.
    found = (re.match(r"(?:\*|\([^)]*\))?(--[a-z-]+=?)\[", line) for line in offered)
    long = {match[1] for match in found if match}
    valued = {name.rstrip("=") for name in long if name.endswith("=")}
    assert {name.rstrip("=") for name in long} == {*usage.VERBS[verb], "--help"}
    assert valued == set(usage.VERBS[verb]) & VALUED


def test_values() -> None:
    assert shell("bash", BASH, "sessions", "--sort", "") == list(sessions.SORTS)
    for name in sorted(VALUED):
        if name not in ("--sort", "--since", "--apps", "--state", "--output"):
            assert shell("bash", BASH, "limit", name, "") == []
    assert "/etc" in shell("bash", BASH, "manifest", "--apps", "/et")
    assert "/etc/passwd" in shell("bash", BASH, "metrics", "--state", "/etc/passw")
    (sort,) = (line for line in shell("zsh", ZSH, "sessions", "") if "--sort" in line)
    assert f"({' '.join(sessions.SORTS)})" in sort


def test_arguments_after_an_id() -> None:
    assert shell("bash", BASH, "pause", "1a", "") == list(control.STREAMS)
    assert shell("bash", BASH, "resume", "1a", "stdin", "stdo") == ["stdout"]
    methods = shell("bash", BASH, "call", "1a", "")
    assert set(methods) < set(METHODS)
    (streams,) = (line for line in shell("zsh", ZSH, "pause", "") if "stream" in line)
    assert f"({' '.join(control.STREAMS)})" in streams
    (line,) = (line for line in shell("zsh", ZSH, "call", "") if "method" in line)
    assert f"({' '.join(methods)})" in line


def test_ids(tmp_path: Path) -> None:
    program = tmp_path / "chimirror-ctl"
    program.write_text("#!/bin/sh\nprintf 'id\\tpeer\\n1a\\tx\\n1b\\ty\\n2c\\tz\\n'\n")
    program.chmod(0o755)
    path = f"{tmp_path}:/usr/bin:/bin"
    for verb in ("show", "log", "attach", "close", "kill", "pause", "resume", "call"):
        assert shell("bash", BASH, verb, "1", path=path) == ["1a", "1b"]
    script = "compadd() { print -l -- ${(P)2} }\nsource $1 >/dev/null\n"
    script = f"_arguments() {{ }}; _describe() {{ }}; words=(x ''); CURRENT=2\n{script}"
    offered = shell("zsh", script + "_chimirror_ctl_ids", path=path)
    assert offered == ["1a", "1b", "2c"]


def test_no_text_but_an_id_reaches_the_shell(tmp_path: Path) -> None:
    """compgen runs commands in its words, as root where root completes."""
    program = tmp_path / "chimirror-ctl"
    row = f"1$(touch {tmp_path}/ran)\\tx"
    program.write_text(f"#!/bin/sh\nprintf '%b\\n' 'id\\tpeer' '1a\\tx' '{row}'\n")
    program.chmod(0o755)
    path = f"{tmp_path}:/usr/bin:/bin"
    assert shell("bash", BASH, "show", "1", path=path) == ["1a"]
    assert not (tmp_path / "ran").exists()


def test_syntax() -> None:
    for name in ("bash", "zsh"):
        assert shell(name, '"$0" -n "$1"') == []
