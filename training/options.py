"""The options of training's commands, each a type with its help and its place in `--help`.

An option without a default of its own takes the recipe's.
"""

from pathlib import Path
from typing import Annotated

import typer

from training.config import DTYPES

DATA = "Data"
LORA = "Method and LoRA"
OPTIMISATION = "Optimisation"
JUDGING = "Judging and probes"
RUN = "The run"
SEARCH = "Search"
SCALE = "More than one process"
PUBLISHING = "Publishing"

Name = Annotated[
    str | None, typer.Argument(metavar="[NAME]", help="The adapter's name; the registry numbers the version.")
]
Source = Annotated[
    str | None,
    typer.Argument(
        metavar="[DATA]",
        help="Rows: a JSONL, CSV or Parquet file, a Hugging Face data set, or turnout:ROUTE for recorded "
        "traffic.",
    ),
]

Instruction = Annotated[
    str | None,
    typer.Option(help="A line put before every prompt; clients must send it too.", rich_help_panel=DATA),
]

# Method and LoRA
Recipe = Annotated[
    str | None,
    typer.Option(
        "--recipe",
        "--method",
        help="sft (answers), kto (ratings), dpo (preferences) or domain (raw text). "
        "[default: what the rows are for]",
        rich_help_panel=LORA,
    ),
]
From = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="NAME@N",
        help="Continue from a version of the registry, or from an adapter's folder. [default: the base]",
        rich_help_panel=LORA,
    ),
]
Base = Annotated[
    str,
    typer.Option(
        "--base",
        envvar="TURNOUT_BASE__MODEL",
        help="The default, a folder, or a hub's id.",
        rich_help_panel=LORA,
    ),
]
BaseName = Annotated[
    str | None,
    typer.Option(
        envvar="TURNOUT_BASE__SERVED_NAME",
        help="What the fleet calls the base model.",
        rich_help_panel=LORA,
    ),
]
Adapter = Annotated[
    str | None,
    typer.Option(help="lora; what engines can't serve is refused with the reason.", rich_help_panel=LORA),
]
Rank = Annotated[
    int | None, typer.Option(help="LoRA rank; with --from that of the version.", rich_help_panel=LORA)
]
Alpha = Annotated[float | None, typer.Option(help="LoRA alpha.", rich_help_panel=LORA)]
Dropout = Annotated[float | None, typer.Option(help="Dropout before the LoRA layers.", rich_help_panel=LORA)]
Dtype = Annotated[
    str | None, typer.Option(help=f"Of the saved weights: {', '.join(DTYPES)}.", rich_help_panel=LORA)
]
TargetModules = Annotated[
    str | None,
    typer.Option(help="all-linear, or names of layers with commas between.", rich_help_panel=LORA),
]
RsLora = Annotated[
    bool | None, typer.Option(help="Scale by the root of the rank (rsLoRA).", rich_help_panel=LORA)
]
Quantization = Annotated[
    str | None,
    typer.Option(
        help="Of the base model: nf4 or none. [default: none where the fleet's engine.quantization is none, "
        "else nf4]",
        rich_help_panel=LORA,
    ),
]
Full = Annotated[
    bool | None,
    typer.Option(help="Train every weight; the result is a base model in --out.", rich_help_panel=LORA),
]
Beta = Annotated[
    float | None,
    typer.Option(help="How strongly dpo and kto hold on to the reference.", rich_help_panel=LORA),
]

# Optimisation
Epochs = Annotated[
    float | None, typer.Option(help="Passes over the training rows.", rich_help_panel=OPTIMISATION)
]
LearningRate = Annotated[
    float | None, typer.Option(help="The peak of the schedule.", rich_help_panel=OPTIMISATION)
]
BatchSize = Annotated[
    int | None,
    typer.Option(help="Rows in a step, over all processes together.", rich_help_panel=OPTIMISATION),
]
WarmupShare = Annotated[
    float | None,
    typer.Option(help="The share of the steps that warms up.", rich_help_panel=OPTIMISATION),
]
Schedule = Annotated[
    str | None,
    typer.Option(help="cosine, linear or constant_with_warmup.", rich_help_panel=OPTIMISATION),
]
WeightDecay = Annotated[float | None, typer.Option(help="AdamW's.", rich_help_panel=OPTIMISATION)]
MaxGradNorm = Annotated[
    float | None, typer.Option(help="Longer gradients are clipped.", rich_help_panel=OPTIMISATION)
]
Accumulation = Annotated[
    int | None,
    typer.Option(
        help="Passes that a step's rows are spread over, when memory is short.", rich_help_panel=OPTIMISATION
    ),
]
Packing = Annotated[
    bool | None,
    typer.Option(help="Rows end to end, without padding.", rich_help_panel=OPTIMISATION),
]
GradientCheckpointing = Annotated[
    str | None,
    typer.Option(
        help="on, off or auto (only when memory asks for it): less memory for more time.",
        rich_help_panel=OPTIMISATION,
    ),
]
UnpackBase = Annotated[
    str | None,
    typer.Option(
        help="on, off or auto (when there is room): 4-bit weights are unpacked once, not in every pass.",
        rich_help_panel=OPTIMISATION,
    ),
]
EvalSteps = Annotated[
    int | None,
    typer.Option(help="Steps between validations; 0: about ten in a run.", rich_help_panel=OPTIMISATION),
]
Patience = Annotated[
    int | None,
    typer.Option(
        help="Validations without a better loss that end the run; 0: none do.", rich_help_panel=OPTIMISATION
    ),
]
MaxTokens = Annotated[
    int | None,
    typer.Option(help="Longer rows are left out of training, and counted.", rich_help_panel=OPTIMISATION),
]
Seed = Annotated[
    int | None, typer.Option(help="Of weights, order and resampling.", rich_help_panel=OPTIMISATION)
]

