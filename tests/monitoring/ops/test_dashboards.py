"""The dashboards as Grafana will read them: current, described, linked, laid out."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from monitoring.grafana.__main__ import FOLDER, rendered
from tests.monitoring.ops import shown

PAGES = shown.dashboards()
BUILT_IN = {"__rate_interval", "__range", "__interval", "__url_time_range", "__field"}


def test_they_are_current() -> None:
    """The JSON files are what the modules say; `make dashboards` writes them."""
    assert {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.json")} == rendered()


@pytest.mark.parametrize("name", PAGES)
def test_every_panel_explains_itself(name: str) -> None:
    """Every panel has a title of its own, a description and a unit, and each query its own legend."""
    titles = [panel["title"] for panel in shown.panels(PAGES[name])]
    assert len(set(titles)) == len(titles)
    for panel in shown.panels(PAGES[name]):
        assert len(panel["description"]) > 20, panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert len({target.get("legendFormat") for target in panel["targets"]}) == len(panel["targets"])


@pytest.mark.parametrize("name", PAGES)
def test_nothing_overlaps(name: str) -> None:
    """Panels lie beside and below each other within the grid's 24 columns."""
    taken: set[tuple[int, int]] = set()
    for panel in PAGES[name]["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24, panel["title"]
        taken |= cells


@pytest.mark.parametrize("name", PAGES)
def test_variables_are_defined(name: str) -> None:
    """Every variable that a query or a link uses is one of the dashboard's."""
    defined = {variable["name"] for variable in PAGES[name]["templating"]["list"]} | BUILT_IN
    used = set(re.findall(r"\$\{?(\w+)\}?", str([PAGES[name]["panels"], PAGES[name]["annotations"]])))
    assert used <= defined


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name: str) -> None:
    """Links to runbooks name pages that exist, and every dashboard leads to all others by their tag."""
    links = [link for panel in shown.panels(PAGES[name]) for link in panel.get("links") or ()]
    for link in [*links, PAGES[name]["links"][1]]:
        page = re.fullmatch(r"\$\{runbooks\}/([\w-]+)\.md", link["url"])
        assert page is not None
        assert (shown.RUNBOOKS / f"{page[1]}.md").exists(), link
    assert PAGES[name]["links"][0]["tags"] == PAGES[name]["tags"] == ["turnout"]


@pytest.mark.parametrize("name", PAGES)
def test_curves_lead_to_other_pages(name: str) -> None:
    """A curve's own link names a dashboard that exists, one of its variables, and a label of the legend."""
    by_uid = {page["uid"]: page for page in PAGES.values()}
    for panel in shown.panels(PAGES[name]):
        for link in panel["fieldConfig"]["defaults"].get("links", ()):
            uid, variable, label = re.findall(
                r"/d/([\w-]+)\?.*&var-(\w+)=\$\{__field.labels.(\w+)\}", link["url"]
            )[0]
            assert variable in {each["name"] for each in by_uid[uid]["templating"]["list"]}
            assert all(f"{{{{{label}}}}}" in target["legendFormat"] for target in panel["targets"])


def test_provisioning_reads_them() -> None:
    """The provisioning files are valid, and the data source is of the kind that the dashboards ask for."""
    folder = shown.ROOT / "monitoring" / "grafana" / "provisioning"
    source = _yaml(folder / "datasources" / "turnout.yaml")["datasources"][0]
    provider = _yaml(folder / "dashboards" / "turnout.yaml")["providers"][0]
    assert (source["type"], provider["type"]) == ("prometheus", "file")
    config = _yaml(shown.PROMETHEUS / "prometheus.yml")
    assert source["jsonData"]["timeInterval"] == config["global"]["scrape_interval"]
    assert [job["job_name"] for job in config["scrape_configs"]] == ["turnout", "vllm", "agent"]


def _yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))
