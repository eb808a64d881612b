"""The rules as an object of the Prometheus operator: deploy/kubernetes/overlays/fleet/rules.yaml."""

from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).resolve().parent
FILE = HERE.parents[1] / "deploy" / "kubernetes" / "overlays" / "fleet" / "rules.yaml"


def prometheus_rule() -> dict[str, Any]:
    """Return the object: every group of every file under `rules`, in their order."""
    groups = [
        group
        for file in sorted((HERE / "rules").glob("*.yaml"))
        for group in yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]
    ]
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "turnout", "labels": {"app.kubernetes.io/part-of": "turnout"}},
        "spec": {"groups": groups},
    }
