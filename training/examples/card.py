"""The card of an example adapter: a README of what its manifest and recipe say."""

from adapters.manifest import Manifest
from training.examples.recipes import Recipe
from training.publishing.card import minutes, note, rows_of, table


def card(recipe: Recipe, manifest: Manifest) -> str:
    """Return the card as Markdown."""
    if manifest.lineage is None or manifest.evaluation is None:
        raise ValueError(f"{manifest.name} has no lineage or evaluation to write a card from")
    made, judged = manifest.lineage, manifest.evaluation
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
system, paired on the same rows. The base gets the same instruction.{note(judged)}

{table(judged)}

## How it was made

- Data: {made.data_source}.
- Terms: {made.data_terms}
- Rows: {rows_of(made)}; fingerprint `{made.data_fingerprint[:19]}…`.
- Training: epochs {settings["epochs"]:g}, batch size {settings["batch_size"]}, cosine learning rate from
  {settings["learning_rate"]:g}, all linear layers, loss on the answer alone, seed {settings["seed"]}.
- {minutes(made.seconds)} from start to end, evaluation included.
- Again from nothing: `{made.command}`.

## Limits

{recipe.limits}

`manifest.json` beside this file has all of it for machines, with the probes that attestation compares with.
"""
