"""Progress as text."""

import pytest

from training.progress import Progress, duration, figures_of, time_left


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.4, "0 s"), (89, "89 s"), (120, "2 min"), (5390, "90 min"), (7260, "2 h 01 min")]
)
def test_times_are_said_as_people_say_them(seconds: float, said: str) -> None:
    """No five-digit numbers of seconds."""
    assert duration(seconds) == said


def test_figures_that_are_not_known_are_left_out() -> None:
    """A step before the first validation shows none."""
    assert figures_of(None) == ""
    assert figures_of(1.25) == "loss 1.250"
    assert (
        figures_of(1.25, validation=1.5, tokens_per_s=12345.6)
        == "loss 1.250  validation 1.500  12,346 tokens/s"
    )


def test_the_time_left_is_that_at_the_pace_of_this_process() -> None:
    """A resumed run counts from the step that it began with, not from the first."""
    assert time_left(50, 100, (40, 1000.0), 1020.0) == "  2 min left"
    assert time_left(40, 100, (40, 1000.0), 1000.0) == ""


def test_lines_say_what_they_are_given(capsys: pytest.CaptureFixture[str]) -> None:
    """A path is not broken, and brackets in a file's name are no markup."""
    progress = Progress()
    name = "/a/long/path/" + "x" * 200
    progress.say(f"go on with: turnout train --resume {name}")
    with progress.stage("Reading [bold]rows[/x].jsonl"):
        pass
    said = capsys.readouterr().err
    assert f"--resume {name}\n" in said
    assert "Reading [bold]rows[/x].jsonl: " in said
