"""How an order's rows are read, checked and split."""

from pathlib import Path

import pytest

from training.data.splits import Shares
from training.runs.order import Order
from training.runs.preparing import source_name
from training.runs.sources import reading_of, shares_of, split_of


def test_options_reach_the_reading_of_rows() -> None:
    """Columns, form, kind, checks and resampling are the order's; what was not said is the data's own."""
    found = reading_of(
        Order(
            source="rows.csv",
            prompt_column="text",
            rating_column="ok",
            format="rated",
            recipe="kto",
            personal="drop",
            copies_only=True,
            group="customer",
            resample="up",
            resample_cap=5,
            embeddings=False,
            max_mib=1,
        )
    )
    assert found.columns is not None
    assert (found.columns.prompt, found.columns.liked, found.columns.completion) == (
        "text",
        "ok",
        "completion",
    )
    assert (found.form, found.kind, found.group, found.embeddings) == ("rated", "rated", "customer", False)
    assert (found.check.personal, found.check.near) == ("drop", None)
    assert found.resampling is not None
    assert (found.resampling.way, found.resampling.cap) == ("up", 5)
    assert found.limits.total_bytes == 2**20
    assert found.traffic is None
    plain = reading_of(Order(source="rows.csv"))
    assert (plain.columns, plain.form, plain.kind, plain.resampling) == (None, None, None, None)
    assert plain.shares == Shares()


def test_recorded_traffic_is_read_from_the_fleets_own_stores(tmp_path: Path) -> None:
    """`turnout:ROUTE` needs no address where the state directory is here."""
    order = Order(source="turnout:support", state_dir=tmp_path, version="support@3", since="2026-11-01T00:00")
    traffic = reading_of(order).traffic
    assert traffic is not None
    assert traffic.control_url == f"sqlite:///{tmp_path / 'control.db'}"
    assert traffic.requests_url == f"sqlite:///{tmp_path / 'requests.db'}"
    assert traffic.version == "support@3"
    assert traffic.since == 1793491200.0
    assert traffic.max_text_chars == 8000
    cut = reading_of(Order(source="turnout:support", max_text_chars=4000)).traffic
    assert cut is not None
    assert cut.max_text_chars == 4000


@pytest.mark.parametrize(
    ("order", "said"),
    [
        (Order(format="poem"), "--format poem"),
        (Order(near=0.1), "--near 0.1"),
        (Order(resample="up", resample_cap=0), "--resample-cap is 0"),
        (Order(validation_share=0.5, test_share=0.5), "leave no rows"),
        (Order(max_test_rows=0), "--max-test-rows is 0"),
        (Order(source="turnout:x", since="soon"), "'soon' is neither"),
    ],
)
def test_wrong_options_are_found_before_the_rows_are_read(order: Order, said: str) -> None:
    """Mistakes of the order are told without a look at the data."""
    with pytest.raises(ValueError, match=said):
        reading_of(order)


def test_shares_are_the_orders_or_the_datas() -> None:
    """Only what was said is changed."""
    assert shares_of(Order(test_share=0.3, limit=50)) == Shares(test=0.3, max_train=50)


def test_a_card_names_a_file_without_where_it_lay(tmp_path: Path) -> None:
    """A home directory is nobody's business; an address keeps no password."""
    path = tmp_path / "rows.jsonl"
    path.touch()
    assert source_name(str(path)) == "rows.jsonl"
    assert source_name("hf://org/rows") == "hf://org/rows"
    assert source_name("s3://me:secret@bucket/rows") == "s3://***@bucket/rows"


def test_what_decides_the_held_out_rows_is_for_lineage() -> None:
    """The model that finds names too: a row's place is a hash of its masked prompt."""
    found = split_of(Order(ner_model="en_core_web_sm", test_share=0.2, group="customer"))
    assert (found["test"], found["group"]) == (0.2, "customer")
    checked = {name: found[name] for name in ("near", "personal", "ner_model", "conflicts")}
    assert checked == {
        "near": 0.8,
        "personal": "mask",
        "ner_model": "en_core_web_sm",
        "conflicts": "majority",
    }
