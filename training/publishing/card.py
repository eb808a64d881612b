"""The model card of a trained version: a README of what its manifest says, beside its weights."""

import re
from typing import Any

from adapters.manifest import Evaluation, Lineage, Manifest, Reference

CARD = "README.md"
NOT_STATED = "not stated"
SYSTEMS = {
    "adapter": "this adapter, free-running",
    "base": "base, free-running",
    "base-lenient": "base, the first label it names",
    "base-constrained": "base, constrained to the labels",
    "majority": "the most frequent label",
    "tf-idf": "TF-IDF and logistic regression on the same training rows",
}
SHOTS = re.compile(r"base-(\d+)-shot")
METRICS = {
    "accuracy": "accuracy",
    "exact_match": "exact match",
    "token_f1": "word F1",
    "entity_f1": "entity F1",
    "valid_json": "valid JSON",
    "precision": "precision (macro)",
    "recall": "recall (macro)",
    "f1": "F1 (macro)",
    "ece": "calibration error (less is better)",
    "brier": "Brier score (less is better)",
    "perplexity": "perplexity (less is better)",
    "preferred": "share of pairs where the better answer is likelier",
    "moved_rightly": "share of answers made likelier if liked, less likely if not",
    "loss": "loss (nats per token; less is better)",
}
METHODS = {
    "sft": "on answers that should be given",
    "kto": "by ratings (KTO)",
    "dpo": "by preferences (DPO)",
    "domain": "on texts as they are (continued pre-training)",
}


def card(manifest: Manifest) -> str:
    """Return the card as Markdown.

    Raises:
        ValueError: the manifest says nothing of training or of results.
    """
    if manifest.lineage is None or manifest.evaluation is None:
        raise ValueError(f"{manifest.name} has no lineage or evaluation to write a card from")
    made, judged = manifest.lineage, manifest.evaluation
    size = f"{manifest.size_bytes / 1e6:.1f} MB"
    return f"""# {manifest.name}

A LoRA adapter of rank {manifest.rank} for {manifest.base.name}, {size} in {manifest.dtype}.
Trained {METHODS.get(str(made.config.get("method", "sft")), made.recipe)}.
{_call(made)}
## Results

{judged.rows} held-out rows that training never saw. In brackets 95 % intervals. The difference is this
adapter minus the row's system, paired on the same rows.{note(judged)}

{table(judged)}

## Data

- Source: {made.data_source}
- Terms: {_terms(made)}
- Rows: {rows_of(made)}
- Fingerprint: `{made.data_fingerprint}`

## How it was made

{_settings(made.config)}

- Parent: {f"`{made.parent}`" if made.parent else "none; it was trained from the base model"}
- Base model: {manifest.base.name}{f", `{manifest.base.digest}`" if manifest.base.digest else ""}
- Code: {made.code_version}; {", ".join(f"{name} {version}" for name, version in made.packages.items())}
- {minutes(made.seconds)} from start to end, judging included

Again from nothing:

```sh
{made.command}
```

## Attestation

{_attestation(manifest.reference)}

`manifest.json` beside this file has all of it for machines.
"""


def table(judged: Evaluation) -> str:
    """Return the figures as a table."""
    names = list(dict.fromkeys(score.metric for score in judged.scores))
    gaps = {(gap.against, gap.metric): gap for gap in judged.differences}
    lines = ["| system | metric | value | difference |", "|---|---|---|---|"]
    for name in names:
        for score in judged.scores:
            if score.metric != name:
                continue
            gap = gaps.get((score.system, name))
            lines.append(
                f"| {system_of(score.system)} | {METRICS.get(name, name)} "
                f"| {score.value:.3f} [{score.low:.3f}, {score.high:.3f}] "
                f"| {f'{gap.value:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}]' if gap else ''} |"
            )
    return "\n".join(lines)


def system_of(name: str) -> str:
    """Return what a card calls a system that was judged."""
    shots = SHOTS.fullmatch(name)
    if shots is not None:
        return f"base, {shots[1]} worked examples in the prompt"
    return SYSTEMS.get(name, name)


def rows_of(made: Lineage) -> str:
    """Return the number of rows by split, and how many training left out."""
    rows = ", ".join(f"{count} {split}" for split, count in made.rows.items())
    return f"{rows}{left_out(made.config)}"


def left_out(settings: dict[str, Any]) -> str:
    """Return how many rows were too long, or nothing."""
    dropped = settings.get("rows_over_max_tokens", 0)
    return (
        f" ({dropped} of the train rows over {settings['max_tokens']} tokens were left out)"
        if dropped
        else ""
    )


def note(judged: Evaluation) -> str:
    """Return the evaluation's note as a sentence, or nothing."""
    return f" Note: {judged.note}." if judged.note else ""


def minutes(seconds: float | None) -> str:
    """Return a time in minutes."""
    return "Time not recorded" if seconds is None else f"{seconds / 60:.0f} minutes"


def _call(made: Lineage) -> str:
    instruction = made.config.get("instruction")
    if not instruction:
        return ""
    return f"""
## Call it

Send one user message: the instruction, an empty line, and the text.

```
{instruction}

…
```
"""


def _terms(made: Lineage) -> str:
    if made.data_terms == NOT_STATED:
        return "not stated. Find out before anybody uses this adapter for more than a trial."
    return made.data_terms


def _settings(config: dict[str, Any]) -> str:
    lines = ["| setting | value |", "|---|---|"]
    lines += [
        f"| {name.replace('_', ' ')} | {_shown(value)} |"
        for name, value in config.items()
        if value is not None and name not in {"parent", "instruction"}
    ]
    return "\n".join(lines)


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value).replace("|", "\\|")


def _attestation(reference: Reference | None) -> str:
    if reference is None:
        return "No reference was recorded: `turnout probe` records one."
    apart = reference.separation
    said = f"{len(reference.probes)} probes, recorded on {reference.quantization}"
    if apart is None:
        return f"{said}."
    said += f"; {apart.base:g} times the noise from the base model"
    if apart.predecessor is not None:
        said += f", {apart.predecessor:g} times from the version before"
    return f"{said}."
