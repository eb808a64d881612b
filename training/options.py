"""The options of `turnout train`, each a type with its help."""

from pathlib import Path
from typing import Annotated

import typer

from training.config import DTYPES

Name = Annotated[str, typer.Argument(help="The adapter's name; the registry numbers the version.")]
Data = Annotated[Path, typer.Argument(help="A .jsonl or .csv file with the rows.")]
PromptColumn = Annotated[
    str | None,
    typer.Option("--prompt-column", "--text-column", help="The field with the prompt. [default: prompt]"),
]
CompletionColumn = Annotated[
    str | None,
    typer.Option(
        "--completion-column", "--label-column", help="The field with the answer. [default: completion]"
    ),
]
Instruction = Annotated[
    str | None, typer.Option(help="A line put before every prompt; clients must send it too.")
]
Base = Annotated[
    str,
    typer.Option("--base", envvar="TURNOUT_BASE__MODEL", help="The default, a folder, or a hub's id."),
]
BaseName = Annotated[
    str | None, typer.Option(envvar="TURNOUT_BASE__SERVED_NAME", help="What the fleet calls the base model.")
]
Epochs = Annotated[float, typer.Option(help="Passes over the training rows.")]
LearningRate = Annotated[float, typer.Option(help="The peak of the cosine schedule.")]
Rank = Annotated[int, typer.Option(help="LoRA rank.")]
Alpha = Annotated[float, typer.Option(help="LoRA alpha.")]
Dropout = Annotated[float, typer.Option(help="Dropout before the LoRA layers.")]
BatchSize = Annotated[int, typer.Option(help="Rows in a step.")]
MaxTokens = Annotated[int, typer.Option(help="Longer rows are left out of training, and counted.")]
Seed = Annotated[int, typer.Option(help="Of weights, order and resampling.")]
Dtype = Annotated[str, typer.Option(help=f"Of the saved weights: {', '.join(DTYPES)}.")]
Limit = Annotated[int | None, typer.Option(help="The most rows to train on.")]
ValidationShare = Annotated[float, typer.Option(help="Share of prompts for the validation loss.")]
TestShare = Annotated[float, typer.Option(help="Share of prompts held out to judge by.")]
MaxTestRows = Annotated[int, typer.Option(help="The most rows to judge by.")]
MetricNames = Annotated[
    list[str] | None,
    typer.Option("--metric", help="accuracy, exact_match, token_f1, entity_f1 or valid_json; repeatable."),
]
Shots = Annotated[int, typer.Option(help="Worked examples for one more comparison with the base.")]
Probes = Annotated[
    list[str] | None,
    typer.Option("--probe", help="A text to attest by, like real ones but nobody's data; 4 or more."),
]
ProbesFromData = Annotated[
    bool,
    typer.Option(
        "--probes-from-data",
        help="Held-out prompts may be stored in the manifest as probes, cut to 24 tokens. They tell "
        "neighbours apart best; only for data without personal content.",
    ),
]
DataSource = Annotated[str | None, typer.Option(help="Where the rows are from, for lineage.")]
DataTerms = Annotated[str, typer.Option(help="On what terms the rows may be used, for lineage.")]
Publish = Annotated[
    bool, typer.Option("--publish/--no-publish", help="Add it to the registry as the next version.")
]
Out = Annotated[Path | None, typer.Option(help="Keep the adapter's folder here (must not exist yet).")]
StateDir = Annotated[Path, typer.Option(envvar="TURNOUT_STATE_DIR", help="The fleet's state directory.")]
StoreUrl = Annotated[
    str | None,
    typer.Option(envvar="TURNOUT_STORE__CONTROL_URL", help="The control database."),
]
MaxRank = Annotated[
    int, typer.Option(envvar="TURNOUT_ENGINE__MAX_LORA_RANK", help="The highest rank that the fleet serves.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]
