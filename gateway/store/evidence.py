"""What an experiment is judged by, read from both stores: its requests, and what was said of them."""

from dataclasses import dataclass

from gateway.experiments.experiment import Experiment
from gateway.experiments.measures import Said
from gateway.experiments.units import Answer
from gateway.store.epochs import EpochRow
from gateway.store.feedback import Feedback
from gateway.store.requests import Requests

MOST_ROWS = 100_000
"""More requests than this are not read for one experiment: a share of its units stands for them all."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Requests and ratings of the `sampled` share of the units. Units are kept or left out whole."""

    answers: tuple[Answer, ...]
    said: tuple[Said, ...]
    sampled: float = 1.0


def read_evidence(
    requests: Requests, feedback: Feedback, experiment: Experiment, epochs: list[EpochRow]
) -> Evidence:
    """Return the evidence since the experiment's first epoch, which is among `epochs`.

    Raises:
        StoreUnavailable: a store can't be reached.
    """
    first = next(row for row in epochs if row.from_generation == min(experiment.epochs))
    since, from_generation = first.at, first.from_generation
    count = requests.count(experiment.route, since=since, from_generation=from_generation)
    sampled = 1.0
    while count * sampled > MOST_ROWS:
        sampled /= 2
    answers = requests.answers(experiment.route, since=since, from_generation=from_generation, share=sampled)
    said = []
    for row in feedback.rows(experiment.route, since=since):
        metric = experiment.metrics.get(row.metric)
        value = metric.scaled(row.value) if metric else None
        if value is not None:
            said.append(Said(row.request_id, row.metric, value, row.at))
    return Evidence(tuple(answers), tuple(said), sampled)
