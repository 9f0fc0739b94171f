"""Kubernetes manifests: valid for the API, restricted, and true to the code in each command, variable and port."""

from __future__ import annotations

import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import kubernetes_validate
import pytest
import yaml

from streams.settings import Settings
from tests.deploy.known import (
    CLOSING,
    CONSUMERS,
    DATABASE,
    LEAST_WATCHDOG,
    PORTS,
    RELAY,
    ROOT,
    is_there,
    variables,
)

FOLDER: Final = ROOT / "deploy" / "kubernetes"
VERSIONS: Final = ("1.29", "1.32")
KUSTOMIZATION: Final = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())


def _documents() -> Iterator[tuple[Path, dict[str, Any]]]:
    for path in sorted(FOLDER.glob("*.yaml")):
        if path.name != "kustomization.yaml":
            for document in yaml.safe_load_all(path.read_text()):
                yield path, document


DOCUMENTS: Final = list(_documents())


def _of(*kinds: str) -> list[dict[str, Any]]:
    return [document for _, document in DOCUMENTS if document["kind"] in kinds]


def _pod(document: dict[str, Any]) -> dict[str, Any]:
    spec = document["spec"]
    if document["kind"] == "CronJob":
        spec = spec["jobTemplate"]["spec"]
    pod: dict[str, Any] = spec["template"]["spec"]
    return pod


def _name(document: dict[str, Any]) -> str:
    return str(document["metadata"].get("name") or document["metadata"]["generateName"])


def _labels(document: dict[str, Any]) -> Any:
    return document["spec"]["template"]["metadata"]["labels"].items()


DEPLOYMENTS: Final = _of("Deployment")
PODS: Final = [(_name(document), _pod(document)) for document in _of("Deployment", "CronJob", "Job")]
CONFIG: Final = _of("ConfigMap")[0]["data"]
pods = pytest.mark.parametrize(("name", "pod"), PODS, ids=[name for name, _ in PODS])
deployments = pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=_name)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("path", "document"), DOCUMENTS, ids=[f"{document['kind']}-{_name(document)}" for _, document in DOCUMENTS]
)
def test_the_api_accepts_it(path: Path, document: dict[str, Any], version: str) -> None:
    """Strictly: a misspelt field would be dropped in silence."""
    kubernetes_validate.validate(document, version, strict=True)


def test_a_misspelt_field_is_found() -> None:
    """Of the test above: it can fail."""
    document = yaml.safe_load(yaml.safe_dump(DEPLOYMENTS[0]))
    _pod(document)["terminationGracePeriodsSeconds"] = 1
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(document, VERSIONS[-1], strict=True)


def test_each_process_is_deployed_and_each_file_is_in_the_kustomization() -> None:
    """The links server is not: in Kubernetes files are in S3, which serves them itself. The upgrade is run by hand."""
    commands = {tuple(_pod(document)["containers"][0]["args"]) for document in DEPLOYMENTS}

    assert commands == {("python", "-m", module) for module in (*CONSUMERS, RELAY)}
    assert set(KUSTOMIZATION["resources"]) == {path.name for path, _ in DOCUMENTS} - {"database-upgrade.yaml"}
    assert CONFIG["STORAGE_URL"].startswith("s3://")


def test_the_image_is_that_of_this_version() -> None:
    """Every container has it."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]

    assert [image["newTag"] for image in KUSTOMIZATION["images"]] == [version]
    assert {pod["containers"][0]["image"] for _, pod in PODS} == {KUSTOMIZATION["images"][0]["name"]}


@pods
def test_commands_variables_and_secrets_are_those_of_the_code(name: str, pod: dict[str, Any]) -> None:
    """Each variable is a setting, each secret's file is mounted, and none is a literal."""
    (container,) = pod["containers"]
    program, *arguments = container["args"]
    if program == "python":
        assert arguments[0] == "-m"
        assert arguments[1] == DATABASE or is_there(arguments[1])
        assert is_there(arguments[1])
    else:
        assert container["args"] == ["streams", "doctor"]
    environment = {each["name"]: each.get("value") for each in container["env"]}
    assert set(environment) | set(CONFIG) <= variables()
    assert container["envFrom"] == [{"configMapRef": {"name": "planning-bord"}}]
    (secret,) = [volume["secret"] for volume in pod["volumes"] if "secret" in volume]
    (mounted,) = [each["mountPath"] for each in container["volumeMounts"] if each["name"] == "secrets"]
    files = {f"{mounted}/{item['path']}" for item in secret["items"]}
    assert {value for variable, value in environment.items() if variable.endswith("_FILE")} == files
    assert not [
        variable for variable, value in environment.items() if value and variable.endswith(("PASSWORD", "SECRET"))
    ]
    assert not [name for name in CONFIG if name.endswith(("PASSWORD", "SECRET", "KEY"))]
    if "REDIS_USERNAME" in environment:
        assert environment["REDIS_PASSWORD_FILE"].endswith(f"/redis-{environment['REDIS_USERNAME']}-password")


