"""What the options of `turnout evaluate` ask for."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from adapters.manifest import BaseIdentity
from training.evaluation import cli
from training.evaluation.evaluating import Order


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Order]:
    """The orders that commands make, none of which is carried out."""
    orders: list[Order] = []

    def taken(order: Order, _progress: Any) -> None:
        orders.append(order)
        raise ValueError("enough")

    monkeypatch.setattr(cli, "evaluate_versions", taken)
    monkeypatch.setattr(cli, "prepare", lambda *_: Path())
    monkeypatch.setattr(cli, "identify", lambda *_: BaseIdentity(name="b"))
    return orders


@pytest.mark.parametrize("form", [None, "rated", "chat"])
def test_the_form_of_the_rows_can_be_said(asked: list[Order], form: str | None) -> None:
    """By the option of `turnout train` and `turnout data check`."""
    done = CliRunner().invoke(
        cli.app, ["one@1", "rows.jsonl", *(["--format", form] if form is not None else [])]
    )
    assert done.exit_code == 2, done.output
    assert "enough" in done.output
    (order,) = asked
    assert (order.rows.source, order.rows.form) == ("rows.jsonl", form)


def test_a_form_that_is_not_known_names_those_there_are(asked: list[Order]) -> None:
    """A slip is found before anything is read."""
    done = CliRunner().invoke(cli.app, ["one@1", "rows.jsonl", "--format", "chart"])
    assert done.exit_code == 2
    assert "prompt-completion" in done.output
    assert asked == []


def test_a_report_names_its_command_without_keys_and_passwords(
    asked: list[Order], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reports are kept and handed on; what was asked stays readable."""
    given = [
        "one@1", "rows.jsonl", "--store-url", "postgresql://turnout:s3cret@db/control",
        "--judge-url=https://u:s3cret@judge/v1?token=s3cret", "--judge-model", "j", "--api-key=s3cret",
        "--api-key", "s3cret",
    ]  # fmt: skip
    monkeypatch.setattr("sys.argv", ["turnout", *given])
    CliRunner().invoke(cli.app, given)
    (order,) = asked
    assert "s3cret" not in order.command
    assert order.command.startswith("turnout evaluate one@1 rows.jsonl --store-url ")
    assert "@db/control" in order.command
    assert "@judge/v1" in order.command
