"""How the rows of a step are shared among processes."""

from types import SimpleNamespace
from typing import cast

import pytest

from training.config import TrainConfig
from training.fitting.recipes import kto, sft

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")]


@pytest.mark.parametrize(
    ("config", "environment", "wanted"),
    [
        (sft(), {}, 8),
        (sft(), {"RANK": "0", "WORLD_SIZE": "4"}, 2),
        (sft(), {"WORLD_SIZE": "4"}, 8),
        (sft(accumulation=2), {"RANK": "1", "WORLD_SIZE": "4"}, 1),
        (kto(), {"RANK": "0", "WORLD_SIZE": "4"}, 2),
        (sft(), {"RANK": "0", "WORLD_SIZE": "3"}, "can't be shared by 3 processes"),
        (kto(), {"RANK": "0", "WORLD_SIZE": "8"}, "kto needs two: take 16 or more"),
    ],
)
def test_the_rows_of_a_pass(
    config: TrainConfig, environment: dict[str, str], wanted: int | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step's rows over processes and passes; what a launcher of before has left behind is none."""
    from training.fitting.building import Given

    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    rows = cast("property", Given.pass_rows).fget
    assert rows is not None
    if isinstance(wanted, int):
        assert rows(SimpleNamespace(config=config)) == wanted
        return
    with pytest.raises(ValueError, match=wanted):
        rows(SimpleNamespace(config=config))