@pods
def test_a_pod_is_restricted(name: str, pod: dict[str, Any]) -> None:
    """As the namespace's pod security standard asks, with limits, and without a token of the cluster."""
    (container,) = pod["containers"]

    assert _of("Namespace")[0]["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False, "a service named redis would set REDIS_PORT to a URL"
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert f"--uid {pod['securityContext']['runAsUser']}" in (ROOT / "Dockerfile").read_text()
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    assert {"cpu", "memory"} <= container["resources"]["limits"].keys()
    assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
    assert "/run/streams" in [each["mountPath"] for each in container["volumeMounts"]]


@deployments
def test_a_deployment_is_probed_and_has_time_to_stop(deployment: dict[str, Any]) -> None:
    """By the file that the process writes. It is not ended for being blocked before it ends by itself."""
    pod = _pod(deployment)
    (container,) = pod["containers"]
    file = CONFIG["STREAMS_STATE_FILE"]

    assert pod["terminationGracePeriodSeconds"] >= float(CONFIG["STREAMS_GRACE"]) + CLOSING
    assert container["readinessProbe"]["exec"]["command"] == ["grep", "-q", "ready", file]
    assert container["livenessProbe"]["exec"]["command"][-1] == f'[ -n "$(find {file} -mmin -2)" ]'
    assert LEAST_WATCHDOG < 120
    assert (
        deployment["spec"]["selector"]["matchLabels"].items()
        <= deployment["spec"]["template"]["metadata"]["labels"].items()
    )
    budgets = [each["spec"] for each in _of("PodDisruptionBudget") if _name(each) == _name(deployment)]
    assert [budget["selector"] for budget in budgets] == [deployment["spec"]["selector"]]
    assert deployment["spec"]["replicas"] > budgets[0]["maxUnavailable"]


def test_the_network_is_closed_but_for_ports_of_the_code() -> None:
    """Nothing comes in; what goes out is a port that a process uses."""
    policies = _of("NetworkPolicy")
    ports = {port["port"] for policy in policies for rule in policy["spec"]["egress"] for port in rule["ports"]}

    assert ports == set(PORTS.values()) - {PORTS["links"]}
    everything = policies[0]["spec"]
    assert everything["ingress"] == []
    assert set(everything["policyTypes"]) == {"Ingress", "Egress"}
    for document in DEPLOYMENTS:
        assert (
            everything["podSelector"]["matchLabels"].items()
            <= document["spec"]["template"]["metadata"]["labels"].items()
        )
    named = {
        name
        for policy in policies[1:]
        for each in policy["spec"]["podSelector"]["matchExpressions"]
        for name in each["values"]
    }
    assert named == {_name(document) for document in DEPLOYMENTS}


def test_the_configuration_is_one_that_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the settings of the engine, as a pod reads them."""
    for name, value in CONFIG.items():
        monkeypatch.setenv(name, value)

    settings = Settings()
    assert settings.url() == CONFIG["REDIS_URL"]
    assert str(settings.state_file) == CONFIG["STREAMS_STATE_FILE"]


@pytest.mark.skipif(not shutil.which("kubectl"), reason="no kubectl")
def test_kustomize_builds_it() -> None:
    """All of it, in its namespace."""
    built = subprocess.run(["kubectl", "kustomize", str(FOLDER)], capture_output=True, text=True, check=True)
    made = list(yaml.safe_load_all(built.stdout))

    assert len(made) == len([path for path, _ in DOCUMENTS if path.name != "database-upgrade.yaml"])
    assert {each["metadata"].get("namespace") for each in made if each["kind"] != "Namespace"} == {"planning-bord"}
