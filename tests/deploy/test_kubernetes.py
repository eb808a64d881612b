"""The Kubernetes manifests: valid, closed, without privileges, and in step with the code that they run."""

import importlib.util
import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from gateway.settings import Settings, load
from monitoring.prometheus import __main__ as prometheus_rules
from monitoring.prometheus import operator
from tests.deploy.commands import unknown
from tests.deploy.kustomize import Object, build, normal, of_kind, pods, selects

KUBERNETES = Path(__file__).resolve().parents[2] / "deploy" / "kubernetes"
OVERLAYS = ["one-gpu", "fleet"]
SCHEMAS = Path(__file__).resolve().parents[1] / "data" / "kubernetes-1.29.json"
OPERATOR = "monitoring.coreos.com/v1"


@pytest.fixture(params=OVERLAYS)
def objects(request: pytest.FixtureRequest) -> list[Object]:
    """What an overlay makes."""
    return build(KUBERNETES / "overlays" / request.param)


@pytest.fixture
def fleet() -> list[Object]:
    """What the fleet's overlay makes."""
    return build(KUBERNETES / "overlays" / "fleet")


def name(each: Object) -> str:
    """Return what an object is called."""
    return str(each["metadata"]["name"])


def containers(objects: list[Object]) -> list[tuple[str, Object]]:
    """Return every container with the name of its pod's maker."""
    return [
        (maker, container) for maker, pod in pods(objects).items() for container in pod["spec"]["containers"]
    ]


def test_objects_fit_their_schemas(objects: list[Object]) -> None:
    """Every object is valid for Kubernetes, without a field that it does not know; names are unique."""
    seen = set()
    schemas = json.loads(SCHEMAS.read_text(encoding="utf-8"))
    for each in objects:
        key = (each["kind"], name(each))
        assert key not in seen
        seen.add(key)
        assert each["metadata"]["namespace"] == "turnout"
        if each["apiVersion"] != OPERATOR:
            definition = schemas["kinds"][f"{each['apiVersion']} {each['kind']}"]
            whole = {"$ref": f"#/definitions/{definition}", "definitions": schemas["definitions"]}
            faults = [fault.message for fault in Draft202012Validator(whole).iter_errors(each)]
            assert not faults, (key, faults)


def test_the_schemas_refuse_slips_of_the_pen(fleet: list[Object]) -> None:
    """A field that Kubernetes does not know, or of another type, is found."""
    schemas = json.loads(SCHEMAS.read_text(encoding="utf-8"))
    deployment = of_kind(fleet, "Deployment")[0]
    definition = schemas["kinds"]["apps/v1 Deployment"]
    whole = {"$ref": f"#/definitions/{definition}", "definitions": schemas["definitions"]}
    for slip in ({"enableServiceLink": False}, {"terminationGracePeriodSeconds": "soon"}):
        spec = {**deployment["spec"]["template"]["spec"], **slip}
        template = {**deployment["spec"]["template"], "spec": spec}
        wrong = {**deployment, "spec": {**deployment["spec"], "template": template}}
        assert list(Draft202012Validator(whole).iter_errors(wrong))


@pytest.mark.slow
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_kubectl_makes_the_same(overlay: str) -> None:
    """Where kubectl is installed, its kustomize makes of an overlay what these tests look at."""
    kubectl = shutil.which("kubectl") or pytest.skip("kubectl is not here")
    folder = KUBERNETES / "overlays" / overlay
    done = subprocess.run([kubectl, "kustomize", str(folder)], capture_output=True, text=True, check=True)
    theirs = {(each["kind"], name(each)): normal(each) for each in yaml.safe_load_all(done.stdout)}
    ours = {(each["kind"], name(each)): normal(each) for each in build(folder)}
    assert theirs == ours


def test_pods_have_no_privileges(objects: list[Object]) -> None:
    """No root, nothing written outside of volumes, no capability, no token, no escalation."""
    for maker, pod in pods(objects).items():
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is False, maker
        assert spec["securityContext"]["runAsNonRoot"] is True, maker
        assert spec["securityContext"]["runAsUser"] > 0, maker
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, maker
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys(), maker
        for volume in spec["volumes"]:
            assert "hostPath" not in volume, maker
            assert volume.get("emptyDir", {"sizeLimit": 1}).get("sizeLimit"), (maker, volume)
    for maker, container in containers(objects):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }, maker
        assert container["resources"]["limits"]["memory"], maker
        assert container["resources"]["requests"]["cpu"], maker


