"""`turnout evaluate` beside the real engine: what is judged with transformers is what is served."""

import json
from pathlib import Path

import pytest

from tests.e2e.conftest import Service
from training.examples.recipes import RECIPES
from training.publishing.probes import probe_examples

ANSWERS = {
    "sentiment": ("negative", "positive", "positive", "negative", "positive", "negative"),
    "sarcasm": ("sarcastic", "serious", "sarcastic", "serious", "sarcastic", "serious"),
    "entities": ('{"person": [], "organization": [], "location": []}',) * 6,
}


@pytest.mark.parametrize("name", list(ANSWERS))
def test_a_served_version_has_parity(service: Service, tmp_path: Path, name: str) -> None:
    """The version in production is judged, and the gateway's answers are those of the same weights."""
    rows = tmp_path / "rows.jsonl"
    texts = [row.messages[0]["content"] for row in probe_examples(RECIPES[name].probes)]
    lines = [
        {"prompt": text, "completion": answer} for text, answer in zip(texts, ANSWERS[name], strict=True)
    ]
    rows.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    shown = service.turnout(
        "evaluate", f"{name}@1", str(rows), "--no-baselines", "--fresh", "--json", timeout=800
    )
    found = json.loads(shown)
    (parity,) = found["parity"]
    assert parity["holds"], parity
    assert parity["url"] == service.url
    assert parity["distance_to_base"] > 3 * parity["distance"], parity
    assert [each["name"] for each in found["versions"] if each["in_production"]] == [f"{name}@1"]
    kept = service.state_dir / "evaluations" / f"{name}@1"
    assert {path.suffix for path in kept.iterdir()} == {".json", ".html"}
