"""Answers to probes and how far apart they are. Pure; training and the controller measure alike.

An answer is what a model says first to a prompt: its likeliest first tokens, token id → log-probability.
"""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from statistics import fmean

TOP = 20
"""So many of the likeliest tokens are kept of each answer; no engine gives more by default."""

Answer = Mapping[str, float]
Answers = Sequence[Answer]

MIN_NOISE = 0.01
"""Nats. No noise counts as less, also where none was measured. One step of bfloat16 in one logit of one
probe is 0.001 to 0.02 of the mean. Some CPUs repeat themselves exactly, alone and under load; others, and
GPUs, round another batch in another way, which is measured."""

MAX_DRIFT = 0.15
"""Nats. So far apart two implementations of the same weights were at most. A base model that is farther off
widens no tolerance: what is taken for noise would hide what is wrong with it."""

STRONG = 5.0
"""From so many times the noise on, a version is far enough from another one to be told from it."""


def difference(ours: Answer, theirs: Answer) -> float:
    """Return the mean difference of the log-probabilities over all tokens that either of them lists, in nats.

    A token that only one of them lists is, for the other, at most as likely as its last listed one.
    """
    floor_ours, floor_theirs = min(ours.values()), min(theirs.values())
    return fmean(
        abs(ours[token] - theirs[token])
        if token in ours and token in theirs
        else max(0.0, ours[token] - floor_theirs)
        if token in ours
        else max(0.0, theirs[token] - floor_ours)
        for token in ours.keys() | theirs.keys()
    )


def distance(ours: Answers, theirs: Answers) -> float:
    """Return the mean difference over the prompts, which both answered in the same order, in nats."""
    return fmean(difference(one, other) for one, other in zip(ours, theirs, strict=True))


def digest_of_prompts(prompts: Sequence[str]) -> str:
    """Return 64 hex digits that stand for these prompts in this order."""
    whole = sha256()
    for prompt in prompts:
        whole.update(sha256(prompt.encode()).digest())
    return whole.hexdigest()


def choose(
    gains: Mapping[str, Sequence[float]], costs: Sequence[int], *, at_most: int, budget: int, at_least: int
) -> list[int]:
    """Choose prompts, greedily, that tell one adapter from its rivals; return their places, best first.

    `gains` holds, by rival, how far apart the two answer each prompt; `costs` the prompts' tokens. Each step
    takes the prompt that adds most to the rival that is told apart worst so far. It ends with `at_most`
    prompts, or when no other fits the `budget` of tokens, of which the first `at_least` are free.
    """
    chosen: list[int] = []
    spent = 0
    totals = dict.fromkeys(gains, 0.0)
    while len(chosen) < at_most:
        fitting = [
            place
            for place, cost in enumerate(costs)
            if place not in chosen and (spent + cost <= budget or len(chosen) < at_least)
        ]
        if not fitting:
            break
        best = max(
            fitting,
            key=lambda place: (
                min((totals[rival] + gains[rival][place] for rival in gains), default=0.0),
                sum(gains[rival][place] for rival in gains),
                -costs[place],
            ),
        )
        chosen.append(best)
        spent += costs[best]
        for rival in gains:
            totals[rival] += gains[rival][best]
    return chosen
