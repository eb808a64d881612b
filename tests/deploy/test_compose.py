"""deploy/compose: complete, closed, and in step with the code and the configuration that it mounts."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.settings import load
from tests.deploy.commands import unknown

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "compose"
# Of the Compose specification, what is used here; a slip of the pen is none of these.
SERVICE_KEYS = {
    "image", "build", "command", "entrypoint", "environment", "volumes", "networks", "ports", "read_only",
    "tmpfs", "cap_drop", "security_opt", "restart", "init", "depends_on", "stop_grace_period",
    "healthcheck", "deploy", "shm_size", "user",
}  # fmt: skip
HEALTH_KEYS = {"test", "interval", "timeout", "retries", "start_period", "disable"}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """The file."""
    found: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))
    return found


def test_the_parts_are_there(compose: dict[str, Any]) -> None:
    """Gateway, controller, engine, database and what watches them, with keys that Compose knows."""
    assert compose["services"].keys() == {
        *("engine", "gateway", "controller", "postgresql", "prometheus", "alertmanager", "grafana")
    }
    assert compose.keys() == {"name", "x-turnout", "services", "networks", "volumes"}
    for name, service in compose["services"].items():
        assert service.keys() <= SERVICE_KEYS, name
        assert service.get("healthcheck", {}).keys() <= HEALTH_KEYS, name
        assert "build" in service or re.search(r":v?\d", service["image"]), name
        if "build" in service:
            context = FOLDER / service["build"]["context"]
            assert (context / service["build"].get("dockerfile", "Dockerfile")).is_file(), name


def test_what_is_named_is_there(compose: dict[str, Any]) -> None:
    """Networks, volumes, services that others wait for, and files that are mounted."""
    used: set[str] = set()
    for name, service in compose["services"].items():
        assert set(service["networks"]) <= compose["networks"].keys(), name
        waits = service.get("depends_on", ())
        assert set(waits) <= compose["services"].keys(), name
        for other in waits:
            if isinstance(waits, dict) and waits[other]["condition"] == "service_healthy":
                assert "healthcheck" in compose["services"][other] or other == "gateway", (name, other)
        for mount in service.get("volumes", ()):
            source = re.sub(r"\$\{[^}]*\}", "/given", mount).split(":")[0]
            if source.startswith("."):
                assert (FOLDER / source).exists(), (name, source)
            elif not source.startswith("/"):
                used.add(source)
    assert used == compose["volumes"].keys()


def test_what_is_reached_from_outside(compose: dict[str, Any]) -> None:
    """Ports are this host's loopback's alone; engine and database have none, and no way out."""
    for name, service in compose["services"].items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ())), name
    for name in ("engine", "postgresql", "controller"):
        service = compose["services"][name]
        assert "ports" not in service, name
        assert all(compose["networks"][network]["internal"] for network in service["networks"]), name
    beside_engine = {
        name for name, service in compose["services"].items() if "engines" in service["networks"]
    }
    assert beside_engine == {"engine", "gateway", "controller", "prometheus"}
    beside_data = {name for name, service in compose["services"].items() if "data" in service["networks"]}
    assert beside_data == {"gateway", "controller", "postgresql"}


def test_containers_have_no_privileges(compose: dict[str, Any]) -> None:
    """Read-only and without capabilities; the engine can't write adapters."""
    for name in ("engine", "gateway", "controller", "prometheus", "alertmanager"):
        service = compose["services"][name]
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
    assert "adapters:/adapters:ro" in compose["services"]["engine"]["volumes"]


@pytest.mark.parametrize("name", ["gateway", "controller"])
def test_settings_are_known(
    compose: dict[str, Any], name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Commands exist, every variable is understood, and they fit the engine's arguments."""
    monkeypatch.chdir(tmp_path)
    service = compose["services"][name]
    assert unknown(service["entrypoint"]) == []
    for variable, value in service["environment"].items():
        monkeypatch.setenv(variable, re.sub(r"\$\{[^}]*\}", "given", value))
    settings = load()
    flags = dict(argument.partition("=")[::2] for argument in compose["services"]["engine"]["command"])
    assert json.loads(service["environment"]["TURNOUT_ENGINE__URLS"]) == list(settings.engine.urls)
    assert int(flags["--max-loras"]) == settings.engine.max_loras
    assert int(flags["--max-cpu-loras"]) == settings.engine.max_cpu_loras
    assert int(flags["--max-lora-rank"]) == settings.engine.max_lora_rank
    assert settings.engine.adapter_root == "/adapters"
    assert f"adapters:{settings.state_dir}/adapters" in service["volumes"]


def test_every_variable_is_in_the_example(compose: dict[str, Any]) -> None:
    """What has to be given is asked for in example.env, and nothing else is."""
    text = (FOLDER / "compose.yaml").read_text(encoding="utf-8")
    asked = {match for match in re.findall(r"\$\{([A-Z_]+)", text) if compose}
    given = set(
        re.findall(r"^([A-Z_]+)=", (FOLDER / "example.env").read_text(encoding="utf-8"), re.MULTILINE)
    )
    assert asked == given


def test_prometheus_scrapes_what_rules_ask_for(compose: dict[str, Any]) -> None:
    """Its jobs are those of our rules, its targets services of this file, and it sends alerts on."""
    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text(encoding="utf-8"))
    assert {job["job_name"] for job in config["scrape_configs"]} == {"turnout", "vllm"}
    entries = [entry for job in config["scrape_configs"] for entry in job["static_configs"]]
    entries += config["alerting"]["alertmanagers"][0]["static_configs"]
    hosts = {target.partition(":")[0] for entry in entries for target in entry["targets"]}
    assert hosts == {"gateway", "engine", "alertmanager"}
    assert hosts <= compose["services"].keys()
    alerts = yaml.safe_load((FOLDER / "alertmanager.yml").read_text(encoding="utf-8"))
    assert alerts["route"]["receiver"] in {receiver["name"] for receiver in alerts["receivers"]}
