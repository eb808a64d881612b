"""One dashboard as it is described: variables, rows, panels, links. The SDK is used here alone."""

from collections.abc import Mapping
from typing import Any, Self

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    dashboard,
    prometheus,
    stat,
    statetimeline,
    timeseries,
)
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models

TAG = "turnout"
EVENTS = "max by (action, subject) (turnout_event_timestamp_seconds{{{filter}}}) * 1000"
SOURCE = common_models.DataSourceRef(type_val="prometheus", uid="${datasource}")
Queries = str | Mapping[str, str]
"""One query, or several by how their series are called: Grafana's legend, with labels as {{label}}."""


def runbook(name: str) -> str:
    """Return the link to a runbook: below wherever the people who look have them."""
    return f"${{runbooks}}/{name}.md"


class Limits:
    """From which values on a panel turns orange and red; `low` turns it around: below them."""

    def __init__(self, warn: float, bad: float | None = None, *, low: bool = False) -> None:
        self.steps: list[tuple[float | None, str]]
        if low:
            self.steps = (
                [(None, "red"), (warn, "green")]
                if bad is None
                else [(None, "red"), (bad, "orange"), (warn, "green")]
            )
        else:
            self.steps = [(None, "green"), (warn, "orange" if bad is not None else "red")]
            if bad is not None:
                self.steps.append((bad, "red"))

    def build(self) -> dashboard.ThresholdsConfig:
        """Return the SDK's form."""
        steps = [models.Threshold(value=value, color=color) for value, color in self.steps]
        return dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps)


class Page:
    """A dashboard that grows from top to bottom. Every panel says what it shows; `see` names its runbook."""

    def __init__(self, uid: str, title: str, says: str, *, events: str = "", span: str = "now-3h") -> None:
        """`events` filters the events that are drawn into the graphs; `span` is the time shown at first."""
        self._ids = 0
        self._made = (
            dashboard.Dashboard(f"Turnout / {title}")
            .uid(f"turnout-{uid}")
            .description(says)
            .tags([TAG])
            .readonly()
            .refresh("30s")
            .time(span, "now")
            .timezone("browser")
            .tooltip(models.DashboardCursorSync.CROSSHAIR)
            .link(
                dashboard.DashboardLink("Turnout")
                .type(models.DashboardLinkType.DASHBOARDS)
                .tags([TAG])
                .keep_time(True)
                .include_vars(True)
            )
            .link(
                dashboard.DashboardLink("Runbooks")
                .type(models.DashboardLinkType.LINK)
                .icon("doc")
                .url("${runbooks}/README.md")
                .target_blank(True)
            )
            .with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
            .annotation(
                dashboard.AnnotationQuery()
                .name("Events")
                .datasource(SOURCE)
                .enable(True)
                .icon_color("purple")
                .expr(EVENTS.format(filter=events))
                .title_format("{{action}}")
                .text_format("{{subject}}")
                .tag_keys("action,subject")
                .use_value_for_time(True)
            )
        )

    def choose(self, name: str, label: str, query: str, *, regex: str = "", several: bool = False) -> Self:
        """Add a variable whose values are those of a label; `several` allows many and all."""
        variable = (
            dashboard.QueryVariable(name)
            .label(label)
            .datasource(SOURCE)
            .query({"query": query, "refId": "variable"})
            .definition(query)
            .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
            .sort(models.VariableSort.ALPHABETICAL_ASC)
            .regex(regex)
            .multi(several)
            .include_all(several)
        )
        if several:
            variable = variable.all_value(".*").current(models.VariableOption(text="All", value="$__all"))
        self._made = self._made.with_variable(variable)
        return self

    def ask(self, name: str, label: str, default: str) -> Self:
        """Add a variable that people type in."""
        option = models.VariableOption(text=default, value=default)
        self._made = self._made.with_variable(
            dashboard.TextBoxVariable(name).label(label).default_value(default).current(option)
        )
        return self

    def row(self, title: str) -> Self:
        """Begin a row."""
        self._made = self._made.with_row(dashboard.Row(title))
        return self

    def stat(
        self,
        title: str,
        queries: Queries,
        *,
        says: str,
        unit: str = "short",
        limits: Limits | None = None,
        see: str | None = None,
        width: int = 4,
    ) -> Self:
        """Add the present value of something, large."""
        panel = stat.Panel().graph_mode(common_models.BigValueGraphMode.AREA).reduce_options(_last())
        return self._add(panel, title, queries, says=says, unit=unit, limits=limits, see=see, size=(width, 5))

    def graph(
        self,
        title: str,
        queries: Queries,
        *,
        says: str,
        unit: str = "short",
        limits: Limits | None = None,
        see: str | None = None,
        leads: str | None = None,
        width: int = 8,
        stacked: bool = False,
        logarithmic: bool = False,
        signed: bool = False,
    ) -> Self:
        """Add curves over time, from 0 upwards unless they are `signed`. Limits are drawn as lines.

        `leads`: a curve's link goes to another page for its own label, written as `page:label`.
        """
        panel = (
            timeseries.Panel()
            .fill_opacity(20 if stacked else 6)
            .legend(
                common.VizLegendOptions()
                .display_mode(common_models.LegendDisplayMode.TABLE)
                .placement(common_models.LegendPlacement.BOTTOM)
                .show_legend(True)
                .calcs(["mean", "max", "lastNotNull"])
            )
            .tooltip(
                common.VizTooltipOptions()
                .mode(common_models.TooltipDisplayMode.MULTI)
                .sort(common_models.SortOrder.DESCENDING)
            )
        )
        if not signed:
            panel = panel.min(0)
        if stacked:
            panel = panel.stacking(common.StackingConfig().mode(common_models.StackingMode.NORMAL))
        if logarithmic:
            scale = common.ScaleDistributionConfig().type(common_models.ScaleDistribution.LOG).log(10)
            panel = panel.scale_distribution(scale)
        if limits is not None:
            style = common.GraphThresholdsStyleConfig().mode(common_models.GraphThresholdsStyleMode.DASHED)
            panel = panel.thresholds_style(style)
        if leads is not None:
            panel = panel.data_links([_leading(leads)])
        return self._add(panel, title, queries, says=says, unit=unit, limits=limits, see=see, size=(width, 8))

    def states(
        self,
        title: str,
        queries: Queries,
        *,
        says: str,
        limits: Limits,
        names: Mapping[int, str],
        see: str | None = None,
        leads: str | None = None,
        width: int = 8,
    ) -> Self:
        """Add a line of coloured states over time; `names` says what the values mean."""
        panel = statetimeline.Panel().mappings(_mappings(names))
        if leads is not None:
            panel = panel.data_links([_leading(leads)])
        return self._add(
            panel, title, queries, says=says, unit="none", limits=limits, see=see, size=(width, 7)
        )

    def bars(
        self,
        title: str,
        queries: Queries,
        *,
        says: str,
        unit: str = "short",
        limits: Limits | None = None,
        see: str | None = None,
        width: int = 8,
    ) -> Self:
        """Add the present values side by side."""
        panel = (
            bargauge.Panel()
            .orientation(common_models.VizOrientation.HORIZONTAL)
            .display_mode(common_models.BarGaugeDisplayMode.BASIC)
            .reduce_options(_last())
            .min(0)
        )
        return self._add(
            panel, title, queries, says=says, unit=unit, limits=limits, see=see, size=(width, 8), now=True
        )

    def build(self) -> models.Dashboard:
        """Return the dashboard. The last variable is where the runbooks are."""
        self.ask("runbooks", "Runbooks at", "docs/runbooks")
        return self._made.build()

    def _add(
        self,
        panel: Any,
        title: str,
        queries: Queries,
        *,
        says: str,
        unit: str,
        limits: Limits | None,
        see: str | None,
        size: tuple[int, int],
        now: bool = False,
    ) -> Self:
        """Add a panel of any kind. The builders have these methods in common, and no type of them has."""
        self._ids += 1
        panel = panel.id(self._ids).title(title).description(says).datasource(SOURCE).unit(unit)
        panel = panel.span(size[0]).height(size[1])
        if limits is not None:
            panel = panel.thresholds(limits.build())
        if see is not None:
            link = dashboard.DashboardLink("Runbook").type(models.DashboardLinkType.LINK)
            panel = panel.links([link.url(runbook(see)).target_blank(True)])
        named = {"": queries} if isinstance(queries, str) else queries
        for letter, (legend, expression) in zip("ABCDEFGH", named.items(), strict=False):
            panel = panel.with_target(_target(letter, expression, legend, now=now))
        self._made = self._made.with_panel(panel)
        return self


