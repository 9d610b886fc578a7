"""Renders the chart for what its users set, and checks what comes out: by `helm lint`, by Kubernetes' own schemas of an old and a new
version, and by what the ingress and its pods need. `./x chart` runs this; HELM is the helm command."""

import os
import subprocess
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

HERE = Path(__file__).parent
CHART = HERE / "livekit-ingress"
SAMPLE = HERE.parent.parent / "config-sample.yaml"
HELM = os.environ["HELM"]

# A helm that is built from its module takes Kubernetes for an old one unless it is told.
NEEDED = ["--kube-version", "1.30.0", "--set", "config.ws_url=wss://livekit.example.com", "--set", "config.redis.address=redis:6379"]
WAYS = {
    "least": [],
    "secrets": ["--set", "apiSecretName=keys,rtmpsSecretName=tls,whipTlsSecretName=tls"],
    "host-port": ["--set", "network=hostPort,readiness=available"],
    "no-whip": ["--set", "network=none,config.whip_port=-1"],
    "scaled": ["--set", "autoscaling.enabled=true,podDisruptionBudget.enabled=true", "--set-string", "autoscaling.targetBusy=500m"],
    "many": [
        "--set", "service.type=ClusterIP,serviceAccountName=a,priorityClassName=b,imagePullSecrets[0].name=c,podAnnotations.x=y,nodeSelector.x=y",
        "--set", "tolerations[0].key=x,affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution=null",
    ],
}


def helm(*arguments, check=True):
    # No configuration of this machine's user plays a part.
    home = {name: "/nonexistent" for name in ("HELM_CONFIG_HOME", "HELM_CACHE_HOME", "HELM_DATA_HOME")}
    return subprocess.run([HELM, *arguments], capture_output=True, text=True, timeout=60, check=check, env={**os.environ, **home})


def rendered(*options, name="live"):
    """What the chart makes, by kind."""
    done = helm("template", name, CHART, *NEEDED, *options, check=False)
    assert done.returncode == 0, done.stderr
    return {document["kind"]: document for document in yaml.safe_load_all(done.stdout) if document}


def pod(made):
    return made["Deployment"]["spec"]["template"]["spec"]


def config(made):
    return yaml.safe_load(made["Secret"]["stringData"]["config.yaml"])


@pytest.mark.parametrize("way", WAYS)
def test_lint(way):
    done = helm("lint", "--strict", CHART, *NEEDED, *WAYS[way], check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("version", ["1.27", "1.34"])
@pytest.mark.parametrize("way", WAYS)
def test_kubernetes_takes_it(way, version):
    made = rendered(*WAYS[way])
    assert {"Deployment", "Secret"} <= set(made)
    for document in made.values():
        kubernetes_validate.validate(document, version, strict=True)


@pytest.mark.parametrize("way", WAYS)
def test_the_ingress_knows_every_key(way):
    """Each key of the configuration stands in config-sample.yaml."""

    def unknown(given, known, at=""):
        for key, value in given.items():
            if key not in known:
                yield at + key
            elif isinstance(value, dict) and isinstance(known[key], dict):
                yield from unknown(value, known[key], f"{at}{key}.")

    assert list(unknown(config(rendered(*WAYS[way])), yaml.safe_load(SAMPLE.read_text()))) == []


@pytest.mark.parametrize("way", WAYS)
def test_nothing_is_privileged(way):
    spec = pod(rendered(*WAYS[way]))
    [container] = spec["containers"]
    inner = container["securityContext"]
    assert spec["securityContext"]["runAsNonRoot"] and not spec["automountServiceAccountToken"]
    assert inner["capabilities"] == {"drop": ["ALL"]} and inner["readOnlyRootFilesystem"] and not inner["allowPrivilegeEscalation"]


def test_liveness_asks_the_process_alone():
    """livekit-helm issue 166."""
    for way in WAYS.values():
        [container] = pod(rendered(*way))["containers"]
        assert container["livenessProbe"]["httpGet"] == {"path": "/", "port": "health"}


def test_ports_follow_the_configuration():
    made = rendered(*WAYS["secrets"], "--set", "config.rtmp_port=1940")
    named = {p["name"]: p["port"] for p in made["Service"]["spec"]["ports"]}
    assert named == {"rtmp": 1940, "rtmps": 1936, "whip": 8080, "whip-tls": 8443}
    [container] = pod(made)["containers"]
    assert named.items() <= {p["name"]: p["containerPort"] for p in container["ports"]}.items()
    assert (config(made)["rtmp_port"], config(made)["rtmps_port"]) == (1940, 1936)
    assert {p["name"] for p in rendered(*WAYS["no-whip"])["Service"]["spec"]["ports"]} == {"rtmp"}


def test_media_reaches_the_pod():
    for way, host_network, host_port in (("least", True, None), ("host-port", None, 7885)):
        spec = pod(rendered(*WAYS[way]))
        [media] = [p for p in spec["containers"][0]["ports"] if p["name"] == "media"]
        assert (spec.get("hostNetwork"), media.get("hostPort"), media["protocol"]) == (host_network, host_port, "UDP")


def test_certificates_are_mounted_where_the_configuration_looks():
    made = rendered(*WAYS["secrets"])
    mounts = {m["mountPath"] for m in pod(made)["containers"][0]["volumeMounts"]}
    for key in ("rtmps_cert_file", "rtmps_key_file", "whip_tls_cert_file", "whip_tls_key_file"):
        assert str(Path(config(made)[key]).parent) in mounts, key


def test_a_pod_lives_as_long_as_it_drains():
    made = rendered("--set", "drainSeconds=100")
    assert config(made)["drain_timeout"] == "100s" and pod(made)["terminationGracePeriodSeconds"] == 160


def test_a_changed_configuration_makes_new_pods():
    sums = {rendered(*more)["Deployment"]["spec"]["template"]["metadata"]["annotations"]["checksum/config"] for more in ((), ("--set", "config.rtmp_port=1"))}
    assert len(sums) == 2


@pytest.mark.parametrize(
    "options,word",
    [
        (["--set", "config.ws_url=livekit"], "ws_url"),
        (["--set", "network=bridge"], "network"),
        (["--set", "replicas=3"], "replicas"),
        (["--set", "config.health_port=0"], "health_port"),
        (["--set", "autoscaling.enabled=true,autoscaling.targetCPUUtilizationPercentage=0"], "targetBusy"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_wrong_values_are_refused(options, word):
    done = helm("template", "live", CHART, *NEEDED, *options, check=False)
    assert done.returncode != 0 and word in done.stderr, done


def test_values_for_livekits_chart():
    """They set what that chart has, and keys that the ingress knows."""
    values = yaml.safe_load((HERE / "livekit-chart-values.yaml").read_text())
    assert set(values) <= {"image", "terminationGracePeriodSeconds", "ingress", "podSecurityContext", "securityContext"}
    assert set(values["ingress"]) <= set(yaml.safe_load(SAMPLE.read_text()))
    assert values["image"]["tag"] == yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]


def test_the_versions_are_the_programs():
    workspace = (HERE.parent.parent / "Cargo.toml").read_text()
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert f'version = "{chart["appVersion"]}"' in workspace
