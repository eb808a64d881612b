"""The panels of the watch: evidence against an alarm's, sizes of changes and windows, its own health."""

from monitoring.grafana.page import Limits, Page, newest

_ROUTE = 'route=~"$route"'
_ALARM = f"max by (route, stream) (turnout_watch_alarm_timestamp_seconds{{{_ROUTE}}})"


def add(page: Page) -> None:
    """Put the row on a page that has the variable `route`."""
    page.row("Watch")
    page.graph(
        "Evidence of change",
        {"{{route}} {{stream}}": newest("turnout_watch_evidence", of=_ROUTE, by="route, stream")},
        says="The share of an alarm's evidence, of each stream on its own, of all of the detector's "
        "`together`, and of ratings and signals. At 1 it alarms, and begins anew.",
        limits=Limits(0.2, 1),
        logarithmic=True,
        see="drift-found",
        width=12,
        leads="experiment:route",
    )
    page.graph(
        "Size of the change",
        {"{{route}} {{stream}}": newest("turnout_watch_effect", of=_ROUTE, by="route, stream")},
        says="Of a stream the share of the requests that moved; of ratings and signals their difference.",
        see="drift-found",
        width=12,
    )
    page.bars(
        "Requests watched",
        {"{{route}} {{window}}": newest("turnout_watch_rows", of=_ROUTE, by="route, window")},
        says="How many requests the reference has, and how many came after it, one a subject and day.",
        see="drift-found",
    )
    page.graph(
        "Requests that the reference needs",
        {"{{route}}": newest("turnout_watch_missing_rows", of=_ROUTE, by="route")},
        says="Above 0 there is too little to compare with yet; days may be missing besides.",
        see="drift-found",
    )
    page.graph(
        "Since the last alarm",
        {"{{route}} {{stream}}": f"time() - {_ALARM}"},
        says="By the stream that said most when there was enough evidence.",
        unit="s",
        see="drift-found",
    )
    page.graph(
        "Since the watch's last look",
        {"{{route}}": f"time() - max by (route) (turnout_watch_looked_timestamp_seconds{{{_ROUTE}}})"},
        says="Looks at routes without new requests count too.",
        unit="s",
        see="watch-stopped",
    )
    page.graph(
        "Overdue looks",
        {"{{route}}": f"time() - max by (route) (turnout_watch_due_timestamp_seconds{{{_ROUTE}}})"},
        says="Above 0 the watch is later than it promised; below, so long it has until its next look.",
        unit="s",
        limits=Limits(600, 1800),
        see="watch-stopped",
    )
    page.graph(
        "Looks that failed",
        {"{{route}}": newest("turnout_watch_looks_failed", of=_ROUTE, by="route")},
        says="How many looks could not be made since the watch of the route began.",
        see="watch-stopped",
    )