def test_images_are_named_with_a_version(objects: list[Object]) -> None:
    """No image is whatever is newest."""
    for maker, container in containers(objects):
        assert re.search(r":\d", container["image"]), (maker, container["image"])


def test_no_variable_is_taken_for_a_setting(objects: list[Object]) -> None:
    """Kubernetes makes no variables of our services' names, which begin like settings do."""
    assert all(pod["spec"]["enableServiceLinks"] is False for pod in pods(objects).values())


def test_what_has_a_port_has_probes(objects: list[Object]) -> None:
    """Every container that listens is watched, on a port that it has."""
    for maker, container in containers(objects):
        ports = {port["name"] for port in container.get("ports", ())}
        for probe in ("readinessProbe", "livenessProbe", "startupProbe"):
            if ports and probe != "startupProbe":
                assert probe in container, (maker, container["name"], probe)
            asked = container.get(probe, {}).get("httpGet")
            assert asked is None or asked["port"] in ports, (maker, probe)


def test_volumes_and_mounts_fit(objects: list[Object]) -> None:
    """What is mounted is there, and what is there is mounted."""
    for maker, pod in pods(objects).items():
        there = {volume["name"] for volume in pod["spec"]["volumes"]}
        workload = next(each for each in objects if name(each) == maker and "template" in each["spec"])
        there |= {name(claim) for claim in workload["spec"].get("volumeClaimTemplates", ())}
        mounted = {
            mount["name"] for container in pod["spec"]["containers"] for mount in container["volumeMounts"]
        }
        assert mounted == there, maker


def test_selectors_find_pods(objects: list[Object]) -> None:
    """Services, budgets and policies speak of pods that there are, services of ports that these have."""
    labels = {maker: pod["metadata"]["labels"] for maker, pod in pods(objects).items()}
    for service in of_kind(objects, "Service"):
        found = [
            maker for maker in labels if selects({"matchLabels": service["spec"]["selector"]}, labels[maker])
        ]
        assert len(found) == 1, name(service)
        ports = {
            port["name"]
            for maker, container in containers(objects)
            if maker == found[0]
            for port in container.get("ports", ())
        }
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports, name(service)
    for each in (*of_kind(objects, "PodDisruptionBudget"), *of_kind(objects, "NetworkPolicy")):
        selector = each["spec"].get("selector") or each["spec"]["podSelector"]
        assert any(selects(selector, each_labels) for each_labels in labels.values()), name(each)
    for workload in (*of_kind(objects, "Deployment"), *of_kind(objects, "StatefulSet")):
        assert selects(workload["spec"]["selector"], labels[name(workload)]), name(workload)
    budgets = {name(each) for each in of_kind(objects, "PodDisruptionBudget")}
    assert budgets == {"turnout-gateway", "turnout-controller", "turnout-engine"}


OUTSIDE = {
    "a stranger": ({"app": "x"}, "default"),
    "monitoring": ({"app": "prometheus"}, "monitoring"),
}


def reaches(objects: list[Object], caller: str, callee: str, port: int) -> bool:
    """Whether the policies let a pod, or somebody outside, open a connection to a port of a pod."""
    inside = {maker: pod["metadata"]["labels"] for maker, pod in pods(objects).items()}
    labels, namespace = OUTSIDE.get(caller) or (inside[caller], "turnout")
    policies = [each["spec"] for each in of_kind(objects, "NetworkPolicy")]

    def peer(one: dict[str, Any], labels: dict[str, str], namespace: str) -> bool:
        if "namespaceSelector" in one:
            wanted = one["namespaceSelector"].get("matchLabels", {})
            if wanted.get("kubernetes.io/metadata.name", namespace) != namespace:
                return False
        elif namespace != "turnout":
            return False
        return selects(one.get("podSelector", {}), labels)

    def lets(way: str, side: str, mine: dict[str, str], theirs: dict[str, str], where: str) -> bool:
        mattering = [
            each
            for each in policies
            if way.title() in each["policyTypes"] and selects(each["podSelector"], mine)
        ]
        rules = [rule for each in mattering for rule in each.get(way, ())]
        return not mattering or any(
            any(allowed["port"] == port for allowed in rule["ports"])
            and (side not in rule or any(peer(one, theirs, where) for one in rule[side]))
            for rule in rules
        )

    entering = lets("ingress", "from", inside[callee], labels, namespace)
    leaving = caller in OUTSIDE or lets("egress", "to", labels, inside[callee], "turnout")
    return entering and leaving


