"""`python -m monitoring.grafana`: write the dashboards as JSON, as Grafana's provisioning reads them."""

import json
from pathlib import Path
from typing import Any

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from monitoring.grafana import adapter, drift, engine, experiment, fleet

FOLDER = Path(__file__).resolve().parent / "dashboards"


def rendered() -> dict[str, str]:
    """Return the content of each file by its name."""
    pages = {
        "fleet": fleet.dashboard(),
        "adapter": adapter.dashboard(),
        "experiment": experiment.dashboard(),
        "drift": drift.dashboard(),
        "engine": engine.dashboard(),
    }
    return {f"{name}.json": _written(page) for name, page in pages.items()}


def _written(page: object) -> str:
    plain = json.loads(JSONEncoder().encode(page))
    return json.dumps(_in_sight(plain), indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _in_sight(value: Any) -> Any:
    """Leave out where links and annotations are placed: the SDK's default hides them in a menu."""
    if isinstance(value, list):
        return [_in_sight(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {key: _in_sight(each) for key, each in value.items() if each != "inControlsMenu"}


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, content in rendered().items():
        (FOLDER / name).write_text(content, encoding="utf-8")
