"""The card of an example adapter: a README of what its manifest and recipe say."""

from typing import Any

from adapters.manifest import Evaluation, Manifest
from training.examples.recipes import Recipe

SYSTEMS = {
    "adapter": "this adapter, free-running",
    "base": "base, free-running",
    "base-lenient": "base, the first label it names",
    "base-constrained": "base, constrained to the labels",
    "majority": "the most frequent label",
    "base-3-shot": "base, three worked examples in the prompt",
}
METRICS = {
    "accuracy": "accuracy",
    "exact_match": "exact match",
    "token_f1": "word F1",
    "entity_f1": "entity F1",
    "valid_json": "valid JSON",
}


def card(recipe: Recipe, manifest: Manifest) -> str:
    """Return the card as Markdown."""
    if manifest.lineage is None or manifest.evaluation is None:
        raise ValueError(f"{manifest.name} has no lineage or evaluation to write a card from")
    made, judged = manifest.lineage, manifest.evaluation
    rows = ", ".join(f"{count} {split}" for split, count in made.rows.items())
    settings, size = made.config, f"{manifest.size_bytes / 1e6:.1f} MB"
    return f"""# {recipe.name}: {recipe.title.lower()}

{recipe.does}

A LoRA adapter of rank {manifest.rank} for {manifest.base.name}, {size} in {manifest.dtype},
trained on the base model in NF4, as it is served.

## Call it

Send one user message: the instruction, an empty line, and the text. No system message (the base model's
template then adds its own, as in training).

```
{recipe.instruction}

{recipe.sample}
```

## Results

{judged.rows} held-out rows, split by a hash of the text, that training never saw. In brackets 95 % intervals
(bootstrap over rows; exact binomial where all rows agree). The difference is this adapter minus the row's
system, paired on the same rows. The base gets the same instruction.{_note(judged)}

{_table(judged)}

## How it was made

- Data: {made.data_source}.
- Terms: {made.data_terms}
- Rows: {rows}{_left_out(settings)}; fingerprint `{made.data_fingerprint[:19]}…`.
- Training: epochs {settings["epochs"]:g}, batch size {settings["batch_size"]}, cosine learning rate from
  {settings["learning_rate"]:g}, all linear layers, loss on the answer alone, seed {settings["seed"]}.
- {_minutes(made.seconds)} from start to end, evaluation included.
- Again from nothing: `{made.command}`.

## Limits

{recipe.limits}

`manifest.json` beside this file has all of it for machines, with the probes that attestation compares with.
"""


def _left_out(settings: dict[str, Any]) -> str:
    dropped = settings.get("rows_over_max_tokens", 0)
    return (
        f" ({dropped} of the train rows over {settings['max_tokens']} tokens were left out)"
        if dropped
        else ""
    )


def _note(judged: Evaluation) -> str:
    return f" Note: {judged.note}." if judged.note else ""


def _table(judged: Evaluation) -> str:
    names = list(dict.fromkeys(score.metric for score in judged.scores))
    gaps = {(gap.against, gap.metric): gap for gap in judged.differences}
    lines = ["| system | metric | value | difference |", "|---|---|---|---|"]
    for name in names:
        for score in judged.scores:
            if score.metric != name:
                continue
            gap = gaps.get((score.system, name))
            lines.append(
                f"| {SYSTEMS.get(score.system, score.system)} | {METRICS.get(name, name)} "
                f"| {score.value:.3f} [{score.low:.3f}, {score.high:.3f}] "
                f"| {f'{gap.value:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}]' if gap else ''} |"
            )
    return "\n".join(lines)


def _minutes(seconds: float | None) -> str:
    return "Time not recorded" if seconds is None else f"{seconds / 60:.0f} minutes"