# Judging and probes
MaxTestRows = Annotated[int | None, typer.Option(help="The most rows to judge by.", rich_help_panel=JUDGING)]
MetricNames = Annotated[
    list[str] | None,
    typer.Option(
        "--metric",
        help="accuracy, exact_match, token_f1, entity_f1 or valid_json; repeatable.",
        rich_help_panel=JUDGING,
    ),
]
Shots = Annotated[
    int,
    typer.Option(help="Worked examples for one more comparison with the base.", rich_help_panel=JUDGING),
]
Probes = Annotated[
    list[str] | None,
    typer.Option(
        "--probe",
        help="A text to attest by, like real ones but nobody's data; 4 or more.",
        rich_help_panel=JUDGING,
    ),
]
ProbesFromData = Annotated[
    bool,
    typer.Option(
        "--probes-from-data",
        help="Held-out prompts may be stored in the manifest as probes, cut to 8 tokens. They tell "
        "neighbours apart best; only for data without personal content.",
        rich_help_panel=JUDGING,
    ),
]

# The run
Runs = Annotated[
    Path | None,
    typer.Option(
        "--runs",
        envvar="TURNOUT_RUNS",
        help="Where runs have their folders. [default: runs/ in the cache folder]",
        rich_help_panel=RUN,
    ),
]
Resume = Annotated[
    Path | None,
    typer.Option(metavar="RUN", help="Go on with a run that stopped: its folder or id.", rich_help_panel=RUN),
]
ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", help="A TOML file with these options; flags win over it.", rich_help_panel=RUN),
]
PrintConfig = Annotated[
    bool,
    typer.Option("--print-config", help="Print the options as such a file, and end.", rich_help_panel=RUN),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run", help="Print rows, steps, tokens, memory and time, and end.", rich_help_panel=RUN
    ),
]
Measure = Annotated[
    bool,
    typer.Option("--measure", help="With --dry-run: time a few real steps.", rich_help_panel=RUN),
]
Track = Annotated[
    str,
    typer.Option(help="mlflow (a local store beside the runs), wandb or none.", rich_help_panel=RUN),
]
TrackUri = Annotated[
    str | None,
    typer.Option(
        envvar="MLFLOW_TRACKING_URI", help="An MLflow server to track on instead.", rich_help_panel=RUN
    ),
]
NoTrack = Annotated[bool, typer.Option("--no-track", help="The same as --track none.", rich_help_panel=RUN)]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]

# Search
SearchTrials = Annotated[
    int | None,
    typer.Option(
        "--search",
        metavar="N",
        help="Try N settings first (rank, alpha, learning rate, batch, targets, epochs), and train with "
        "the best.",
        rich_help_panel=SEARCH,
    ),
]
SearchMinutes = Annotated[
    float | None,
    typer.Option(help="Begin no further trial after so many minutes.", rich_help_panel=SEARCH),
]
SearchPruner = Annotated[
    str,
    typer.Option(help="How bad trials are given up: median, halving or none.", rich_help_panel=SEARCH),
]

# More than one process
Processes = Annotated[
    int | None,
    typer.Option(
        help="Train in so many processes on this machine, one a GPU where there are any. [default: one]",
        rich_help_panel=SCALE,
    ),
]
On = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="Train on a Ray cluster: ray://HOST:10001, HOST:6379, or auto for the one this machine is in.",
        rich_help_panel=SCALE,
    ),
]
OnGpus = Annotated[
    float | None,
    typer.Option(help="GPUs to ask Ray for. [default: 1 where the cluster has any]", rich_help_panel=SCALE),
]
OnCpus = Annotated[float, typer.Option(help="CPU cores to ask Ray for.", rich_help_panel=SCALE)]

# Publishing
Publish = Annotated[
    bool,
    typer.Option(
        "--publish/--no-publish",
        help="Add it to the registry as the next version.",
        rich_help_panel=PUBLISHING,
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(help="Put the adapter's folder here (must not exist yet).", rich_help_panel=PUBLISHING),
]
StateDir = Annotated[
    Path,
    typer.Option(envvar="TURNOUT_STATE_DIR", help="The fleet's state directory.", rich_help_panel=PUBLISHING),
]
StoreUrl = Annotated[
    str | None,
    typer.Option(
        envvar="TURNOUT_STORE__CONTROL_URL", help="The control database.", rich_help_panel=PUBLISHING
    ),
]
MaxRank = Annotated[
    int,
    typer.Option(
        envvar="TURNOUT_ENGINE__MAX_LORA_RANK",
        help="The highest rank that the fleet serves.",
        rich_help_panel=PUBLISHING,
    ),
]
