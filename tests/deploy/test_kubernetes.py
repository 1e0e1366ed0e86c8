"""The manifests: valid, consistent with each other, and the daemons accept the settings in them."""

import re
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from pyfastpath.config import GatewayConfig, RelayConfig, TransceiverConfig, load

FOLDER = Path(__file__).parents[2] / "deploy" / "kubernetes"
KUSTOMIZATION = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
KINDS = {"relay": RelayConfig, "transceiver": TransceiverConfig, "gateway": GatewayConfig}
SECRETS = {  # as deploy/README.md makes them
    "trunk_keys": "0:" + "ab" * 16,
    "token_keys": "0:" + "cd" * 16,
    "relay_admin_token": "r" * 32,
    "control_token": "c" * 32,
    "api_keys": "k" * 32,
    "call_key": "ef" * 32,
}
FIELDS = {
    "status.hostIP": "192.0.2.11",
    "status.podIP": "198.51.100.7",
    "metadata.name": "transceiver-1",
    "metadata.labels['apps.kubernetes.io/pod-index']": "1",
}


def documents() -> list[dict[str, Any]]:
    return [
        document
        for name in KUSTOMIZATION["resources"]
        for document in yaml.safe_load_all((FOLDER / name).read_text())
    ]


def named(kind: str) -> dict[str, dict[str, Any]]:
    return {one["metadata"]["name"]: one for one in documents() if one["kind"] == kind}


def workloads() -> list[dict[str, Any]]:
    return [one for one in documents() if one["kind"] in ("DaemonSet", "StatefulSet", "Deployment")]


def daemon_of(workload: dict[str, Any]) -> str:
    name: str = workload["metadata"]["name"]
    return name


workload = pytest.mark.parametrize("workload", workloads(), ids=daemon_of)


@pytest.mark.parametrize("document", documents(), ids=lambda one: f"{one['kind']}-{one['metadata']['name']}")
@pytest.mark.parametrize("version", ["1.30", "1.37"])
def test_the_schema_of_kubernetes_accepts_it(document: dict[str, Any], version: str) -> None:
    assert kubernetes_validate.validate(document, version, strict=True) == version  # by that one's own


def test_every_file_is_applied() -> None:
    assert {path.name for path in FOLDER.glob("*.yaml")} == {
        *KUSTOMIZATION["resources"],
        "kustomization.yaml",
    }


@workload
def test_who_selects_a_pod_selects_these(workload: dict[str, Any]) -> None:
    labels = workload["spec"]["template"]["metadata"]["labels"]
    assert workload["spec"]["selector"]["matchLabels"].items() <= labels.items()
    budget = named("PodDisruptionBudget")[daemon_of(workload)]
    assert budget["spec"]["selector"]["matchLabels"].items() <= labels.items()