def _target(letter: str, expression: str, legend: str, *, now: bool) -> prometheus.Dataquery:
    query = prometheus.Dataquery().ref_id(letter).datasource(SOURCE).expr(" ".join(expression.split()))
    if legend:
        query = query.legend_format(legend)
    return query.instant() if now else query.range()


def _leading(to: str) -> dashboard.DashboardLink:
    page, label = to.split(":")
    url = f"/d/turnout-{page}?${{__url_time_range}}&var-{label}=${{__field.labels.{label}}}"
    return dashboard.DashboardLink(f"{page.capitalize()}: ${{__field.labels.{label}}}").url(url)


def _last() -> common.ReduceDataOptions:
    return common.ReduceDataOptions().calcs(["lastNotNull"])


def _mappings(names: Mapping[int, str]) -> list[models.ValueMapping]:
    shown = {str(value): models.ValueMappingResult(text=name, index=value) for value, name in names.items()}
    return [models.ValueMap(options=shown)]


def quantile(share: float, metric: str, *, of: str = "", by: str = "") -> str:
    """Return the query for a quantile of a histogram, of the series that match `of`, by labels."""
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({share}, sum by ({labels}) (rate({metric}_bucket{{{of}}}[$__rate_interval])))"


def rate(metric: str, *, of: str = "", by: str = "", over: str = "$__rate_interval") -> str:
    """Return the query for a counter's rate a second, summed by labels."""
    return f"{_sum(by)} (rate({metric}{{{of}}}[{over}]))"


def increase(metric: str, *, of: str = "", by: str = "", over: str) -> str:
    """Return the query for how much a counter grew, summed by labels."""
    return f"{_sum(by)} (increase({metric}{{{of}}}[{over}]))"


def mean(metric: str, *, of: str = "", by: str = "", over: str) -> str:
    """Return the query for the mean of a summary's or a histogram's values."""
    values, count = (rate(f"{metric}_{part}", of=of, by=by, over=over) for part in ("sum", "count"))
    return f"{values} / {count}"


def newest(metric: str, *, of: str = "", by: str) -> str:
    """Return the query for a gauge that every gateway reads from the store: it is taken once."""
    return f"max by ({by}) ({metric}{{{of}}})"


def share(part: str, whole: str) -> str:
    """Return the query for a part of a whole with the same labels; 0 where there is no part."""
    return f"({part} or 0 * {whole}) / {whole}"


def _sum(by: str) -> str:
    return f"sum by ({by})" if by else "sum"
