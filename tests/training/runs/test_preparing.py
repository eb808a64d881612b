"""What a run knows before a model is loaded: rows, settings, and what its report says."""

import html
import re
from pathlib import Path

import pytest

from training.progress import Progress
from training.runs import preparing
from training.runs.order import Order
from training.runs.preparing import REPORT, prepared

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning"),
]


def order_of(rows: Path, base: Path, **changes: object) -> Order:
    """Return an order for these rows that is quick to prepare."""
    values = {"personal": "off", "copies_only": True, "embeddings": False, "publish": False, **changes}
    return Order(name="fruit", source=str(rows), base=str(base), **values)  # type: ignore[arg-type]


def told(folder: Path) -> str:
    """Return what the report's page says of lengths."""
    page = html.unescape((folder / REPORT).read_text(encoding="utf-8"))
    found = re.search(r"<h2>Lengths</h2><p>(.*?)</p>", page)
    assert found is not None
    return found[1]


@pytest.mark.parametrize(
    ("options", "limit", "over"),
    [({}, 512, 0), ({"max_tokens": 16}, 16, 50), ({"max_tokens": 15, "completion_column": "long"}, 15, 100)],
)
def test_the_report_measures_rows_against_the_context_window(
    *,
    tmp_path: Path,
    tiny_base: Path,
    capsys: pytest.CaptureFixture[str],
    options: dict[str, object],
    limit: int,
    over: int,
) -> None:
    """In the base model's tokens, against --max-tokens or its window, and nothing is dropped for it."""
    rows = tmp_path / "rows.csv"
    lines = [f"{'ab'[n % 2] * 10}{n:02},{'ab'[n % 2] * (4 + n % 2)},{'cd'[n % 2] * 9}" for n in range(100)]
    rows.write_text("\n".join(["prompt,completion,long", *lines]), encoding="utf-8")
    more = {"prompt_column": "prompt"} if "completion_column" in options else {}
    found = prepared(order_of(rows, tiny_base, **options, **more), tmp_path, Progress())
    assert found.data["rows_kept"] == 100
    said = told(tmp_path)
    assert said.startswith("In tokens: median ")
    assert f"Longer than the {limit} tokens that training takes" in said
    assert f": {over} rows" in said
    assert ("which it leaves out" in capsys.readouterr().err) == (over > 0)


def test_without_the_tokenizer_lengths_are_characters(
    tmp_path: Path, tiny_base: Path, rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A base model that only a cluster's machine has can be trained on all the same; the report says it."""

    def missing(_: str) -> None:
        raise OSError("no such tokenizer")

    monkeypatch.setattr(preparing, "counting", missing)
    prepared(order_of(rows, tiny_base), tmp_path, Progress(quiet=True))
    assert told(tmp_path).startswith("In characters")
    assert "can't be loaded: no such tokenizer" in html.unescape((tmp_path / REPORT).read_text("utf-8"))
