"""Every query that people see: panels, variables and annotations of the dashboards, rules, runbooks."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[3]
DASHBOARDS = ROOT / "monitoring" / "grafana" / "dashboards"
PROMETHEUS = ROOT / "monitoring" / "prometheus"
RUNBOOKS = ROOT / "docs" / "runbooks"
_TOKEN = re.compile(r"\bturnout[_:][a-z_:0-9]*[a-z0-9]")
_LABELS = re.compile(r"\{\{\s*(?:\$labels\.)?(\w+)")


@dataclass(frozen=True)
class Query:
    """A query and where it stands; `told` are the labels that its legend or its texts name."""

    where: str
    text: str
    told: frozenset[str] = frozenset()
    now: bool = False


def dashboards() -> dict[str, dict[str, Any]]:
    """The dashboards by the name of their file."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(DASHBOARDS.glob("*.json"))}


def panels(page: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The panels of a dashboard, rows left out."""
    for panel in page["panels"]:
        yield from panel.get("panels", ())
        if panel["type"] != "row":
            yield panel


def panel_queries(name: str, page: dict[str, Any]) -> Iterator[Query]:
    """The queries of a dashboard's panels and of its annotations."""
    for panel in panels(page):
        for target in panel.get("targets", ()):
            told = frozenset(re.findall(r"\{\{(\w+)\}\}", target.get("legendFormat", "")))
            where = f"{name}: {panel['title']} {target['refId']}"
            yield Query(where, target["expr"], told, bool(target.get("instant")))
    for annotation in page["annotations"]["list"]:
        told = frozenset(annotation["tagKeys"].split(","))
        yield Query(f"{name}: annotation {annotation['name']}", annotation["expr"], told)


def variables(page: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The metric and the label of each variable that is looked up."""
    for variable in page["templating"]["list"]:
        if variable["type"] == "query":
            found = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]["query"])
            assert found is not None, variable
            yield found[1], found[2]


@cache
def rules() -> tuple[tuple[str, dict[str, Any]], ...]:
    """Every rule with its file's name."""
    return tuple(
        (path.name, rule)
        for path in sorted((PROMETHEUS / "rules").glob("*.yaml"))
        for group in yaml.safe_load(path.read_text())["groups"]
        for rule in group["rules"]
    )


def alerts() -> dict[str, list[dict[str, Any]]]:
    """The alerting rules by name."""
    found: dict[str, list[dict[str, Any]]] = {}
    for _, rule in rules():
        if "alert" in rule:
            found.setdefault(rule["alert"], []).append(rule)
    return found


def rule_queries() -> Iterator[Query]:
    """The expressions of the rules; `told` are the labels in an alert's texts, but those that it sets."""
    for file, rule in rules():
        name = rule.get("alert") or rule["record"]
        texts = " ".join(rule.get("annotations", {}).values())
        told = frozenset(re.findall(r"\$labels\.(\w+)", texts)) - rule.get("labels", {}).keys()
        yield Query(f"{file}: {name}", rule["expr"], told)


def pages() -> dict[str, str]:
    """The runbooks, and the page about operations, by name."""
    found = {path.stem: path.read_text() for path in sorted(RUNBOOKS.glob("*.md"))}
    return {**found, "operations": (ROOT / "docs" / "operations.md").read_text()}


def page_queries() -> Iterator[Query]:
    """The queries in the pages."""
    for name, text in pages().items():
        for block in re.findall(r"```promql\n(.*?)```", text, re.DOTALL):
            yield Query(f"{name}.md", " ".join(block.split()))


def named_in_pages() -> dict[str, set[str]]:
    """The metrics that pages name in their text, and where."""
    found: dict[str, set[str]] = {}
    for name, text in pages().items():
        for token in _TOKEN.findall(text):
            found.setdefault(token, set()).add(name)
    return found
