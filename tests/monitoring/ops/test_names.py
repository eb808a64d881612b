"""Dashboards, rules and runbooks name what the code exports, and all that it exports is to be seen."""

from collections.abc import Mapping
from itertools import chain
from pathlib import Path

import pytest

from tests.monitoring.ops import exported, promql, shown
from tests.monitoring.ops.promql import Wrong


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> dict[str, exported.Labels]:
    """Every metric with its labels, recorded ones included."""
    found = exported.everything(tmp_path_factory.mktemp("state"))
    for _, rule in shown.rules():
        if "record" in rule:
            own = frozenset(rule.get("labels", {}))
            before = found.get(rule["record"], frozenset())
            found[rule["record"]] = before | own | promql.labels(promql.parse(rule["expr"]), found)
    return found


def _queries() -> list[shown.Query]:
    pages = (shown.panel_queries(name, page) for name, page in shown.dashboards().items())
    return [*chain.from_iterable(pages), *shown.rule_queries(), *shown.page_queries()]


def test_queries_name_what_there_is(known: Mapping[str, exported.Labels]) -> None:
    """Every metric and label of every panel, annotation, rule and runbook is exported, legends included."""
    wrong = []
    for query in _queries():
        try:
            labels = promql.labels(promql.parse(query.text), known)
            if missing := query.told - labels:
                wrong.append(f"{query.where}: its text names {sorted(missing)}")
        except Wrong as error:
            wrong.append(f"{query.where}: {error}")
    assert not wrong, "\n".join(wrong)


def test_queries_ask_for_values_that_there_are() -> None:
    """Where a label has a closed set of values, nothing asks for another one."""
    for query in _queries():
        for metric, label, value in promql.matched(promql.parse(query.text)):
            assert value in exported.VALUES.get((metric, label), (value,)), query.where


def test_variables_name_what_there_is(known: Mapping[str, exported.Labels]) -> None:
    """Every variable is looked up in a label that exists, and every variable that is used is defined."""
    for name, page in shown.dashboards().items():
        for metric, label in shown.variables(page):
            assert label in known[metric], (name, metric, label)


def test_pages_name_what_there_is(known: Mapping[str, exported.Labels]) -> None:
    """Every metric that a runbook names is exported or recorded."""
    families = {
        name.removesuffix(end) for name in known for end in ("", "_total", "_bucket", "_count", "_sum")
    }
    unknown = {token: where for token, where in shown.named_in_pages().items() if token not in families}
    assert not unknown


def test_everything_is_shown(tmp_path: Path) -> None:
    """Every metric that gateway and agent export stands on a panel, in a rule or in a runbook."""
    named = set(chain.from_iterable(promql.names(promql.parse(query.text)) for query in _queries()))
    named |= shown.named_in_pages().keys()
    parts = ("_bucket", "_count", "_sum")

    def family(name: str) -> str:
        return next((name.removesuffix(part) for part in parts if name.endswith(part)), name)

    own = exported.ours(tmp_path).keys() | exported.agents().keys()
    hidden = {family(name) for name in own} - {family(name) for name in named}
    assert not hidden


KNOWN = {"a": frozenset({"x", "y"}), "b": frozenset({"x"})}


@pytest.mark.parametrize(
    ("query", "fault"),
    [
        ("sum by (x) (rate(a[5m]))", None),
        ("topk(3, sum by (x) (a)) / on (x) group_left () b", None),
        ('max(a{y=~"$v"}) - time()', None),
        ("histogram_quantile(0.9, sum by (x) (rate(a[$__rate_interval])))", None),
        ('sum by (z) (label_replace(a, "z", "$1", "x", ".*"))', None),
        ("c", "no metric c"),
        ("rate(c[5m]) > 0", "no metric c"),
        ('a{z="1"}', "z in"),
        ("sum by (y) (b)", "y in"),
        ("sum by (y) (sum by (x) (a))", "y in"),
        ("a * on (y) b", "y in"),
        ("sum by (x) (a) + (b", "no PromQL"),
    ],
)
def test_what_is_found_in_a_query(query: str, fault: str | None) -> None:
    """The check itself finds unknown metrics, and labels that are matched, kept or joined by in vain."""
    if fault is None:
        promql.labels(promql.parse(query), KNOWN)
    else:
        with pytest.raises(Wrong, match=fault):
            promql.labels(promql.parse(query), KNOWN)
