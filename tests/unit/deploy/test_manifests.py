"""The files for deployment: valid by their own schemas, and in line with what the sidecar does."""

import importlib.resources
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

from agent_trace_sidecar import cli
from agent_trace_sidecar.config import PREFIX, Config
from agent_trace_sidecar.limits import DRAIN_DEADLINE_S
from agent_trace_sidecar.telemetry import livez
from tests.support.markdown import section

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"
MANIFESTS: list[dict[str, Any]] = list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text()))
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
VERSIONS = sorted(
    entry.name.removeprefix("v").removesuffix("-local-strict")
    for entry in (importlib.resources.files(kubernetes_validate) / "kubernetes-json-schema").iterdir()
    if entry.name.endswith("-local-strict")
)


@pytest.mark.parametrize("version", [v for v in VERSIONS if tuple(map(int, v.split("."))) >= (1, 29, 0)])
@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda manifest: manifest["kind"])
def test_the_manifests_are_valid_since_the_first_version_with_native_sidecars(
    manifest: dict[str, Any], version: str
) -> None:
    """By the strict schemas: a field that is not known is an error."""
    kubernetes_validate.validate(manifest, version.rpartition(".")[0], strict=True)


def test_a_manifest_with_a_wrong_field_is_found() -> None:
    """So the test above looks at what it should."""
    wrong = {**MANIFESTS[0], "spec": {**MANIFESTS[0]["spec"], "gracePeriod": 1}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSIONS[-1].rpartition(".")[0], strict=True)


