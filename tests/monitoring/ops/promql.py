"""Which metrics and labels a PromQL query names, and which wrongly. Queries are parsed, not searched."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import promql_parser as pp

Labels = frozenset[str]
_KEEP = {"topk", "bottomk"}
_GRAFANA = {"$__rate_interval": "5m", "$__range": "1h", "$__interval": "1m"}


class Wrong(Exception):
    """A query names what there is not."""


def plain(query: str) -> str:
    """Return a panel's query with its variables filled in."""
    for variable, value in _GRAFANA.items():
        query = query.replace(variable, value)
    return re.sub(r"\$\{?\w+\}?", "1", query)


def parse(query: str) -> Any:
    """Parse a query, a panel's or a rule's.

    Raises:
        Wrong: it is no PromQL.
    """
    try:
        return pp.parse(plain(query))
    except ValueError as error:
        raise Wrong(f"{query!r} is no PromQL: {error}") from error


def names(expression: Any) -> Iterator[str]:
    """Yield the names of the metrics that an expression reads."""
    if isinstance(expression, pp.VectorSelector):
        yield expression.name or next(m.value for m in expression.matchers.matchers if m.name == "__name__")
    for child in _children(expression):
        yield from names(child)


def matched(expression: Any) -> Iterator[tuple[str, str, str]]:
    """Yield the metric, label and value of each matcher that asks for a value or for several."""
    if isinstance(expression, pp.VectorSelector):
        (name,) = names(expression)
        for matcher in expression.matchers.matchers:
            if matcher.op in (pp.MatchOp.Equal, pp.MatchOp.Re):
                yield from ((name, matcher.name, value) for value in matcher.value.split("|"))
    for child in _children(expression):
        yield from matched(child)


def labels(expression: Any, known: Mapping[str, Labels]) -> Labels:
    """Return the labels that an expression's series may have.

    Raises:
        Wrong: a metric is not known, or a label is matched, kept or joined by that is not there.
    """
    if isinstance(expression, pp.VectorSelector):
        return _selected(expression, known)
    if isinstance(expression, pp.AggregateExpr):
        return _aggregated(expression, known)
    if isinstance(expression, pp.BinaryExpr):
        return _joined(expression, known)
    found = frozenset().union(*(labels(child, known) for child in _children(expression)))
    if isinstance(expression, pp.Call) and expression.func.name == "label_replace":
        found |= {expression.args[1].val}
    return found


def _selected(selector: Any, known: Mapping[str, Labels]) -> Labels:
    (name,) = names(selector)
    if name not in known:
        raise Wrong(f"there is no metric {name}")
    _require(
        {matcher.name for matcher in selector.matchers.matchers} - {"__name__"}, known[name], str(selector)
    )
    return known[name]


def _aggregated(expression: Any, known: Mapping[str, Labels]) -> Labels:
    inner = labels(expression.expr, known)
    if expression.modifier is None:
        return inner if str(expression.op) in _KEEP else frozenset()
    named = frozenset(expression.modifier.labels)
    if expression.modifier.type == pp.AggModifierType.Without:
        return inner - named
    _require(named, inner, expression.prettify())
    return inner if str(expression.op) in _KEEP else named


def _joined(expression: Any, known: Mapping[str, Labels]) -> Labels:
    left, right = labels(expression.lhs, known), labels(expression.rhs, known)
    modifier = expression.modifier
    matching = modifier.matching if modifier is not None else None
    if matching is not None and matching.type == pp.LabelModifierType.Include:
        for side in (left, right):
            _require(matching.labels, side, expression.prettify())
    return left | right


def _children(expression: Any) -> Iterator[Any]:
    if isinstance(expression, pp.MatrixSelector):
        yield expression.vector_selector
    elif isinstance(expression, pp.BinaryExpr):
        yield from (expression.lhs, expression.rhs)
    elif isinstance(expression, pp.Call):
        yield from expression.args
    elif isinstance(expression, pp.AggregateExpr | pp.UnaryExpr | pp.ParenExpr | pp.SubqueryExpr):
        yield expression.expr


def _require(wanted: Any, there: Labels, where: str) -> None:
    missing = sorted(set(wanted) - there)
    if missing:
        raise Wrong(f"{', '.join(missing)} in {where}: there are only {', '.join(sorted(there))}")
