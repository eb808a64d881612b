"""The options of `turnout evaluate`, each a type with its help."""

from pathlib import Path
from typing import Annotated

import typer

from training.config import Quantization
from training.data.recognise import NamedForm
from training.evaluation.judged import CHOOSABLE

ROWS = "Rows"
SYSTEMS = "What is judged"
FIGURES = "Figures"
ENGINE = "Parity with the engine"
JUDGE = "A judge model"
OUTPUT = "Output"

What = Annotated[
    list[str],
    typer.Argument(
        metavar="NAME[@N] … SOURCE",
        help="Versions (the newest without @N), folders of adapters or of models that were trained whole; "
        "the candidate first, then the rows.",
    ),
]
HeldOut = Annotated[
    bool,
    typer.Option(
        "--held-out",
        help="SOURCE is the data that the candidate was trained from: judge by the rows that were held out "
        "of training, and give the others to the baselines.",
        rich_help_panel=ROWS,
    ),
]
Train = Annotated[
    str | None,
    typer.Option(help="Training rows for the baselines, where SOURCE has none.", rich_help_panel=ROWS),
]
Limit = Annotated[
    int, typer.Option(min=5, help="The most rows to judge by, drawn by a hash.", rich_help_panel=ROWS)
]
Form = Annotated[
    NamedForm | None,
    typer.Option(
        "--format", help="The form of the rows, where their fields leave it open.", rich_help_panel=ROWS
    ),
]
PromptColumn = Annotated[
    str | None,
    typer.Option("--prompt-column", "--text-column", help="The field with the prompt.", rich_help_panel=ROWS),
]
CompletionColumn = Annotated[
    str | None,
    typer.Option(
        "--completion-column", "--label-column", help="The field with the answer.", rich_help_panel=ROWS
    ),
]
Instruction = Annotated[
    str | None,
    typer.Option(
        help="A line put before every prompt. [default: the candidate's own; '' for none]",
        rich_help_panel=ROWS,
    ),
]
TestShare = Annotated[
    float | None, typer.Option(help="The share that was held out, with --held-out.", rich_help_panel=ROWS)
]
ValidationShare = Annotated[
    float | None, typer.Option(help="The share for validation, with --held-out.", rich_help_panel=ROWS)
]
TrainLimit = Annotated[
    int | None,
    typer.Option("--train-limit", help="The most rows that were trained on.", rich_help_panel=ROWS),
]
Seen = Annotated[
    bool,
    typer.Option(
        "--seen", help="Judge by rows that the candidate was trained on, knowing it.", rich_help_panel=ROWS
    ),
]
Route = Annotated[
    str | None,
    typer.Option(
        help="The route whose version in production is compared with. [default: the candidate's name]",
        rich_help_panel=SYSTEMS,
    ),
]
Baselines = Annotated[
    bool,
    typer.Option("--baselines/--no-baselines", help="Judge the baselines too.", rich_help_panel=SYSTEMS),
]
Shots = Annotated[
    int,
    typer.Option(
        min=0, max=64, help="Worked examples for the few-shot base; 0 for none.", rich_help_panel=SYSTEMS
    ),
]
Draws = Annotated[
    int, typer.Option(min=1, max=20, help="Draws of those examples, averaged.", rich_help_panel=SYSTEMS)
]
Quantize = Annotated[
    Quantization | None,
    typer.Option(
        "--quantization",
        help="How the base model is loaded: `nf4` or `none`. [default: as the candidate was trained; nf4 for "
        "a whole model]",
        rich_help_panel=SYSTEMS,
    ),
]
BatchSize = Annotated[int, typer.Option(min=1, help="Rows in a batch.", rich_help_panel=SYSTEMS)]
MaxAnswerTokens = Annotated[
    int, typer.Option(min=1, help="The longest free answer.", rich_help_panel=SYSTEMS)
]
Fresh = Annotated[
    bool, typer.Option("--fresh", help="Take no kept answers; ask all again.", rich_help_panel=SYSTEMS)
]
MetricNames = Annotated[
    list[str] | None,
    typer.Option(
        "--metric", help=f"Repeatable, the main one first: {', '.join(CHOOSABLE)}.", rich_help_panel=FIGURES
    ),
]
SliceColumns = Annotated[
    list[str] | None,
    typer.Option(
        "--slice", help="A field whose values are looked at apart; repeatable.", rich_help_panel=FIGURES
    ),
]
Group = Annotated[
    str | None,
    typer.Option(
        help="A field whose equal values belong together: a user, a document.", rich_help_panel=FIGURES
    ),
]
Schema = Annotated[
    Path | None, typer.Option(help="A JSON schema that answers must fit.", rich_help_panel=FIGURES)
]
Margin = Annotated[
    float,
    typer.Option(min=0.1, max=50, help="The difference worth finding, in points.", rich_help_panel=FIGURES),
]
Seed = Annotated[int, typer.Option(help="Of draws and resamples.", rich_help_panel=FIGURES)]
ParityMode = Annotated[
    str,
    typer.Option(
        "--parity",
        help="`auto` compares with the gateway at --url if one is up, `off` does not.",
        rich_help_panel=ENGINE,
    ),
]
EngineUrl = Annotated[
    str | None, typer.Option(help="Compare with the engine at this address.", rich_help_panel=ENGINE)
]
RequireParity = Annotated[
    bool, typer.Option("--require-parity", help="Exit with 1 unless parity holds.", rich_help_panel=ENGINE)
]
Url = Annotated[str, typer.Option(envvar="TURNOUT_URL", help="The gateway.", rich_help_panel=ENGINE)]
ApiKey = Annotated[
    str | None,
    typer.Option(
        "--api-key",
        envvar="TURNOUT_API_KEY",
        show_default=False,
        help="A key for the gateway. Better set TURNOUT_API_KEY.",
        rich_help_panel=ENGINE,
    ),
]
JudgeUrl = Annotated[
    str | None, typer.Option(help="An OpenAI-compatible endpoint, up to /v1.", rich_help_panel=JUDGE)
]
JudgeModel = Annotated[str | None, typer.Option(help="The judge's name there.", rich_help_panel=JUDGE)]
JudgeKeyVariable = Annotated[
    str, typer.Option("--judge-key-env", help="The variable with its key.", rich_help_panel=JUDGE)
]
JudgeRubric = Annotated[
    Path | None, typer.Option(help="A file with the rubric; there is a default.", rich_help_panel=JUDGE)
]
JudgeRows = Annotated[int | None, typer.Option(min=1, help="The most rows to ask.", rich_help_panel=JUDGE)]
JudgeConcurrency = Annotated[int, typer.Option(min=1, max=64, help="Calls at a time.", rich_help_panel=JUDGE)]
Html = Annotated[
    Path | None,
    typer.Option("--html", help="Write the report with plots to this file.", rich_help_panel=OUTPUT),
]
Keep = Annotated[
    bool,
    typer.Option(
        "--keep/--no-keep",
        help="Keep the reports of registered versions under the state directory.",
        rich_help_panel=OUTPUT,
    ),
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print the report as one JSON object.", rich_help_panel=OUTPUT)
]