@pytest.mark.parametrize(
    ("callee", "port", "callers"),
    [
        ("turnout-engine", 8000, {"turnout-gateway", "turnout-controller"}),
        ("turnout-engine", 8100, {"turnout-controller", "monitoring"}),
        ("turnout-gateway", 8080, {"a stranger", "monitoring"}),
        ("turnout-gateway", 8081, {"monitoring"}),
        ("turnout-controller", 8000, set()),
        ("turnout-postgresql", 5432, {"turnout-gateway", "turnout-controller"}),
    ],
)
def test_who_reaches_whom(objects: list[Object], callee: str, port: int, callers: set[str]) -> None:
    """Nothing but gateways and controllers reaches an engine, and so on for every port."""
    makers = pods(objects).keys()
    if callee not in makers:
        assert callee == "turnout-postgresql"
        return
    # A gateway may open a connection to its own service's pods or not: nothing depends on it.
    found = {caller for caller in (*makers, *OUTSIDE) if reaches(objects, caller, callee, port)}
    assert found - {callee} == callers - {callee}


def test_commands_are_known(objects: list[Object]) -> None:
    """Every `turnout …` and each of its options exists."""
    ours = [
        [*container["command"], *container.get("args", ())]
        for _, container in containers(objects)
        if "turnout-gateway" in container["image"]
    ]
    assert {command[1] for command in ours} == {"worker", "controller", "agent"}
    assert [fault for command in ours for fault in unknown(command)] == []


def settings_of(objects: list[Object], maker: str, monkeypatch: pytest.MonkeyPatch, folder: Path) -> Settings:
    """Return the settings that a container of ours would have."""
    (config,) = of_kind(objects, "ConfigMap")
    file = folder / "turnout.toml"
    file.write_text(config["data"]["turnout.toml"], encoding="utf-8")
    for variable in pods(objects)[maker]["spec"]["containers"][0]["env"]:
        secret = "sqlite:///x.db" if "URL" in variable["name"] else "secret"
        monkeypatch.setenv(variable["name"], variable.get("value", secret))
    return load(file)