def test_the_compose_file_is_valid() -> None:
    """By the schema of the compose specification."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*command, str(DEPLOY / "compose.yaml")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_pod_runs_a_native_sidecar_that_sees_the_last_line() -> None:
    """Started first, stopped last, with time to drain, and without any right that it does not need."""
    spec = MANIFESTS[0]["spec"]
    (sidecar,) = spec["initContainers"]
    (opencode,) = spec["containers"]
    assert sidecar["restartPolicy"] == "Always"
    assert spec["terminationGracePeriodSeconds"] >= 3 * DRAIN_DEADLINE_S
    (logs,) = [mount for mount in sidecar["volumeMounts"] if mount["name"] == "logs"]
    assert logs in opencode["volumeMounts"]
    assert logs["mountPath"] in sidecar["args"]
    (project,) = [mount for mount in opencode["volumeMounts"] if mount["name"] == "project"]
    assert {**project, "readOnly": True} in sidecar["volumeMounts"]
    assert project["mountPath"] == opencode["workingDir"]
    assert sidecar["args"][-2:] == ["--worktree-root", project["mountPath"]]
    assert {"name": "AGENT_TRACE_LOG_DIR", "value": logs["mountPath"]} in opencode["env"]
    assert {"name": "logs", "emptyDir": {"sizeLimit": "2Gi"}} in spec["volumes"]
    jobs = [MANIFESTS[1]["spec"], MANIFESTS[2]["spec"]["jobTemplate"]["spec"]]
    pods = [job["template"]["spec"] for job in jobs]
    for container, security in [
        (sidecar, spec["securityContext"]),
        *((pod["containers"][0], pod["securityContext"]) for pod in pods),
    ]:
        assert security["runAsNonRoot"] is True
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert "runAsUser" not in sidecar["securityContext"]  # the pod's, which is OpenCode's: the logs are its own


def test_no_neighbour_in_a_network_comes_between_the_sidecar_and_its_probes() -> None:
    """They run in the container, as the image's own check; what listens beyond it is for Prometheus alone."""
    (sidecar,) = MANIFESTS[0]["spec"]["initContainers"]
    (check,) = re.findall(r"^HEALTHCHECK .*\\\n +CMD (\[.*\])$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    for name in ("startupProbe", "livenessProbe"):
        probe = sidecar[name]
        assert probe["exec"]["command"] == json.loads(check)
        assert "httpGet" not in probe
        assert probe["timeoutSeconds"] == livez.TIMEOUT_S
    (policy,) = [one["spec"] for one in MANIFESTS if one["kind"] == "NetworkPolicy"]
    assert policy["podSelector"]["matchLabels"] == MANIFESTS[0]["metadata"]["labels"]
    (rule,) = [one for one in policy["ingress"] if {"port": 9464} in one["ports"]]
    assert rule["from"]
    service = COMPOSE["services"]["sidecar"]
    assert "AGENT_TRACE_HTTP" not in service["environment"]
    assert "ports" not in service


def test_what_the_files_call_is_a_command() -> None:
    """With options that it has."""
    pods = [MANIFESTS[1]["spec"], MANIFESTS[2]["spec"]["jobTemplate"]["spec"]]
    called = [pod["template"]["spec"]["containers"][0]["args"] for pod in pods]
    called += [MANIFESTS[0]["spec"]["initContainers"][0]["args"], COMPOSE["services"]["sidecar"]["command"]]
    for arguments in called:
        assert cli.whole_parser().parse_args(arguments)
    assert COMPOSE["services"]["postgres"]["healthcheck"]["test"][:2] == ["CMD", "pg_isready"]


def test_the_compose_file_gives_the_sidecar_time_to_drain_and_no_rights() -> None:
    """And the user who writes the logs."""
    sidecar, opencode = COMPOSE["services"]["sidecar"], COMPOSE["services"]["opencode"]
    assert int(sidecar["stop_grace_period"].removesuffix("s")) >= 3 * DRAIN_DEADLINE_S
    assert sidecar["read_only"] is True
    assert sidecar["cap_drop"] == ["ALL"]
    assert sidecar["user"] == opencode["user"]
    assert sidecar["volumes"] == [opencode["volumes"][0], opencode["volumes"][1] + ":ro"]
    assert opencode["volumes"][1].endswith(":" + opencode["working_dir"])
    assert sidecar["command"][-2:] == ["--worktree-root", opencode["working_dir"]]
    assert opencode["environment"]["AGENT_TRACE_LOG_DIR"] in sidecar["command"]


@pytest.mark.parametrize("name", ["compose.yaml", "kubernetes.yaml"])
def test_every_setting_in_the_files_exists(name: str) -> None:
    """Variables of ours are settings; the others are parameters of the compose file itself."""
    text = re.sub(r"\$\{[^}]*\}|^ *#.*", "", (DEPLOY / name).read_text(), flags=re.MULTILINE)
    used = set(re.findall(rf"\b{PREFIX}(\w+)", text))
    assert used
    assert used <= {field.upper() for field in Config.__struct_fields__}


def test_the_image_s_lock_says_what_the_constraints_say() -> None:
    """The same versions with the same hashes, of a part of the packages."""

    def pins(path: Path) -> dict[str, tuple[str, ...]]:
        blocks = re.findall(r"^([\w-]+==\S+)(.*?)(?=^[\w-]+==|\Z)", path.read_text(), re.MULTILINE | re.DOTALL)
        return {pin: tuple(re.findall(r"sha256:\w+", rest)) for pin, rest in blocks}

    lock, constraints = pins(DEPLOY / "requirements.txt"), pins(ROOT / "constraints.txt")
    assert lock.items() <= constraints.items()
    names = {pin.partition("==")[0] for pin in lock}
    wanted = re.search(r"^dependencies = \[(.*?)^\]", (ROOT / "pyproject.toml").read_text(), re.MULTILINE | re.DOTALL)
    assert wanted
    assert set(re.findall(r'^    "([\w-]+)', wanted[1], re.MULTILINE)) | {"hatchling"} <= names
    assert not any("pgserver" in name or name == "pytest" for name in names)


def test_the_compose_file_says_what_the_documentation_says() -> None:
    """The same commands, in the same order, and every variable that has no default."""
    text = (DEPLOY / "compose.yaml").read_text()
    comment = [line[4:] for line in text.partition("name:")[0].splitlines() if line.startswith("#   ")]
    documented = (
        section(DEPLOY.parent / "docs" / "deployment.md", "Compose").partition("```sh\n")[2].partition("```")[0]
    )
    assert comment == [line for line in documented.splitlines() if line != "cd deploy"]
    required = set(re.findall(r"\$\{(\w+):\?", text))
    assert required == set(re.findall(r"(\w+)=", "\n".join(line for line in comment if line.startswith("export "))))
