"""`python -m tests.monitoring.watch.fake_watch watch …` is `turnout monitor watch …` without its model and plots."""

from monitoring.cli import app
from monitoring.watch import cli, plots
from monitoring.watch.plots import Drawn
from tests.monitoring.watch.made import FakeEncoder, one_language


def main() -> None:
    """Run the command line."""
    cli.SentenceModel = lambda _: FakeEncoder()  # type: ignore[assignment,misc]
    cli.languages = one_language
    plots.draw = lambda *_, **__: Drawn("<body></body>", {})  # type: ignore[assignment]
    app(prog_name="turnout monitor")


if __name__ == "__main__":
    main()
