"""What `turnout train` was asked for: one frozen value from flags, file and environment, and back again.

The fields of `Order` are the command's options, the keys of its configuration file and what a run keeps of
them: all three come from here. None means that the recipe decides.
"""

import re
import shlex
import time
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from adapters.base import DEFAULT
from gateway.core.requests import MAX_TEXT_CHARS
from gateway.core.times import parse_time
from training import options as o
from training.config import MAX_RANK, TrainConfig
from training.runs import row_options as r

SERVED = "TURNOUT_ENGINE__QUANTIZATION"
PRUNERS = ("median", "halving", "none")
TRACKERS = ("mlflow", "wandb", "none")
PERSONAL = ("mask", "drop", "report", "off")
PLACES = frozenset(
    {
        "state_dir",
        "store_url",
        "requests_url",
        "out",
        "runs",
        "track",
        "track_uri",
        "on",
        "on_gpus",
        "on_cpus",
    }
)
"""Options that say where things happen. They decide nothing about the weights, and some hold secrets."""

_SWITCHES: Mapping[str, bool | str] = {
    "on": True,
    "off": False,
    "true": True,
    "false": False,
    "auto": "auto",
}
_USER = re.compile(r"(?<=://)[^/@\s]+@")
_PARAMETER = re.compile(
    r"([?&][^=&\s]*(?:token|key|sig|secret|passw|credential)[^=&\s]*=)[^&\s]+", re.IGNORECASE
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Every option that decides a run. Paths are as they were given until `settled`."""

    name: o.Name = None
    source: o.Source = None
    prompt_column: r.PromptColumn = None
    completion_column: r.CompletionColumn = None
    chosen_column: r.ChosenColumn = None
    rejected_column: r.RejectedColumn = None
    rating_column: r.RatingColumn = None
    weight_column: r.WeightColumn = None
    format: r.Format = None
    max_mib: r.MaxMib = None
    instruction: o.Instruction = None
    personal: r.Personal = "mask"
    ner_model: r.NerModel = None
    near: r.Near = None
    copies_only: r.CopiesOnly = False
    conflicts: r.Conflicts = "majority"
    held_out: r.HeldOut = None
    group: r.Group = None
    resample: r.Resample = None
    resample_cap: r.ResampleCap = None
    embeddings: r.Embeddings = True
    limit: r.Limit = None
    validation_share: r.ValidationShare = None
    test_share: r.TestShare = None
    since: r.Since = None
    until: r.Until = None
    version: r.Version = None
    feedback_metric: r.FeedbackMetric = None
    at_least: r.AtLeast = None
    requests_url: r.RequestsUrl = None
    max_text_chars: r.MaxTextChars = MAX_TEXT_CHARS
    data_source: r.DataSource = None
    data_terms: r.DataTerms = "not stated"
    loop_run: r.LoopRun = None
    drift_id: r.DriftId = None
    curated: r.Curated = None
    recipe: o.Recipe = None
    from_version: o.From = None
    base: o.Base = DEFAULT
    base_name: o.BaseName = None
    adapter: o.Adapter = None
    rank: o.Rank = None
    alpha: o.Alpha = None
    dropout: o.Dropout = None
    rslora: o.RsLora = None
    target_modules: o.TargetModules = None
    quantization: o.Quantization = None
    dtype: o.Dtype = None
    beta: o.Beta = None
    full: o.Full = None
    epochs: o.Epochs = None
    learning_rate: o.LearningRate = None
    schedule: o.Schedule = None
    warmup_share: o.WarmupShare = None
    batch_size: o.BatchSize = None
    accumulation: o.Accumulation = None
    max_tokens: o.MaxTokens = None
    packing: o.Packing = None
    gradient_checkpointing: o.GradientCheckpointing = None
    unpack_base: o.UnpackBase = None
    weight_decay: o.WeightDecay = None
    max_grad_norm: o.MaxGradNorm = None
    eval_steps: o.EvalSteps = None
    patience: o.Patience = None
    seed: o.Seed = None
    max_test_rows: o.MaxTestRows = None
    metric: o.MetricNames = None
    shots: o.Shots = 0
    probe: o.Probes = None
    probes_from_data: o.ProbesFromData = False
    runs: o.Runs = None
    track: o.Track = "mlflow"
    track_uri: o.TrackUri = None
    search: o.SearchTrials = None
    search_minutes: o.SearchMinutes = None
    search_pruner: o.SearchPruner = "median"
    processes: o.Processes = None
    on: o.On = None
    on_gpus: o.OnGpus = None
    on_cpus: o.OnCpus = 1.0
    publish: o.Publish = True
    out: o.Out = None
    state_dir: o.StateDir = Path(".turnout")
    store_url: o.StoreUrl = None
    max_rank: o.MaxRank = MAX_RANK

    def __post_init__(self) -> None:
        """Refuse what is wrong whatever the data is."""
        _among("--track", self.track, TRACKERS)
        _among("--search-pruner", self.search_pruner, PRUNERS)
        _among("--personal", self.personal, PERSONAL)
        _among("--conflicts", self.conflicts, ("majority", "keep"))
        _among("--resample", self.resample or "up", ("up", "down"))
        for option, value in (("--search", self.search), ("--processes", self.processes)):
            if value is not None and value < 1:
                raise ValueError(f"{option} is {value}, and must be at least 1")
        if self.search_minutes is not None and self.search_minutes <= 0:
            raise ValueError(f"--search-minutes is {self.search_minutes}, and must be above 0")
        if self.on is not None and (self.search or (self.processes or 1) > 1):
            raise ValueError("--on trains in one process of the cluster; leave --search and --processes out")
        if self.search and (self.processes or 1) > 1:
            raise ValueError("--search tries settings in this process; leave --processes out")

    def settled(self, folder: Path) -> "Order":
        """Return the order with places that hold from any working directory, and times that hold on any day.

        `folder` is the present one.

        Raises:
            ValueError: a time can't be read.
        """
        found: dict[str, Any] = {"state_dir": folder / self.state_dir}
        if self.out is not None:
            found["out"] = folder / self.out
        if self.from_version is not None and (folder / self.from_version).is_dir():
            found["from_version"] = str(folder / self.from_version)
        if (folder / self.base).is_dir():
            found["base"] = str(folder / self.base)
        for name in ("since", "until"):
            given = getattr(self, name)
            if given is not None:
                at = datetime.fromtimestamp(parse_time(given, now=time.time()), UTC)
                found[name] = at.isoformat()
        return replace(self, **found)

    def document(self) -> dict[str, Any]:
        """Return what was asked as JSON values, without what stands at its default and without secrets."""
        return {name: redacted(value) for name, value in _asked(self)}


def order_of(values: Mapping[str, Any]) -> Order:
    """Return the order that options (or the document of one) make.

    Raises:
        ValueError: an option is not known, or its value is of another type or out of range.
    """
    types = _types()
    unknown = sorted(set(values) - set(types))
    if unknown:
        raise ValueError(f"{unknown[0]!r} is no option of turnout train")
    return Order(**{name: _typed(name, value, types[name]) for name, value in values.items()})


def as_served(environment: Mapping[str, str]) -> dict[str, Any]:
    """Return the options that follow from how a fleet serves its base model, as its environment says.

    An adapter learns to undo the rounding errors of the base that it was trained on: where the fleet's is not
    quantized, it is trained on one that is not. The default is what a fleet does by default.
    """
    return {"quantization": "none"} if environment.get(SERVED) in {"", "none"} else {}


def config_changes(order: Order) -> dict[str, Any]:
    """Return the fields of the training settings that the order has values for."""
    asked: dict[str, Any] = {
        field.name: value
        for field in fields(TrainConfig)
        if (value := getattr(order, field.name, None)) is not None
    }
    for name in ("gradient_checkpointing", "unpack_base"):
        if name in asked:
            asked[name] = _switch(name, asked[name])
    if "target_modules" in asked and asked["target_modules"] != "all-linear":
        names = tuple(part.strip() for part in asked["target_modules"].split(",") if part.strip())
        asked["target_modules"] = names
    return asked


def command_line(order: Order) -> str:
    """Return the command that makes the same adapter again: what decides it, and no place and no secret."""
    words = ["turnout", "train", *(str(redacted(word)) for word in (order.name, order.source) if word)]
    for name, value in _asked(order):
        if name in PLACES or name in {"name", "source"}:
            continue
        words += _words(name, value)
    return shlex.join(words)


def flag(name: str, *, value: bool = True) -> str:
    """Return how an option is written: its first name, or what switches it off."""
    declared = _option(name).default
    first = declared if isinstance(declared, str) and declared.startswith("--") else None
    if first is None:
        first = f"--{name.replace('_', '-')}"
    on, _, off = first.partition("/")
    return on if value else (off or f"--no-{on.removeprefix('--')}")


def panel(name: str) -> str | None:
    """Return the heading of `--help` that an option stands under."""
    found: str | None = _option(name).rich_help_panel
    return found


def redacted(value: Any) -> Any:
    """Return a value as JSON, without the secrets that URLs carry."""
    if isinstance(value, list | tuple):
        return [redacted(part) for part in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, str):
        return _PARAMETER.sub(r"\1***", _USER.sub("***@", value))
    return value


def _asked(order: Order) -> Iterable[tuple[str, Any]]:
    for field in fields(order):
        value = getattr(order, field.name)
        if value is not None and (field.default is MISSING or value != field.default):
            yield field.name, value


def _words(name: str, value: Any) -> list[str]:
    if isinstance(value, bool):
        return [flag(name, value=value)]
    values = value if isinstance(value, list | tuple) else [value]
    return [word for part in values for word in (flag(name), str(redacted(part)))]


def _types() -> dict[str, Any]:
    """Return the plain type of each option: `int | None` is `int`."""
    found = {}
    for name, hint in get_type_hints(Order).items():
        kinds = [kind for kind in get_args(hint) or (hint,) if kind is not type(None)]
        found[name] = hint if get_origin(hint) is list else kinds[0]
    return found


def _typed(name: str, value: Any, kind: Any) -> Any:
    if value is None:
        return None
    if get_origin(kind) is list:
        if isinstance(value, list | tuple) and all(isinstance(part, str) for part in value):
            return tuple(value)
        raise ValueError(f"{flag(name)} is {value!r}, and must be a list of strings")
    if kind is Path and isinstance(value, str | Path):
        return Path(value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ValueError(f"{flag(name)} is {value!r}, and must be {_KINDS[kind]}")
    return value


_KINDS = {
    int: "a whole number",
    float: "a number",
    str: "a string",
    bool: "true or false",
    Path: "a path",
}


def _switch(name: str, value: str) -> bool | str:
    if value not in _SWITCHES:
        raise ValueError(f"{flag(name)} is {value}, and must be on, off or auto")
    return _SWITCHES[value]


def _among(option: str, value: str, allowed: Iterable[str]) -> None:
    if value not in allowed:
        raise ValueError(f"{option} is {value}, and must be one of {', '.join(allowed)}")


def _option(name: str) -> Any:
    hint = get_type_hints(Order, include_extras=True)[name]
    if get_origin(hint) is not Annotated:
        raise ValueError(f"{name!r} is no option of turnout train")
    return get_args(hint)[1]
