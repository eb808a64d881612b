"""`python -m monitoring.prometheus`: write what is made: rules/slo.yaml, and all rules for clusters."""

from pathlib import Path

import yaml

from monitoring.prometheus import operator
from monitoring.prometheus.slos import rules

SLO_RULES = Path(__file__).resolve().parent / "rules" / "slo.yaml"
_HEAD = "# Made by `make dashboards` from monitoring/prometheus/slos.py: change it there.\n"


_HEAD_FOR_CLUSTERS = "# Made by `make dashboards` from monitoring/prometheus/rules: change them there.\n"


def rendered() -> str:
    """Return the rules of the promises."""
    return _HEAD + _written(rules())


def rendered_for_clusters() -> str:
    """Return all rules, as they are on disk, as one object of the Prometheus operator."""
    return _HEAD_FOR_CLUSTERS + _written(operator.prometheus_rule())


def _written(document: object) -> str:
    text: str = yaml.dump(document, Dumper=_Readable, sort_keys=False, width=1000, allow_unicode=True)
    return text


class _Readable(yaml.SafeDumper):  # type: ignore[misc]  # yaml comes without types
    """Writes long texts as blocks."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Readable.add_representer(str, _text)

if __name__ == "__main__":
    SLO_RULES.write_text(rendered(), encoding="utf-8")
    operator.FILE.write_text(rendered_for_clusters(), encoding="utf-8")
