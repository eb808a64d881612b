"""The rule of a proof, on made answers: what passes, what fails and with which words, what is weak."""

from dataclasses import replace

import pytest

from adapters.answers import Answers
from gateway.controller.attestation.judge import Observation, Reference, Rival, judge

PROBES = 6


def at(place: float) -> Answers:
    """Answers that lie at a place on a line: the distance of two is the difference of their places."""
    return tuple({"1": -1.0 - place, "2": -2.0 - place} for _ in range(PROBES))


def seen(own: float, *, base: float = 50.0, noise: float = 0.0, model: str = "a@2") -> Observation:
    """What an engine answers, with a base model and a repeat noise."""
    return Observation(model=model, own=at(own), base=at(base), repeat_noise=noise)


def reference(own: float = 0.0, *, base: float | None = 50.0, noise: float | None = 0.08) -> Reference:
    """A reference from training."""
    theirs = None if base is None else at(base)
    return Reference("training", "the adapter that was trained", at(own), theirs, made_noise=noise)


def predecessor(place: float) -> Rival:
    """The version before, asked on the same engine."""
    return Rival("its predecessor a@1", at(place), at(50.0))


@pytest.mark.parametrize(
    ("own", "before", "fault"),
    [
        (0.0, 1.0, None),
        (0.2, 1.0, None),
        (0.25, 1.0, "it does not answer like the adapter that was trained"),
        (9.0, 1.0, "it does not answer like the adapter that was trained"),
        (1.0, 1.0, "it answers like its predecessor a@1"),
        (50.0, 1.0, "it answers like the base model"),
        (49.98, 1.0, "it answers like the base model"),
        (0.23, 0.41, "it answers more like its predecessor a@1 than like the adapter that was trained"),
        (0.18, 0.2, None),
    ],
    ids=[
        "right", "right with noise", "off", "another adapter", "predecessor", "base", "nearly base",
        "between the two", "a predecessor too near to tell",
    ],
)  # fmt: skip
def test_answers_against_the_reference(own: float, before: float, fault: str | None) -> None:
    """With a noise of 0.08 nats, 0.24 are tolerated, and rivals from 0.4 on must be clearly less likely."""
    assert judge("a@2", seen(own), [reference()], predecessor(before)).fault == fault


@pytest.mark.parametrize(
    ("references", "before", "weak"),
    [
        ([reference()], predecessor(1.0), None),
        ([reference()], predecessor(0.2), "its probes tell it apart by 2.5 times the noise; 5 are wanted"),
        ([], predecessor(1.0), "no reference was made elsewhere"),
        ([replace(reference(), independent=False)], None, "no reference was made elsewhere"),
        ([reference(noise=11.0, base=None)], None, "its probes tell it apart by 4.5 times the noise"),
    ],
    ids=["strong", "near predecessor", "no reference", "its own answers", "loud"],
)
def test_what_a_proof_is_worth(references: list[Reference], before: Rival | None, weak: str | None) -> None:
    """A proof is strong when an independent reference is 5 times the noise from every rival."""
    verdict = judge("a@2", seen(0.0), references, before)
    assert verdict.fault is None
    assert (verdict.weak or "").startswith(weak or "")
    assert (verdict.weak is None) == (weak is None)


def test_an_unknown_predecessor_makes_a_proof_weak() -> None:
    """What cannot be told from something that nobody knows is not proved to be different."""
    verdict = judge("a@2", seen(0.0), [reference()], None, predecessor_unknown="a@1")
    assert (verdict.fault, verdict.weak) == (None, "the answers of its predecessor a@1 are not known")


@pytest.mark.parametrize(
    ("base_here", "base_there", "noise", "fault"),
    [
        (50.0, 50.2, 0.08, None),
        (50.0, 50.25, 0.08, "its base model does not answer like the one of the adapter that was trained"),
        (50.0, 50.3, None, None),
        (50.0, 50.5, None, "its base model does not answer like the one of the adapter that was trained"),
        (50.0, 50.5, 0.3, "its base model does not answer like the one of the adapter that was trained"),
    ],
    ids=["noise", "beyond the maker's noise", "noise unknown", "unknown and far", "no noise excuses this"],
)
def test_another_base_model_is_no_noise(
    base_here: float, base_there: float, noise: float | None, fault: str | None
) -> None:
    """The distance of the base models is the noise, up to what another base model would be."""
    made = reference(base=base_there, noise=noise)
    assert judge("a@2", seen(0.0, base=base_here), [made], None).fault == fault


def test_noise_is_what_the_base_models_are_apart() -> None:
    """An engine that computes otherwise than the one of the reference is given what its base differs by."""
    fleet = Reference("fleet", "replica-0", at(0.0), at(50.0))
    exact = judge("a@2", seen(0.1), [fleet], None)
    assert exact.fault == "it does not answer like replica-0"
    other = judge("a@2", seen(0.1, base=50.05), [fleet], None)
    assert other.fault is None
    (compared,) = other.comparisons
    assert compared.noise == pytest.approx(0.05)
    assert compared.separation == pytest.approx(50.05 / 0.05)
    assert judge("a@2", seen(0.1, noise=0.04), [fleet], None).fault is None
    assert judge("a@2", seen(0.1), [replace(fleet, repeat_noise=0.04)], None).fault is None


def test_another_base_model_widens_no_tolerance() -> None:
    """One that is not far enough off to be told by itself is told by what the adapter answers on it."""
    fleet = Reference("fleet", "replica-0", at(0.0), at(50.0))
    assert judge("a@2", seen(0.44, base=50.3), [fleet], None).fault is None
    assert judge("a@2", seen(0.46, base=50.3), [fleet], None).fault == "it does not answer like replica-0"


def test_every_reference_must_agree() -> None:
    """Answers like training's that are not what this engine said before are a change."""
    before = Reference("itself", "itself when it was attested here", at(0.1), at(50.0), independent=False)
    found = judge("a@2", seen(0.0), [reference(), before], None)
    assert found.fault == "it does not answer like itself when it was attested here"


def test_likeness_without_a_reference() -> None:
    """Where no reference says otherwise, answers like the predecessor's are a fault."""
    same = judge("a@2", seen(1.0), [], predecessor(1.0))
    assert same.fault == "it answers like its predecessor a@1, and no reference says that it should"
    assert judge("a@2", seen(1.1), [], predecessor(1.0)).fault is None


def test_another_name_is_a_fault_whatever_the_answers() -> None:
    """The engine's echo must be the version."""
    found = judge("a@2", seen(0.0, model="Base"), [reference()], None)
    assert found.fault == "the engine answered as 'Base' when asked for 'a@2'"


@pytest.mark.parametrize(
    ("cached", "right", "noise", "stale"),
    [
        (0.0, [0.0], 0.0, False),
        (0.02, [0.0], 0.0, False),
        (0.1, [0.0], 0.0, True),
        (0.1, [0.0], 0.05, False),
        (0.1, [0.0, 0.11], 0.0, False),
        (0.2, [0.0, 0.11], 0.0, True),
    ],
    ids=["same", "within the noise", "stale", "a busy engine", "its own cache", "another's cache"],
)
def test_cached_answers(cached: float, right: list[float], noise: float, stale: bool) -> None:
    """What the engine has cached must be what it computes, or what these weights have cached."""
    answers = tuple(at(place) for place in right)
    observed = replace(seen(0.0), right=answers, cached=at(cached), cached_noise=noise)
    fault = judge("a@2", observed, [reference()], None).fault
    assert (fault is not None and "prefix cache" in fault) == stale
