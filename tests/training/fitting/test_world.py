"""What is known of the processes that a launcher started."""

import os

import pytest

from training.fitting.world import forget_leftovers, local_rank, rank, world


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, (1, 0, 0)),
        (
            {"WORLD_SIZE": "8", "LOCAL_RANK": "2"},
            (1, 0, 0),
        ),  # left over: no launcher gave this process a rank
        ({"RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}, (8, 3, 1)),
    ],
)
def test_a_launcher_is_known_by_its_variables(
    environment: dict[str, str], expected: tuple[int, int, int]
) -> None:
    """Both torchrun and accelerate set them; what is left of one counts for nothing and is taken away."""
    assert (world(environment), rank(environment), local_rank(environment)) == expected
    kept = dict(environment)
    forget_leftovers(kept)
    assert kept == (environment if "RANK" in environment else {})


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("left", ["WORLD_SIZE", "PMI_SIZE"])
def test_accelerate_waits_for_nobody(left: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without this it would form a group of three and wait for the other two."""
    from accelerate import PartialState

    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(left, "3")
    forget_leftovers(os.environ)
    PartialState._reset_state()
    try:
        assert PartialState().num_processes == 1
    finally:
        PartialState._reset_state()
