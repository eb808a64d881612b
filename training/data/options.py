"""The options that say how data is read, checked and split, each a type with its help."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from training.data import rows
from training.data.recognise import NamedForm

STATE_DIR = Path(".turnout")
_TRAFFIC = "Recorded traffic"
_READING = "Reading"
_CHECKING = "Checking"
_SPLITTING = "Splitting"

Source = Annotated[
    str,
    typer.Argument(
        help="A .jsonl, .json, .csv, .tsv, .parquet or .txt file, a saved data set's folder, "
        "hf://ORG/NAME, or turnout:ROUTE for recorded traffic with feedback."
    ),
]
Form = Annotated[
    NamedForm | None,
    typer.Option(
        "--format", help="The form of the rows, where their fields leave it open.", rich_help_panel=_READING
    ),
]
Kind = Annotated[
    rows.Kind | None, typer.Option(help="The kind of rows that is wanted.", rich_help_panel=_READING)
]
PromptColumn = Annotated[
    str | None,
    typer.Option(
        "--prompt-column", "--text-column", help="The field with the prompt.", rich_help_panel=_READING
    ),
]
CompletionColumn = Annotated[
    str | None,
    typer.Option(
        "--completion-column", "--label-column", help="The field with the answer.", rich_help_panel=_READING
    ),
]
ChosenColumn = Annotated[
    str | None, typer.Option(help="The field with the better answer.", rich_help_panel=_READING)
]
RejectedColumn = Annotated[
    str | None, typer.Option(help="The field with the worse answer.", rich_help_panel=_READING)
]
RatingColumn = Annotated[
    str | None, typer.Option(help="The field with true or false for an answer.", rich_help_panel=_READING)
]
WeightColumn = Annotated[
    str | None, typer.Option(help="The field with the row's weight, above 0.", rich_help_panel=_READING)
]
MaxMib = Annotated[
    int, typer.Option(min=1, help="The largest source that is read into memory.", rich_help_panel=_READING)
]
Since = Annotated[
    str | None,
    typer.Option(
        metavar="TIME", help="Requests from then on: a time, or an age like 7d.", rich_help_panel=_TRAFFIC
    ),
]
Until = Annotated[
    str | None, typer.Option(metavar="TIME", help="Requests before then.", rich_help_panel=_TRAFFIC)
]
Version = Annotated[
    str | None, typer.Option(help="Answers of this version: NAME@N or N.", rich_help_panel=_TRAFFIC)
]
Metric = Annotated[
    str | None, typer.Option(help="The feedback metric that answers are judged by.", rich_help_panel=_TRAFFIC)
]
AtLeast = Annotated[
    float | None,
    typer.Option(
        help="From which value on an answer is liked, of a metric in numbers.", rich_help_panel=_TRAFFIC
    ),
]
StateDir = Annotated[
    Path,
    typer.Option(envvar="TURNOUT_STATE_DIR", help="The fleet's state directory.", rich_help_panel=_TRAFFIC),
]
ControlUrl = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        envvar="TURNOUT_STORE__CONTROL_URL",
        help="The control database.",
        show_default="SQLite in the state directory",
        rich_help_panel=_TRAFFIC,
    ),
]
RequestsUrl = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        envvar="TURNOUT_STORE__REQUESTS_URL",
        help="The requests database.",
        show_default="SQLite in the state directory",
        rich_help_panel=_TRAFFIC,
    ),
]
MaxTextChars = Annotated[
    int,
    typer.Option(
        min=0,
        envvar="TURNOUT_RECORDING__MAX_TEXT_CHARS",
        help="At which length the gateway cuts texts that it records: such texts are not whole.",
        rich_help_panel=_TRAFFIC,
    ),
]
Personal = Annotated[
    Literal["mask", "drop", "report", "off"],
    typer.Option(help="What is done with personal data.", rich_help_panel=_CHECKING),
]
AsWritten = Annotated[
    bool,
    typer.Option(
        "--as-written", help="Leave Unicode and white space as they are.", rich_help_panel=_CHECKING
    ),
]
NerModel = Annotated[
    str | None,
    typer.Option(
        help="A spaCy model, by name or folder, that finds names of people and places too.",
        rich_help_panel=_CHECKING,
    ),
]
Near = Annotated[
    float,
    typer.Option(help="From which similarity on prompts are near duplicates.", rich_help_panel=_CHECKING),
]
CopiesOnly = Annotated[
    bool, typer.Option("--copies-only", help="Look for copies, not near ones.", rich_help_panel=_CHECKING)
]
Conflicts = Annotated[
    Literal["majority", "keep"],
    typer.Option(
        help="Of labels that contradict each other, keep the most frequent, or all.",
        rich_help_panel=_CHECKING,
    ),
]
Tokenizer = Annotated[
    str | None,
    typer.Option(
        help="A model's folder or id, whose tokens lengths are counted in.", rich_help_panel=_CHECKING
    ),
]
MaxTokens = Annotated[
    int | None,
    typer.Option(min=8, help="Drop longer rows; needs --tokenizer.", rich_help_panel=_CHECKING),
]
HeldOut = Annotated[
    str | None,
    typer.Option(
        metavar="SOURCE", help="Rows whose prompts must not be trained on.", rich_help_panel=_CHECKING
    ),
]
Embeddings = Annotated[
    bool,
    typer.Option(
        help="Look for prompts far from the others in meaning (it loads torch).", rich_help_panel=_CHECKING
    ),
]
Group = Annotated[
    str | None,
    typer.Option(
        help="A column whose values stay in one split, such as a customer's.", rich_help_panel=_SPLITTING
    ),
]
ValidationShare = Annotated[
    float, typer.Option(help="Share of prompts for the validation loss.", rich_help_panel=_SPLITTING)
]
TestShare = Annotated[
    float, typer.Option(help="Share of prompts held out to judge by.", rich_help_panel=_SPLITTING)
]
Resample = Annotated[
    Literal["up", "down"] | None,
    typer.Option(help="Balance the classes of the training rows.", rich_help_panel=_SPLITTING),
]
ResampleCap = Annotated[
    int | None,
    typer.Option(
        help="Rows of a class after that.",
        show_default="as the smallest (down) or largest (up) has",
        rich_help_panel=_SPLITTING,
    ),
]
Seed = Annotated[int, typer.Option(help="Of resampling and samples.", rich_help_panel=_SPLITTING)]
Html = Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write the report as a page.")]
Fix = Annotated[
    Path | None, typer.Option("--fix", metavar="FILE.jsonl", help="Write the cleaned rows to a new file.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the report as one JSON object.")]
