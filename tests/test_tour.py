"""The README's tour can be read by the test that runs it."""

from tests.e2e.tour import README, steps

EXPECTED = [
    "Five-minute tour",
    "Call an adapter",
    "Train the next version",
    "Add it while traffic runs",
    "Split traffic 90/10",
    "Send feedback",
    "Look at metrics",
    "See drift",
]


def test_the_tour_has_its_steps() -> None:
    """Every heading of the tour holds at least one block to type, in the order that the tour promises."""
    headings = list(dict.fromkeys(step.heading for step in steps(README.read_text(encoding="utf-8"))))
    assert headings == EXPECTED


def test_only_typed_blocks_are_steps() -> None:
    """Output shown in the tour is not taken for something to type."""
    text = "\n## Five-minute tour\n\n```sh\nls\n```\n\n```text\nout\n```\n\n## Next\n\n```sh\nno\n```\n"
    assert [(step.language, step.code) for step in steps(text)] == [("sh", "ls\n")]
