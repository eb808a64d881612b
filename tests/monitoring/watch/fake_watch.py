"""`python -m tests.monitoring.watch.fake_watch` is `turnout monitor`, but its model, plots and patience."""

from functools import partial

from monitoring.cli import app
from monitoring.watch import cli, plots
from monitoring.watch.options import WatchOptions
from monitoring.watch.plots import Drawn
from tests.monitoring.watch.made import FakeEncoder, one_language


def main() -> None:
    """Run the command line."""
    cli.SentenceModel = lambda _: FakeEncoder()  # type: ignore[assignment,misc]
    cli.languages = one_language
    cli.WatchOptions = partial(WatchOptions, lease_s=3.0)  # type: ignore[misc,assignment]
    plots.draw = lambda *_, **__: Drawn("<body></body>", {})  # type: ignore[assignment]
    app(prog_name="turnout monitor")


if __name__ == "__main__":
    main()
