"""Tests examples/engines/kubectl.toml with a substitute of kubectl, without a cluster.

The substitute runs the program here, and ends it only when the pod is deleted. This
checks the wrapper and its command lines as the manual of kubectl describes them.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from engine_sessions import CHECKS, GAME, Engine, Serving, application_file, serve_here

# Each check runs on a busy machine too.
pytestmark = pytest.mark.timeout(900)

KUBECTL = """\
#!/bin/sh
case "$*" in
    "run chimirror-"*" --quiet --rm --stdin --restart=Never \
--image=registry.example.org/game --command -- game") name=$2 ;;
    "delete pod chimirror-"*" --ignore-not-found --grace-period=2 --wait=false")
        kill -KILL -"$(cat {pods}/$3)"
        exit ;;
    *) exit 64 ;;
esac
exec 3<&0
env --unset=CHIMIRROR_SESSION setsid {game} <&3 &
echo $! >{pods}/$name
exec 3<&-
wait $!
status=$?
rm {pods}/$name
exit $status
"""


class Kubectl:
    """The substitute: a file for each pod."""

    name = "kubectl"

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.pods = directory / "pods"
        self.pods.mkdir()
        tools = directory / "tools"
        tools.mkdir()
        self.path = f"{tools}:{os.environ['PATH']}"
        game, kubectl = directory / "game", tools / "kubectl"
        game.write_text(GAME)
        kubectl.write_text(KUBECTL.format(game=game, pods=self.pods))
        for file in (game, kubectl):
            file.chmod(0o755)
        self.apps = application_file(directory / "apps", self.name)

    def serve(self, *options: str) -> AbstractContextManager[Serving]:
        return serve_here(
            self.directory, self.apps, f"--env=PATH={self.path}", *options
        )

    def remaining(self) -> list[str]:
        return os.listdir(self.pods)


@pytest.fixture(scope="module")
def kubectl(tmp_path_factory: pytest.TempPathFactory) -> Kubectl:
    return Kubectl(tmp_path_factory.mktemp("kubectl"))


@pytest.mark.parametrize("check", CHECKS)
def test_session(check: Callable[[Engine], None], kubectl: Kubectl) -> None:
    check(kubectl)
