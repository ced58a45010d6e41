"""Tests examples/kubernetes: valid files, a strict pod, and the end of a pod."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from chimirror.config import parser
from kubernetes_pod import CONTAINER, IMAGE, Pod, Podman
from processes import until
from scratch_image import make_archive
from websocket_peer import Closed, Peer

pytestmark = pytest.mark.timeout(900)

FILES = Path(__file__).parents[2] / "examples" / "kubernetes"
VERSIONS = ("1.29", "1.37")  # of Kubernetes
SHORT = {"replicas: 3": "replicas: 1", "sleep 15": "sleep 3"}


def objects(file: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((FILES / file).read_text()))


def pod_template() -> dict[str, Any]:
    (deployment,) = objects("deployment.yaml")
    found: dict[str, Any] = deployment["spec"]["template"]["spec"]
    return found


def container() -> dict[str, Any]:
    (found,) = pod_template()["containers"]
    assert isinstance(found, dict)
    return found


# The files


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", ["deployment", "service", "autoscaler"])
def test_the_files_are_valid(name: str, version: str) -> None:
    argv = [str(Path(sys.executable).with_name("kubernetes-validate"))]
    argv += ["--strict", "-k", version, str(FILES / f"{name}.yaml")]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    passed = len(re.findall(r"passed for resource", done.stdout + done.stderr))
    assert passed == len(objects(f"{name}.yaml"))


def test_the_arguments_are_those_of_the_server() -> None:
    config = parser.parse_server(container()["args"])
    assert config.max_sessions == 1000


def test_all_objects_name_the_same_pods() -> None:
    (deployment,) = objects("deployment.yaml")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == labels
    service, budget, policy = objects("service.yaml")
    assert service["spec"]["selector"] == labels
    assert budget["spec"]["selector"]["matchLabels"] == labels
    assert policy["spec"]["podSelector"]["matchLabels"] == labels
    (autoscaler,) = objects("autoscaler.yaml")
    assert (
        autoscaler["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    )


def test_ports_are_known_by_their_names() -> None:
    ports = {one["name"]: one["containerPort"] for one in container()["ports"]}
    arguments = " ".join(container()["args"])
    assert f"--listen=0.0.0.0:{ports['websocket']} " in arguments
    assert f"--metrics=0.0.0.0:{ports['metrics']} " in arguments
    probes = [
        container()[f"{name}Probe"] for name in ("startup", "liveness", "readiness")
    ]
    used = [probe["httpGet"]["port"] for probe in probes]
    service, _, policy = objects("service.yaml")
    used += [port["targetPort"] for port in service["spec"]["ports"]]
    used += [
        port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]
    ]
    assert set(used) == set(ports)


def test_the_end_of_a_pod_fits_into_its_grace() -> None:
    config = parser.parse_server(container()["args"])
    command = container()["lifecycle"]["preStop"]["exec"]["command"]
    (hook,) = re.findall(r"sleep ([0-9]+)", command[-1])
    stop = config.stop_grace + config.kill_grace + 21  # chimirror-server.service
    grace = pod_template()["terminationGracePeriodSeconds"]
    assert int(hook) + config.drain_timeout + stop < grace


def test_the_autoscaler_acts_before_a_pod_is_full() -> None:
    (autoscaler,) = objects("autoscaler.yaml")
    (metric,) = autoscaler["spec"]["metrics"]
    (rules,) = objects("adapter-rules.yaml")
    (rule,) = rules["rules"]
    assert rule["name"]["as"] == metric["pods"]["metric"]["name"]
    wanted = int(metric["pods"]["target"]["averageValue"])
    config = parser.parse_server(container()["args"])
    assert config.max_sessions is not None
    assert config.max_sessions // 2 < wanted < config.max_sessions * 3 // 4


# The pod


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    directory = tmp_path_factory.mktemp("podman")
    archive = make_archive(directory)
    with Podman(directory) as found:
        found.call("import", "--change=ENV PATH=/usr/bin", str(archive), IMAGE)
        yield found


Play = Callable[[str], Pod]


@pytest.fixture
def play(podman: Podman, tmp_path: Path) -> Iterator[Play]:
    """Play the Deployment with one pod, a short hook, and another time to drain."""
    with ExitStack() as stack:

        def work(drain_timeout: str) -> Pod:
            text = (FILES / "deployment.yaml").read_text()
            changes = SHORT | {"drain-timeout=10min": f"drain-timeout={drain_timeout}"}
            for old, new in changes.items():
                assert text.count(old) == 1, old
                text = text.replace(old, new)
            manifest = tmp_path / "deployment.yaml"
            manifest.write_text(text)
            stack.callback(podman.remove_pods)
            return Pod(podman, manifest)

        yield work


def echo(peer: Peer) -> None:
    peer.send(747)
    assert peer.output(4) == b"747\n"


def test_a_pod_is_as_strict_as_the_units(play: Play) -> None:
    pod = play("10min")
    state = pod.start("cat", "/proc/1/status").communicate()[0]
    fields = dict(line.split(":\t", 1) for line in state.splitlines() if ":\t" in line)
    assert set(fields["Uid"].split()) == {"64747"}
    sets = {fields[name].strip() for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb")}
    assert sets == {"0" * 16}
    assert (fields["NoNewPrivs"], fields["Seccomp"]) == ("1", "2")
    writing = pod.start("sh", "-c", "echo >/etc/file")
    assert "Read-only file system" in writing.communicate()[0]
    assert pod.inspect()["HostConfig"]["ReadonlyRootfs"]


def test_late_endpoints_find_a_pod_that_serves(play: Play) -> None:
    """The order of termination: preStop, late clients, SIGTERM, 503, 1001, status 0."""
    pod = play("20s")
    assert pod.status("/ready") == 200
    with ExitStack() as stack:
        long_session = stack.enter_context(Peer(pod.connect()))
        assert long_session.open().status == 101
        echo(long_session)
        hook = pod.start(
            *container()["lifecycle"]["preStop"]["exec"]["command"][:2],
            "kill -s USR2 1 && sleep 3",
        )
        served = 0
        while hook.poll() is None:
            with Peer(pod.connect()) as late:
                assert late.open().status == 101
                echo(late)
            served += 1
        assert hook.communicate()[0] == ""
        assert hook.returncode == 0
        assert served > 3
        assert pod.status("/ready") == 200
        pod.podman.call("kill", "--signal=TERM", CONTAINER)
        until(lambda: pod.status("/ready") == 503, "a drain")
        echo(long_session)
        assert pod.status("/live") == 200
        with Peer(pod.connect()) as refused:
            answer = refused.open()
            assert (answer.status, "retry-after" in answer.fields) == (503, True)
        assert long_session.receive() == Closed(1001, "drain")
    assert pod.podman.call("wait", CONTAINER).strip() == "0"


def test_a_pod_ends_with_its_last_session(play: Play) -> None:
    """The time to drain is an upper limit, and so is the grace of the pod."""
    pod = play("10min")
    with Peer(pod.connect()) as session:
        assert session.open().status == 101
        pod.podman.call("kill", "--signal=TERM", CONTAINER)
        echo(session)
        session.send_close(1000)
        assert session.receive() == Closed(1000, "")
    assert pod.podman.call("wait", CONTAINER).strip() == "0"


def test_a_second_signal_ends_all_sessions_at_once(play: Play) -> None:
    pod = play("10min")
    with Peer(pod.connect()) as session:
        assert session.open().status == 101
        pod.podman.call("kill", "--signal=TERM", CONTAINER)
        until(lambda: pod.status("/ready") == 503, "a drain")
        pod.podman.call("kill", "--signal=TERM", CONTAINER)
        assert session.receive() == Closed(1001, "drain")
    assert pod.podman.call("wait", CONTAINER).strip() == "0"
