"""Sample-ratio mismatch."""

import pytest

from gateway.experiments.mismatch import mismatch

EPOCHS = {1: {"s@1": 0.95, "s@2": 0.05}, 4: {"s@1": 0.5, "s@2": 0.5}}
KEPT = {"s@1": 950, "s@2": 50}


@pytest.mark.parametrize(
    ("counts", "epoch", "suspicious"),
    [
        ({}, None, False),
        ({1: {}}, None, False),
        ({1: KEPT}, 1, False),
        ({1: {"s@1": 1}}, 1, False),
        ({1: {"s@1": 960, "s@2": 40}}, 1, False),
        ({1: {"s@1": 9_650, "s@2": 350}}, 1, True),
        ({1: {"s@1": 1000, "s@2": 0}}, 1, True),
        ({1: KEPT, 4: {"s@1": 800, "s@2": 600}}, 4, True),
        ({1: {"s@1": 9_650, "s@2": 350}, 4: {"s@1": 500, "s@2": 500}}, 1, True),
        ({1: {**KEPT, "s@3": 1}}, 1, True),
    ],
    ids=["nothing", "none", "kept", "first", "noise", "lost", "empty", "later", "earlier", "stray"],
)
def test_counts_are_judged_epoch_by_epoch(
    counts: dict[int, dict[str, int]], epoch: int | None, suspicious: bool
) -> None:
    """Counts that the shares do not explain are suspicious, and the epoch that shows it is named."""
    found = mismatch(counts, EPOCHS, alpha=0.05)
    assert (found.epoch, found.suspicious) == (epoch, suspicious)
    assert 0 <= found.p_value <= 1


def test_a_later_epoch_needs_more() -> None:
    """The same counts speak less the later their epoch comes, so that all epochs together err with alpha."""
    odd = {"s@1": 800, "s@2": 660}
    shares = EPOCHS[4]
    first = mismatch({1: odd}, {1: shares}, alpha=0.05).p_value
    second = mismatch({1: {"s@1": 1}, 2: odd}, {1: shares, 2: shares}, alpha=0.05).p_value
    assert second == pytest.approx(3 * first)


def test_shares_need_not_add_up() -> None:
    """Arms are compared by their proportions, as the route's shares add up to 1 only within rounding."""
    one = mismatch({1: KEPT}, {1: {"s@1": 0.95, "s@2": 0.05}}, alpha=0.05)
    assert mismatch({1: KEPT}, {1: {"s@1": 19.0, "s@2": 1.0}}, alpha=0.05).p_value == pytest.approx(
        one.p_value
    )


def test_a_rejection_stays_one() -> None:
    """What settled counts have once contradicted is not believed because later ones look better."""
    lost, mended = {1: {"s@1": 9_650, "s@2": 350}}, {1: {"s@1": 19_000, "s@2": 1_000}}
    first = mismatch(lost, EPOCHS, alpha=0.05, settled=lost)
    assert first.suspicious
    assert first.settled.keys() == {1}
    later = mismatch(mended, EPOCHS, alpha=0.05, settled=mended, earlier=first.settled)
    assert (later.suspicious, later.p_value, later.epoch) == (True, first.p_value, 1)
    assert later.settled == first.settled
    assert not mismatch(mended, EPOCHS, alpha=0.05, settled=mended).suspicious


def test_what_is_not_settled_is_not_remembered() -> None:
    """The newest counts lack what is under way: they withhold a verdict now and not for ever."""
    lost = {1: {"s@1": 9_650, "s@2": 350}}
    now = mismatch(lost, EPOCHS, alpha=0.05, settled={1: KEPT})
    assert now.suspicious
    assert now.settled[1] > 0.05
    assert not mismatch({1: KEPT}, EPOCHS, alpha=0.05, settled={1: KEPT}, earlier=now.settled).suspicious


def test_the_worst_of_all_looks_and_epochs_counts() -> None:
    """Each epoch is remembered at its worst, also when it has no counts at this look."""
    found = mismatch({4: {"s@1": 5, "s@2": 5}}, EPOCHS, alpha=0.05, earlier={1: 0.2, 4: 0.9})
    assert (found.p_value, found.epoch, found.settled) == (0.2, 1, {1: 0.2, 4: 0.9})
