"""The options of `turnout train` that say how rows are read, checked and split, as `turnout data check` does.

An option without a default of its own takes the one that the data has.
"""

from typing import Annotated

import typer

from training.options import DATA

PromptColumn = Annotated[
    str | None,
    typer.Option(
        "--prompt-column",
        "--text-column",
        help="The field with the prompt. [default: recognised]",
        rich_help_panel=DATA,
    ),
]
CompletionColumn = Annotated[
    str | None,
    typer.Option(
        "--completion-column",
        "--label-column",
        help="The field with the answer. [default: recognised]",
        rich_help_panel=DATA,
    ),
]
ChosenColumn = Annotated[
    str | None, typer.Option(help="The field with the better answer.", rich_help_panel=DATA)
]
RejectedColumn = Annotated[
    str | None, typer.Option(help="The field with the worse answer.", rich_help_panel=DATA)
]
RatingColumn = Annotated[
    str | None, typer.Option(help="The field that says whether an answer was liked.", rich_help_panel=DATA)
]
WeightColumn = Annotated[
    str | None,
    typer.Option(help="The field with a row's weight: how often it is seen.", rich_help_panel=DATA),
]
Format = Annotated[
    str | None,
    typer.Option(
        help="chat, prompt-completion, instruction, preference, openai-preference, rated or text. "
        "[default: recognised]",
        rich_help_panel=DATA,
    ),
]
Personal = Annotated[
    str,
    typer.Option(help="Data of persons: mask, drop, report or off (not looked for).", rich_help_panel=DATA),
]
NerModel = Annotated[
    str | None,
    typer.Option(help="An installed spaCy model that finds names too.", rich_help_panel=DATA),
]
Near = Annotated[
    float | None,
    typer.Option(help="From which similarity on prompts are near duplicates.", rich_help_panel=DATA),
]
CopiesOnly = Annotated[
    bool, typer.Option("--copies-only", help="Look for copies, not near ones.", rich_help_panel=DATA)
]
MaxMib = Annotated[
    int | None, typer.Option(help="The largest source that is read into memory.", rich_help_panel=DATA)
]
Conflicts = Annotated[
    str,
    typer.Option(
        help="Answers that contradict each other: majority (keep the most frequent) or keep.",
        rich_help_panel=DATA,
    ),
]
HeldOut = Annotated[
    str | None,
    typer.Option(help="Rows that must not be trained on, such as a benchmark.", rich_help_panel=DATA),
]
Group = Annotated[
    str | None,
    typer.Option(help="The column whose values stay in one split (a customer).", rich_help_panel=DATA),
]
Resample = Annotated[
    str | None,
    typer.Option(help="Balance the classes of the training rows: up or down.", rich_help_panel=DATA),
]
ResampleCap = Annotated[
    int | None, typer.Option(help="Rows a class has at most (down) or at least (up).", rich_help_panel=DATA)
]
Embeddings = Annotated[
    bool,
    typer.Option(
        "--embeddings/--no-embeddings",
        help="Keep a sample of what the prompts mean in the manifest; no text is kept.",
        rich_help_panel=DATA,
    ),
]
Since = Annotated[
    str | None,
    typer.Option(
        help="Recorded traffic from this day on (2026-11-21, or with a time).", rich_help_panel=DATA
    ),
]
Until = Annotated[str | None, typer.Option(help="Recorded traffic before this day.", rich_help_panel=DATA)]
Version = Annotated[
    str | None,
    typer.Option(help="Recorded traffic that this version (NAME@N) answered.", rich_help_panel=DATA),
]
FeedbackMetric = Annotated[
    str | None, typer.Option(help="The metric of feedback to learn from.", rich_help_panel=DATA)
]
AtLeast = Annotated[
    float | None,
    typer.Option(
        help="From which value on an answer is liked, of a metric that is a number.", rich_help_panel=DATA
    ),
]
RequestsUrl = Annotated[
    str | None,
    typer.Option(
        envvar="TURNOUT_STORE__REQUESTS_URL", help="The database of recorded requests.", rich_help_panel=DATA
    ),
]
MaxTextChars = Annotated[
    int,
    typer.Option(
        min=0,
        envvar="TURNOUT_RECORDING__MAX_TEXT_CHARS",
        help="At which length the gateway cuts texts that it records: such texts are not whole.",
        rich_help_panel=DATA,
    ),
]
LoopRun = Annotated[
    str | None,
    typer.Option(metavar="RUN", help="The loop's run that wants this, for lineage.", rich_help_panel=DATA),
]
DriftId = Annotated[
    int | None,
    typer.Option(metavar="ID", help="The drift report that started that run.", rich_help_panel=DATA),
]
Curated = Annotated[
    str | None,
    typer.Option(
        metavar="FINGERPRINT", help="Of the rows that the run has curated, for lineage.", rich_help_panel=DATA
    ),
]
Limit = Annotated[int | None, typer.Option(help="The most rows to train on.", rich_help_panel=DATA)]
ValidationShare = Annotated[
    float | None, typer.Option(help="Share of prompts for the validation loss.", rich_help_panel=DATA)
]
TestShare = Annotated[
    float | None, typer.Option(help="Share of prompts held out to judge by.", rich_help_panel=DATA)
]
DataSource = Annotated[
    str | None, typer.Option(help="Where the rows are from, for lineage and card.", rich_help_panel=DATA)
]
DataTerms = Annotated[
    str, typer.Option(help="On what terms the rows may be used, for lineage and card.", rich_help_panel=DATA)
]
