"""Learning curves of the example adapters, without training."""

from pathlib import Path

import pytest

from adapters import base
from adapters.base import DEFAULT
from adapters.manifest import BaseIdentity, Evaluation, Manifest, Score
from adapters.registry import MANIFEST
from training.data.rows import Example
from training.data.splits import Shares
from training.evaluation.curve import ADAPTER
from training.examples.curves import LEARN_TOO, learning_curve
from training.examples.make import CURVE_POINTS
from training.job import Job, Maker, Origin
from training.progress import Progress

LIBRARY = Path(base.__file__).parent / "library"
CURVES = LIBRARY.parents[1] / "docs" / "curves"


def evaluation(value: float, *others: str) -> Evaluation:
    """Return an accuracy of the adapter, and of others, on 50 rows."""
    scores = [
        Score(system=name, metric="accuracy", value=value, low=value, high=value, rows=50)
        for name in ("adapter", *others)
    ]
    return Evaluation(rows=50, scores=tuple(scores))


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int, bool]]:
    """Trainings that take no time; what is said of each: the rows it had, those that judge, whether alone."""
    seen: list[tuple[int, int, bool]] = []

    def judge(maker: Maker) -> Evaluation:
        seen.append((len(maker.splits.train), len(maker.splits.test), maker.job.alone))
        return evaluation(len(seen) / 10, "tf-idf")

    monkeypatch.setattr(Maker, "train", lambda _maker: None)
    monkeypatch.setattr(Maker, "judge", judge)
    return seen


def small_job() -> tuple[Job, Manifest]:
    """Return a job of 400 rows to train on, and the manifest of the adapter that it made."""
    rows = [Example(({"role": "user", "content": f"row {number}"},), "yes") for number in range(800)]
    job = Job(
        name="small",
        examples=rows,
        model=DEFAULT,
        base=BaseIdentity(name=DEFAULT),
        origin=Origin("r", "d", "t", "c"),
        shares=Shares(max_train=400, max_test=50),
    )
    kept = Manifest.model_validate_json((LIBRARY / "sentiment" / MANIFEST).read_text(encoding="utf-8"))
    assert kept.lineage is not None
    manifest = kept.model_copy(
        update={
            "lineage": kept.lineage.model_copy(update={"rows": {"train": 400}}),
            "evaluation": evaluation(0.9, "base-constrained", "tf-idf", "majority"),
        }
    )
    return job, manifest


def test_each_point_trains_on_half_of_the_next_ones_rows(seen: list[tuple[int, int, bool]]) -> None:
    """All are judged alone on the same held-out rows; the last point is the adapter that is there."""
    job, manifest = small_job()
    found = learning_curve(job, manifest, points=3, progress=Progress())
    assert seen == [(100, 50, True), (200, 50, True)]
    assert [(rows, here.value) for rows, here in found.points] == [(100, 0.1), (200, 0.2), (400, 0.9)]
    assert found.flat == (("base-constrained", 0.9),)
    assert found.rivals == (("tf-idf", (0.1, 0.2, 0.9)),)


def test_a_curve_that_was_killed_goes_on_where_it_was(
    seen: list[tuple[int, int, bool]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A point that is judged is not trained again, and the curve is that of an unbroken run."""
    job, manifest = small_job()
    whole = learning_curve(job, manifest, points=3, progress=Progress())
    seen.clear()

    def killed(maker: Maker) -> None:
        if len(maker.splits.train) == 200:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Maker, "train", killed)
        with pytest.raises(KeyboardInterrupt):
            learning_curve(job, manifest, points=3, progress=Progress(), kept=tmp_path / "kept")
    assert learning_curve(job, manifest, points=3, progress=Progress(), kept=tmp_path / "kept") == whole
    assert [rows for rows, _, _ in seen] == [100, 200]


@pytest.mark.parametrize("name", [place.stem for place in sorted(CURVES.glob("*.md"))])
def test_the_documented_curve_ends_at_the_adapter_that_is_there(name: str) -> None:
    """The table's last point is the manifest's, and the plain classifier's; its picture is beside it."""
    manifest = Manifest.model_validate_json((LIBRARY / name / MANIFEST).read_text(encoding="utf-8"))
    assert manifest.evaluation is not None
    assert manifest.lineage is not None
    scores = manifest.evaluation.scores
    metric = scores[0].metric
    beside = {score.system: score.value for score in scores if score.metric == metric}
    lines = (CURVES / f"{name}.md").read_text(encoding="utf-8").splitlines()
    points = [line for line in lines if line.split("|")[1].strip().isdigit()]
    assert len(points) == CURVE_POINTS
    cells = [cell.strip() for cell in points[-1].strip("|").split("|")]
    own = next(score for score in scores if (score.system, score.metric) == (ADAPTER, metric))
    wanted = [str(manifest.lineage.rows["train"]), f"{own.value:.3f} [{own.low:.3f}, {own.high:.3f}]"]
    wanted += [f"{beside[rival]:.3f}" for rival in LEARN_TOO if rival in beside]
    assert cells == wanted
    assert (CURVES / f"{name}.png").read_bytes().startswith(b"\x89PNG")