@workload
def test_a_pod_is_nobodys_root(workload: dict[str, Any]) -> None:
    pod = workload["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not pod["automountServiceAccountToken"]
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["requests"].keys() == {"cpu", "memory"}
    assert "memory" in container["resources"]["limits"]


@workload
def test_probes_ask_the_health_listener(workload: dict[str, Any]) -> None:
    (container,) = workload["spec"]["template"]["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    for probe, path in (("startup", "/healthz"), ("liveness", "/healthz"), ("readiness", "/readyz")):
        asked = container[f"{probe}Probe"]["httpGet"]
        assert (asked["path"], asked["port"]) == (path, "health")
    listen = {item["name"]: item.get("value", "") for item in container["env"]}
    (health,) = [value for name, value in listen.items() if name.endswith("HEALTH_LISTEN")]
    assert int(health.rpartition(":")[2]) == ports["health"]
    annotations = workload["spec"]["template"]["metadata"]["annotations"]
    assert int(annotations["prometheus.io/port"]) == ports["health"]


@workload
def test_a_pod_has_time_to_drain(workload: dict[str, Any], tmp_path: Path) -> None:
    pod = workload["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    before = " ".join(container.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", []))
    waits_s = (
        int(next(iter(re.findall(r"--wait-s (\d+)|sleep (\d+)", before)), ("0", ""))[0] or 5) if before else 0
    )
    config = effective(workload, tmp_path)
    ends_s = getattr(config, "drain_deadline_s", 10)
    assert pod["terminationGracePeriodSeconds"] > waits_s + ends_s
    if daemon_of(workload) == "relay":
        assert "pyfastpath ctl drain --wait-s" in before


def environment(workload: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What Kubernetes would put there: maps first, then the container's own, references filled in."""
    (container,) = workload["spec"]["template"]["spec"]["containers"]
    known = {
        f"TRANSCEIVER_{number}_SERVICE_HOST": f"198.51.100.{number + 20}"
        for number in range(
            len([name for name in named("Service") if re.fullmatch(r"transceiver-\d+", name)])
        )
    }
    for source in container.get("envFrom", []):
        yield from named("ConfigMap")[source["configMapRef"]["name"]]["data"].items()
    for item in container["env"]:
        value = item.get("value")
        if value is None:
            value = FIELDS[item["valueFrom"]["fieldRef"]["fieldPath"]]
        value = re.sub(r"\$\((\w+)\)", lambda match: known[match[1]], value)
        known[item["name"]] = value
        yield item["name"], value


def effective(workload: dict[str, Any], folder: Path) -> Any:
    """The configuration that the daemon makes of it. ConfigError for whatever it would refuse."""
    pod = workload["spec"]["template"]["spec"]
    (keys,) = [volume["secret"] for volume in pod["volumes"] if volume["name"] == "keys"]
    for item in keys["items"]:
        (folder / item["path"]).write_text(SECRETS[item["key"]] + "\n")
    environ = {
        name: value.replace("/etc/fastpath/keys", str(folder)) for name, value in environment(workload)
    }
    return load(None, kind=KINDS[daemon_of(workload)], environ=environ, cpus=4)


@workload
def test_the_daemon_accepts_its_settings(workload: dict[str, Any], tmp_path: Path) -> None:
    config = effective(workload, tmp_path)
    where = config.health_listen.rpartition(":")[0]
    assert not ip_address(where).is_loopback  # the kubelet and Prometheus ask from outside
    (container,) = workload["spec"]["template"]["spec"]["containers"]
    assert container["args"] == [daemon_of(workload)]


def test_relay_transceiver_and_gateway_find_each_other(tmp_path: Path) -> None:
    made = {daemon_of(one): effective(one, tmp_path) for one in workloads()}
    relay, transceiver, gateway = made["relay"], made["transceiver"], made["gateway"]
    trunks = {str(endpoint) for endpoint in transceiver.relay_sockets}
    assert {f"{relay.trunk_address}:{relay.trunk_port + n}" for n in range(relay.shards)} <= trunks
    assert relay.admin_tcp in transceiver.relay_admin
    assert relay.trunk_keys == transceiver.trunk_keys
    assert relay.admin_token == transceiver.relay_admin_token
    assert relay.token_keys == gateway.token_keys
    assert gateway.control_token == transceiver.control_token
    replicas = named("StatefulSet")["transceiver"]["spec"]["replicas"]
    assert [one.id for one in gateway.transceivers] == [f"transceiver-{n}" for n in range(replicas)]
    port = transceiver.control_listen.rpartition(":")[2]
    assert all(one.control.endswith(f":{port}") for one in gateway.transceivers)
    assert {int(candidate.rpartition(":")[2]) for candidate in gateway.candidates} == {
        relay.listen[0].endpoint.port
    }


def test_the_secret_that_is_asked_for_is_explained() -> None:
    text = (FOLDER.parent / "README.md").read_text()
    for name in SECRETS:
        assert f"--from-literal={name}=" in text or f"--from-file={name}=" in text, name
