"""`python -m tests.monitoring.watch.fake_watch watch …` is `turnout monitor watch …` with a fake model."""

from monitoring.cli import app
from monitoring.watch import cli
from tests.monitoring.watch.made import FakeEncoder, one_language


def main() -> None:
    """Run the command line."""
    cli.SentenceModel = lambda _: FakeEncoder()  # type: ignore[assignment,misc]
    cli.languages = one_language
    app(prog_name="turnout monitor")


if __name__ == "__main__":
    main()
