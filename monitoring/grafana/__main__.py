"""`python -m monitoring.grafana`: write the dashboards as JSON, as Grafana's provisioning reads them."""

from pathlib import Path

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
    encoder = JSONEncoder(sort_keys=True, indent=1)
    return {f"{name}.json": encoder.encode(page) + "\n" for name, page in pages.items()}


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, content in rendered().items():
        (FOLDER / name).write_text(content, encoding="utf-8")
