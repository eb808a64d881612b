"""Orders: options as one value, and back to a command line."""

import shlex
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from gateway.core.times import parse_time
from training.config import TrainConfig
from training.runs.order import Order, command_line, config_changes, flag, order_of, panel, redacted


def test_every_setting_of_training_has_an_option() -> None:
    """Nothing that decides an adapter is out of a user's reach; the method is the recipe's."""
    options = {field.name for field in fields(Order)}
    assert {field.name for field in fields(TrainConfig)} - options == {"method", "parent"}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"rnak": 8}, "'rnak' is no option"),
        ({"rank": "8"}, "--rank is '8', and must be a whole number"),
        ({"rank": True}, "--rank is True, and must be a whole number"),
        ({"epochs": "many"}, "--epochs is 'many', and must be a number"),
        ({"packing": 1}, "--packing is 1, and must be true or false"),
        ({"metric": "accuracy"}, "--metric is 'accuracy', and must be a list of strings"),
        ({"probe": [1]}, "must be a list of strings"),
        ({"track": "paper"}, "--track is paper"),
        ({"personal": "sell"}, "--personal is sell"),
        ({"conflicts": "war"}, "--conflicts is war"),
        ({"resample": "sideways"}, "--resample is sideways"),
        ({"search_pruner": "axe"}, "--search-pruner is axe"),
        ({"search": 0}, "--search is 0"),
        ({"processes": 0}, "--processes is 0"),
        ({"search_minutes": 0.0}, "--search-minutes is 0"),
        ({"on": "auto", "processes": 2}, "--on trains in one process"),
        ({"on": "auto", "search": 2}, "--on trains in one process"),
        ({"processes": 2, "search": 2}, "--search tries settings in this process"),
    ],
)
def test_wrong_values_name_the_option(values: dict[str, Any], said: str) -> None:
    """A file's mistake is told in the same words as a flag's."""
    with pytest.raises(ValueError, match=r"--|no option") as caught:
        order_of(values)
    assert said in str(caught.value)


def test_values_from_a_file_take_the_options_types() -> None:
    """A whole number is a number, a string a path, a list of strings stays one."""
    order = order_of({"epochs": 2, "out": "there", "metric": ["accuracy"], "packing": False})
    assert (order.epochs, order.out, order.metric, order.packing) == (
        2.0,
        Path("there"),
        ("accuracy",),
        False,
    )
    assert isinstance(order.epochs, float)


def test_an_order_survives_its_document() -> None:
    """What a run keeps of its order makes the same order again."""
    order = Order(
        name="fruit",
        source="rows.jsonl",
        rank=4,
        epochs=0.5,
        metric=["accuracy"],
        publish=False,
        out=Path("/o"),
    )
    again = order_of(order.document())
    assert again.document() == order.document()
    assert (again.rank, again.epochs, again.publish, again.out) == (4, 0.5, False, Path("/o"))


def test_a_document_and_a_command_hold_no_secret() -> None:
    """Passwords and tokens in addresses are neither kept in a run's folder nor shown in a card."""
    order = Order(
        name="fruit",
        source="https://me:hunter2@example.org/rows.jsonl?sig=abc&part=1",
        store_url="postgresql://turnout:hunter2@db/turnout",
        track_uri="http://u:hunter2@mlflow",
        rank=4,
    )
    line = command_line(order)
    for text in (str(order.document()), line):
        assert "hunter2" not in text
        assert "abc" not in text
    assert "part=1" in line


def test_the_command_line_has_what_decides_the_adapter_and_no_place() -> None:
    """Typed again anywhere it makes the same adapter; where things lie is the typist's business."""
    order = Order(
        name="fruit",
        source="rows.jsonl",
        instruction="Which one? It's one word.",
        rank=4,
        packing=False,
        from_version="fruit@1",
        probe=["a b", "c"],
        publish=False,
        state_dir=Path("/var/turnout"),
        out=Path("/out"),
        runs=Path("/runs"),
        track="none",
    )
    words = shlex.split(command_line(order))
    assert words[:4] == ["turnout", "train", "fruit", "rows.jsonl"]
    for pair in (["--rank", "4"], ["--from", "fruit@1"], ["--instruction", "Which one? It's one word."]):
        assert any(words[place : place + 2] == pair for place in range(len(words)))
    assert words.count("--probe") == 2
    assert {"--no-packing", "--no-publish"} <= set(words)
    assert not {"--state-dir", "--out", "--runs", "--track"} & set(words)


@pytest.mark.parametrize(
    ("name", "value", "written"),
    [
        ("rank", True, "--rank"),
        ("learning_rate", True, "--learning-rate"),
        ("from_version", True, "--from"),
        ("prompt_column", True, "--prompt-column"),
        ("packing", False, "--no-packing"),
        ("publish", True, "--publish"),
        ("publish", False, "--no-publish"),
        ("embeddings", False, "--no-embeddings"),
    ],
)
def test_options_are_written_as_they_are_typed(name: str, value: bool, written: str) -> None:
    """Messages and commands name options as `--help` does."""
    assert flag(name, value=value) == written


def test_options_stand_under_headings() -> None:
    """Help with seventy options is readable by its panels."""
    assert panel("rank") == "Method and LoRA"
    assert panel("epochs") == "Optimisation"


def test_words_become_the_settings_values() -> None:
    """Switches and lists of layers are typed as words."""
    order = Order(gradient_checkpointing="on", unpack_base="auto", target_modules="q_proj, v_proj", rank=4)
    assert config_changes(order) == {
        "gradient_checkpointing": True,
        "unpack_base": "auto",
        "target_modules": ("q_proj", "v_proj"),
        "rank": 4,
    }
    assert config_changes(Order(target_modules="all-linear")) == {"target_modules": "all-linear"}
    with pytest.raises(ValueError, match="--unpack-base is perhaps"):
        config_changes(Order(unpack_base="perhaps"))


def test_a_settled_order_holds_from_any_working_directory(tmp_path: Path) -> None:
    """A run that is resumed from elsewhere publishes to the same place."""
    (tmp_path / "base").mkdir()
    order = Order(base="base", out=Path("o"), from_version="base").settled(tmp_path)
    assert order.base == order.from_version == str(tmp_path / "base")
    assert order.out == tmp_path / "o"
    assert order.state_dir == tmp_path / ".turnout"
    hub = Order(base="org/model", from_version="fruit@1").settled(tmp_path)
    assert (hub.base, hub.from_version) == ("org/model", "fruit@1")


def test_a_settled_order_means_the_same_traffic_on_any_day(tmp_path: Path) -> None:
    """An age becomes the time it was when the run began, and stays that."""
    order = Order(since="7d", until="2026-05-01T12:00").settled(tmp_path)
    assert abs(parse_time(str(order.since), now=0.0) - (time.time() - 7 * 86_400)) < 60
    assert order.until == "2026-05-01T12:00:00+00:00"
    assert order.settled(tmp_path) == order


def test_redaction_leaves_plain_values_alone() -> None:
    """Only secrets are hidden."""
    assert redacted("user@example.org writes to https://example.org/a?b=c") == (
        "user@example.org writes to https://example.org/a?b=c"
    )
    assert redacted(("x", Path("/y"))) == ["x", "/y"]
