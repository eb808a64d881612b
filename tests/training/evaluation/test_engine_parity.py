"""`turnout evaluate` beside engines that agree, that round otherwise, and that serve the base model."""

from typing import Any

import pytest

from tests.training.evaluation.fleet import Fleet
from tests.training.evaluation.servers import Answer, serving

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(400),
    pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning"),
]


def engine(fleet: Fleet, *, honest: bool, off: float = 0.0, base_off: float = 0.0) -> Answer:
    """Return an engine that answers with the version that it is asked for, or always with the base model.

    Its log-probabilities are `off` by so many nats, those of the base model `base_off`.
    """
    from adapters.base import identify
    from training.evaluation.answers import answer
    from training.evaluation.engine_parity import _tops
    from training.evaluation.scorer import Scorer
    from training.evaluation.systems import BASE_SYSTEM, Catalogue
    from training.progress import Progress
    from training.publishing.publish import control_url

    catalogue = Catalogue(
        fleet.state, control_url(fleet.state, None), identify(str(fleet.base), "tiny"), max_rank=8
    )
    systems = {each.name: each for each in catalogue.systems(["fruit@2"], route=None)}
    scorer = Scorer(
        str(fleet.base),
        list(systems.values()),
        instruction=None,
        base_key="",
        progress=Progress(quiet=True),
        cache=None,
    )

    def answers(path: str, body: dict[str, Any], _headers: dict[str, str]) -> tuple[int, Any, dict[str, str]]:
        if path == "/v1/models":
            return 200, {"data": []}, {}
        prompts = [scorer.template.ids(text) for text in body["prompt"]]
        system = systems.get(body["model"], BASE_SYSTEM)
        wrong = base_off if system is BASE_SYSTEM else off
        with scorer.speaking(system if honest else BASE_SYSTEM):
            tops = _tops(scorer.model, prompts, 1)
            texts = answer(scorer.model, scorer.base.tokenizer, prompts, max_new_tokens=body["max_tokens"])
        choices = [
            {
                "index": place,
                "text": text,
                "logprobs": {
                    "top_logprobs": [{f"token_id:{token}": value - wrong for token, value in top.items()}]
                },
            }
            for place, (top, text) in enumerate(zip(tops, texts, strict=True))
        ]
        return 200, {"choices": choices}, {}

    return answers


def test_parity_with_an_engine_holds_or_is_off(fleet: Fleet) -> None:
    """An engine with the same weights agrees; one that serves the base model fails, if that is asked."""
    arguments = ("fruit@2", fleet.rows, "--no-baselines", "--no-keep")
    with serving(engine(fleet, honest=True)) as url:
        found = fleet.judge(*arguments, "--engine-url", url, "--require-parity", parity=True)
    assert [each["holds"] for each in found["parity"]] == [True, True]
    assert found["parity"][0]["distance_to_base"] > 5 * found["parity"][0]["noise"]
    with serving(engine(fleet, honest=False)) as url:
        found = fleet.judge(*arguments, "--url", url, parity=True)
        assert [each["holds"] for each in found["parity"]] == [False, False]
        assert "like the base model" in found["parity"][0]["off"]
        done = fleet.run(*arguments, "--engine-url", url, "--require-parity", parity=True)
    assert done.exit_code == 1
    assert "OFF" in done.stdout


@pytest.mark.parametrize(
    ("off", "base_off", "holds"), [(0.2, 0.1, True), (0.2, 0.0, False), (0.4, 5.0, True), (0.6, 5.0, False)]
)
def test_an_engine_that_rounds_otherwise_is_known_by_its_base_model(
    fleet: Fleet, off: float, base_off: float, holds: bool
) -> None:
    """What the base model differs by is noise, up to 0.15 nats; what the version alone does is not."""
    arguments = ("fruit@2", fleet.rows, "--no-baselines", "--no-keep")
    with serving(engine(fleet, honest=True, off=off, base_off=base_off)) as url:
        found = fleet.judge(*arguments, "--engine-url", url, parity=True)
    assert [each["holds"] for each in found["parity"]] == [holds, holds]
    assert found["parity"][0]["noise"] <= 0.15


def test_without_an_engine_parity_is_not_looked_at(fleet: Fleet) -> None:
    """By default that is a note; where it was asked for it is a failure."""
    arguments = ("fruit@2", fleet.rows, "--no-baselines", "--no-keep")
    found = fleet.judge(*arguments, "--url", "http://127.0.0.1:9", parity=True)
    assert found["parity"] == []
    assert any("nothing answers" in note for note in found["notes"])
    done = fleet.run(*arguments, "--url", "http://127.0.0.1:9", "--require-parity", parity=True)
    assert done.exit_code == 1
