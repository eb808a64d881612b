"""`python -m monitoring.prometheus`: write the rules that are made, rules/slo.yaml."""

from pathlib import Path

import yaml

from monitoring.prometheus.slos import rules

SLO_RULES = Path(__file__).resolve().parent / "rules" / "slo.yaml"
_HEAD = "# Made by `make dashboards` from monitoring/prometheus/slos.py: change it there.\n"


def rendered() -> str:
    """Return the file."""
    text: str = yaml.dump(rules(), Dumper=_Readable, sort_keys=False, width=1000, allow_unicode=True)
    return _HEAD + text


class _Readable(yaml.SafeDumper):  # type: ignore[misc]  # yaml comes without types
    """Writes long texts as blocks."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Readable.add_representer(str, _text)

if __name__ == "__main__":
    SLO_RULES.write_text(rendered(), encoding="utf-8")
