"""The dashboard of a route's project in Evidently's workspace: how far each window was from the reference.

A project without panels shows a list of reports and an empty page. Evidently draws a panel from the runs that
are in the workspace, so nothing is computed here.
"""

from collections.abc import Sequence
from typing import Any

TAB = "Drift over time"


def lay_out(
    workspace: Any, project: Any, *, numbers: Sequence[str], categories: Sequence[str], text: str
) -> None:
    """Give a project its panels, unless it has some: a person's own are left as they are.

    `numbers`, `categories` and `text` are the columns of its reports; a run without one is a gap.
    """
    from evidently.sdk.models import DashboardModel, DashboardTabModel  # noqa: PLC0415 - seconds to import

    if workspace.get_dashboard(project).panels:
        return
    panels = [
        _drift(
            "Texts of the prompts",
            "ROC AUC of a classifier that tells the window's texts from the reference's: 0.5 is alike",
            [text],
        ),
        _drift("Numbers", "Wasserstein distance to the reference, in its standard deviations", numbers),
        _drift("Kinds", "Jensen-Shannon distance to the reference, between 0 and 1", categories),
        _lines("Prompts in the window", "How many were looked at", {"prompts": ("RowCount", {})}),
    ]
    tab = DashboardTabModel(title=TAB, panels=[panel.id for panel in panels])
    # Its own add_panel (0.7.23) lists a panel of a tab twice, and rewrites the file for each.
    workspace.save_dashboard(project, DashboardModel(tabs=[tab], panels=panels))


def _drift(title: str, subtitle: str, columns: Sequence[str]) -> Any:
    return _lines(title, subtitle, {name: ("ValueDrift", {"column": name}) for name in columns})


def _lines(title: str, subtitle: str, lines: dict[str, tuple[str, dict[str, str]]]) -> Any:
    """Return a panel with a line for each legend: a metric of the runs, told by its labels."""
    from evidently.sdk.models import PanelMetric  # noqa: PLC0415 - as above
    from evidently.sdk.panels import line_plot_panel  # noqa: PLC0415 - as above

    values = [
        PanelMetric(legend=legend, metric=metric, metric_labels=labels)
        for legend, (metric, labels) in lines.items()
    ]
    return line_plot_panel(title, values, subtitle, size="half")