@pytest.mark.parametrize("maker", ["turnout-gateway", "turnout-controller"])
def test_settings_are_known(
    objects: list[Object], maker: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The settings file and every variable are understood, and fit the engines' arguments and mounts."""
    settings = settings_of(objects, maker, monkeypatch, tmp_path)
    spec = pods(objects)["turnout-engine"]["spec"]
    engine, agent = spec["containers"]
    flags = dict(argument.partition("=")[::2] for argument in engine["args"])
    assert flags["--served-model-name"] == settings.base.name
    assert int(flags["--max-loras"]) == settings.engine.max_loras
    assert int(flags["--max-cpu-loras"]) == settings.engine.max_cpu_loras
    assert int(flags["--max-lora-rank"]) == settings.engine.max_lora_rank
    assert flags["--quantization"] == settings.engine.quantization
    ports = {port["name"]: port["containerPort"] for port in agent["ports"]}
    assert ports["agent"] == settings.engine.agent_port
    options = dict(argument.partition("=")[::2] for argument in agent["args"])
    assert int(options["--port"]) == settings.engine.agent_port
    assert options["--root"] == settings.engine.adapter_root
    for container, read_only in ((engine, True), (agent, None)):
        mount = next(each for each in container["volumeMounts"] if each["name"] == "adapters")
        assert (mount["mountPath"], mount.get("readOnly")) == (settings.engine.adapter_root, read_only)
    (url,) = settings.engine.urls
    host, _, port = url.removeprefix("dns+http://").partition(":")
    service = next(each for each in of_kind(objects, "Service") if name(each) == host)
    assert service["spec"]["clusterIP"] == "None"
    assert int(port) in {each["port"] for each in service["spec"]["ports"]}
    grace = pods(objects)["turnout-gateway"]["spec"]["terminationGracePeriodSeconds"]
    assert grace > settings.server.drain_delay_s + settings.server.drain_timeout_s


def test_gateways_publish_where_agents_read(
    objects: list[Object], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An adapter that is added is put where every agent takes it from."""
    settings = settings_of(objects, "turnout-gateway", monkeypatch, tmp_path)
    agent = pods(objects)["turnout-engine"]["spec"]["containers"][1]
    variables = {each["name"]: each.get("value") for each in agent["env"]}
    assert variables["REGISTRY"] == settings.registry.publish_to
    assert "--registry=$(REGISTRY)" in agent["args"]


def test_gateways_grow_with_what_is_in_flight(fleet: list[Object]) -> None:
    """The autoscaler has a target whose number of pods nobody else sets, and a metric that docs explain."""
    (scaler,) = of_kind(fleet, "HorizontalPodAutoscaler")
    target = scaler["spec"]["scaleTargetRef"]
    deployment = next(each for each in of_kind(fleet, target["kind"]) if name(each) == target["name"])
    assert "replicas" not in deployment["spec"]
    (metric,) = scaler["spec"]["metrics"]
    docs = (KUBERNETES.parents[1] / "docs" / "deploy.md").read_text(encoding="utf-8")
    assert metric["pods"]["metric"]["name"] in docs


def test_prometheus_finds_what_rules_ask_for(fleet: list[Object]) -> None:
    """Monitors select services with the port that they name, under the jobs of our rules."""
    services = of_kind(fleet, "Service")
    jobs = set()
    for monitor in of_kind(fleet, "ServiceMonitor"):
        spec = monitor["spec"]
        assert spec.keys() <= {"jobLabel", "selector", "endpoints"}
        (service,) = [each for each in services if selects(spec["selector"], each["metadata"]["labels"])]
        labelled = service["metadata"]["labels"][spec["jobLabel"]]
        for endpoint in spec["endpoints"]:
            assert endpoint.keys() <= {"port", "path", "interval", "relabelings", "metricRelabelings"}
            assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
            renamed = [each for each in endpoint.get("relabelings", ()) if each["targetLabel"] == "job"]
            jobs.add(renamed[0]["replacement"] if renamed else labelled)
            for relabeling in (*endpoint.get("relabelings", ()), *endpoint.get("metricRelabelings", ())):
                assert relabeling.keys() <= {"sourceLabels", "targetLabel", "replacement", "regex", "action"}
    assert jobs == {"turnout", "vllm", "agent"}


def test_rules_are_current(fleet: list[Object]) -> None:
    """The operator's object is what `make dashboards` writes of our rules, in the form that it takes."""
    assert operator.FILE.read_text(encoding="utf-8") == prometheus_rules.rendered_for_clusters()
    (rule,) = of_kind(fleet, "PrometheusRule")
    assert rule["apiVersion"] == OPERATOR
    for group in rule["spec"]["groups"]:
        assert group.keys() <= {"name", "interval", "rules"}
        for each in group["rules"]:
            assert each.keys() <= {"alert", "record", "expr", "for", "labels", "annotations"}
            assert all(isinstance(value, str) for value in each.get("labels", {}).values())


def test_secrets_are_in_no_manifest(objects: list[Object]) -> None:
    """Secrets are referred to by name and key, and the comment that makes them names every key."""
    text = (KUBERNETES / "base" / "config.yaml").read_text(encoding="utf-8")
    text += (KUBERNETES.parents[1] / "docs" / "deploy.md").read_text(encoding="utf-8")
    assert of_kind(objects, "Secret") == []
    for _, container in containers(objects):
        for variable in container.get("env", ()):
            reference = variable.get("valueFrom", {}).get("secretKeyRef")
            if reference is not None:
                assert reference["name"] == "turnout"
                assert f"--from-literal={reference['key']}=" in text, reference
            else:
                assert not re.search("KEY|PASSWORD|TOKEN", variable["name"]), variable


def test_the_settings_file_is_toml() -> None:
    """The base's settings file is read as it stands."""
    (config,) = [
        each
        for each in yaml.safe_load_all((KUBERNETES / "base" / "config.yaml").read_text(encoding="utf-8"))
        if each["kind"] == "ConfigMap"
    ]
    assert tomllib.loads(config["data"]["turnout.toml"])["engine"]["agent_port"] == 8100


@pytest.mark.slow
def test_the_engine_s_options_are_vllm_s(objects: list[Object]) -> None:
    """Where vLLM is installed, its sources know every option that the engines are started with."""
    found = importlib.util.find_spec("vllm")
    if found is None or found.origin is None:
        pytest.skip("vLLM is not here")
    package = Path(found.origin).parent
    sources = [package / "engine" / "arg_utils.py", *(package / "entrypoints").rglob("*.py")]
    text = "".join(file.read_text(encoding="utf-8") for file in sources)
    engine = pods(objects)["turnout-engine"]["spec"]["containers"][0]
    for argument in engine["args"]:
        option = argument.partition("=")[0]
        assert option in text or option.removeprefix("--").replace("-", "_") in text, option
