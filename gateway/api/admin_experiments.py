"""`/admin/experiments`: what was counted, what it says, and the units that it was computed from."""

from typing import Annotated

from fastapi import APIRouter, Query

from gateway.api.admin_common import Limit, Offset, Since, faults
from gateway.api.experiment_schemas import (
    ArmCounts,
    EpochView,
    Experiment,
    FeedbackMean,
    OutcomePage,
    OutcomeView,
)
from gateway.errors import NotFound, Unprocessable
from gateway.experiments.choice import experiment_of
from gateway.experiments.findings import by_request, scored
from gateway.store.control import ControlStore
from gateway.store.evidence import read_evidence
from gateway.store.feedback import FeedbackRow
from gateway.store.findings import Finding
from gateway.store.requests import Requests

NOTE = (
    "The arms' figures are counts only: a difference between them may be chance, and findings says what may "
    "be said. errors are answers with status 500 and above; units are sticky subjects; of several ratings of "
    "one request by one metric the last counts."
)


class ExperimentEndpoints:
    """The endpoints, on both stores."""

    def __init__(self, control: ControlStore, requests: Requests) -> None:
        self._control = control
        self._requests = requests

    def mount(self, router: APIRouter) -> None:
        """Put the endpoints on `router`."""
        one = "/experiments/{route}"
        router.add_api_route(one, self.experiment, methods=["GET"], responses=faults(404))
        router.add_api_route(f"{one}/outcomes", self.outcomes, methods=["GET"], responses=faults(404, 422))

    def experiment(self, route: str, since: Since = 0.0) -> Experiment:
        """Show counts by arm, epochs, and what the controller found when it last looked."""
        counts = {row["arm"]: row for row in self._requests.by_arm(route, since=since)}
        known = self._control.routes.get(route)
        if known is None and not counts:
            raise _no_route(route)
        labels = {arm.adapter for arm in known.status.effective_arms} if known else set()
        ratings = self._control.feedback.rows(route, since=since)
        nothing = {"requests": 0, "units": 0, "unsticky": 0, "errors": 0}
        finding = self._control.findings.get(route)
        return Experiment(
            route=route,
            since=since,
            arms={
                label: ArmCounts(
                    **{name: counts.get(label, nothing)[name] for name in nothing},
                    feedback=means([row for row in ratings if row.arm == label]),
                )
                for label in sorted(labels | counts.keys())
            },
            verdict=_said(finding),
            note=NOTE,
            at=finding and finding.at,
            findings=finding and finding.figures,
            epochs=tuple(EpochView.model_validate(row) for row in self._control.epochs.rows(route)),
            canary=known and known.status.canary,
        )

    def outcomes(
        self,
        route: str,
        metric: Annotated[str | None, Query(description="the primary one by default")] = None,
        candidate: Annotated[str | None, Query(description="an arm; the first that is not stable")] = None,
        limit: Limit = 1000,
        offset: Offset = 0,
    ) -> OutcomePage:
        """List the closed units of the experiment that runs, as of the last findings, to recompute them.

        They are made anew from the recorded requests for each call.
        """
        known = self._control.routes.get(route)
        if known is None:
            raise _no_route(route)
        rows = self._control.epochs.rows(route)
        epochs = {row.from_generation: row.arms for row in rows}
        salts = {row.from_generation: row.salt for row in rows}
        experiment = experiment_of(known, epochs, digests={}, salts=salts)  # equal blobs change no outcome
        finding = self._control.findings.get(route)
        if experiment is None or finding is None:
            raise NotFound(f"no experiment runs on the route {route!r}", code="no_experiment", param="route")
        name, label = metric or experiment.primary(), candidate or experiment.candidates[0]
        measure = experiment.measures().get(name)
        if measure is None or label not in experiment.candidates:
            there = ", ".join((*experiment.measures(), *experiment.candidates))
            raise Unprocessable(f"this experiment has no such metric or arm; there are {there}")
        until = float(finding.figures["until"])
        evidence = read_evidence(self._requests, self._control.feedback, experiment, rows)
        said = by_request(evidence.answers, evidence.said, until=until).get(name, {})
        every = scored(experiment, measure, label, evidence.answers, said, until=until)
        page = every[offset : offset + limit]
        return OutcomePage(
            metric=name,
            stable=experiment.stable,
            candidate=label,
            until=until,
            sampled=evidence.sampled,
            data=tuple(
                OutcomeView(
                    unit=closed.unit.name,
                    epoch=outcome.epoch,
                    arm=outcome.arm,
                    value=outcome.value,
                    closed_at=closed.at,
                    chances=dict(outcome.chances or experiment.epochs[outcome.epoch]),
                )
                for closed, outcome in page
            ),
            next_offset=offset + limit if offset + limit < len(every) else None,
        )


def means(ratings: list[FeedbackRow]) -> dict[str, FeedbackMean]:
    """Return each metric's mean. Ratings come oldest first; the last of a request and metric counts."""
    last = {(row.request_id, row.metric): row.value for row in ratings}
    by_metric: dict[str, list[bool | float | str]] = {}
    for (_, metric), value in last.items():
        by_metric.setdefault(metric, []).append(value)
    return {metric: _mean(values) for metric, values in sorted(by_metric.items())}


def _mean(values: list[bool | float | str]) -> FeedbackMean:
    numbers = [float(value) for value in values if not isinstance(value, str)]
    words = [value for value in values if isinstance(value, str)]
    return FeedbackMean(
        count=len(values),
        mean=sum(numbers) / len(numbers) if numbers else None,
        values={word: words.count(word) for word in sorted(set(words))},
    )


def _said(finding: Finding | None) -> str | None:
    candidates = finding.figures["candidates"].values() if finding else ()
    return "; ".join(each["verdict"]["text"] for each in candidates) or None


def _no_route(name: str) -> NotFound:
    return NotFound(f"there is no route {name!r}", code="route_not_found", param="route")
