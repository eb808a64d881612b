"""The card of a trained version."""

from typing import Any

import pytest

from adapters.manifest import (
    BaseIdentity,
    Difference,
    Evaluation,
    Lineage,
    Manifest,
    Probe,
    Reference,
    Score,
    Separation,
)
from training.publishing.card import card

LINEAGE: dict[str, Any] = {
    "recipe": "turnout train",
    "data_source": "tickets of 2026",
    "data_terms": "ours, with consent",
    "data_fingerprint": "sha256:" + "1" * 64,
    "rows": {"train": 80, "validation": 10, "test": 10},
    "config": {
        "method": "dpo",
        "learning_rate": 5e-5,
        "packing": False,
        "target_modules": ["q_proj", "v_proj"],
        "instruction": "Answer kindly.",
        "rows_over_max_tokens": 3,
        "max_tokens": 1024,
        "parent": None,
    },
    "command": "turnout train support rows.jsonl --rank 8",
    "code_version": "turnout 0.1, training sha256:abc",
    "packages": {"peft": "0.21.2"},
    "parent": "support@3 sha256:" + "2" * 64,
    "seconds": 120.0,
}
JUDGED = Evaluation(
    rows=10,
    scores=(Score(system="adapter", metric="preferred", value=0.8, low=0.7, high=0.9, rows=10),),
    differences=(Difference(against="base", metric="preferred", value=0.2, low=0.1, high=0.3, rows=10),),
    note="only 10 test rows: the intervals are wide",
)


def manifest(**changes: Any) -> Manifest:
    """Return a manifest as training writes it."""
    values: dict[str, Any] = {
        "name": "support",
        "digest": "sha256:" + "0" * 64,
        "base": BaseIdentity(name="small", digest="sha256:" + "3" * 64),
        "rank": 8,
        "alpha": 16,
        "target_modules": ("q_proj",),
        "dtype": "bfloat16",
        "size_bytes": 4_900_000,
        "source": "training",
        "created_at": 0.0,
        "evaluation": JUDGED,
        "lineage": Lineage(**LINEAGE),
        "reference": Reference(
            quantization="bitsandbytes-nf4",
            probes=(Probe(prompt="x", top_logprobs={"1": -1.0}),),
            separation=Separation(base=40.0, predecessor=6.5),
        ),
    }
    return Manifest(**{**values, **changes})


def test_a_card_says_what_went_in_what_came_out_and_how_to_make_it_again() -> None:
    """Source, terms, rows, figures with intervals, parent, settings and command are there."""
    text = card(manifest())
    for part in (
        "# support",
        "by preferences (DPO)",
        "Answer kindly.",
        "0.800 [0.700, 0.900]",
        "only 10 test rows",
        "Source: tickets of 2026",
        "Terms: ours, with consent",
        "80 train, 10 validation, 10 test (3 of the train rows over 1024 tokens were left out)",
        "sha256:" + "1" * 64,
        "| learning rate | 5e-05 |",
        "| packing | no |",
        "| target modules | q_proj, v_proj |",
        "Parent: `support@3",
        "peft 0.21.2",
        "turnout train support rows.jsonl --rank 8",
        "40 times the noise from the base model, 6.5 times from the version before",
    ):
        assert part in text
    assert "| parent |" not in text


def test_what_is_not_known_is_said() -> None:
    """Terms that nobody stated are a warning, no parent is the base, no reference has a cure."""
    bare = {**LINEAGE, "data_terms": "not stated", "parent": None, "config": {"method": "sft"}}
    text = card(manifest(lineage=Lineage(**bare), reference=None))
    assert "Find out before anybody uses this adapter" in text
    assert "Parent: none" in text
    assert "turnout probe" in text
    assert "Call it" not in text


@pytest.mark.parametrize("missing", ["lineage", "evaluation"])
def test_a_version_that_was_not_judged_gets_no_card(missing: str) -> None:
    """A card never looks as if there were figures."""
    with pytest.raises(ValueError, match="no lineage or evaluation"):
        card(manifest(**{missing: None}))
