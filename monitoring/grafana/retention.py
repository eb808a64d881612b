"""The part of the Fleet dashboard that is about removing old rows."""

from monitoring.grafana.page import Limits, Page, newest


def oldest_rows(page: Page) -> None:
    """Show how old the oldest rows are, beside how long they are kept."""
    oldest = newest("turnout_oldest_row_timestamp_seconds", by="rows")
    kept = newest("turnout_retention_seconds", by="rows")
    page.graph(
        "Age of the oldest rows, over how long they are kept",
        {"{{rows}}": f"(time() - {oldest}) / {kept}"},
        says="Recorded requests, pairs of shadows and ratings, where they are removed by age. Above 1 for "
        "long the controller does not remove them.",
        unit="percentunit",
        limits=Limits(1.02, 1.1),
        see="retention-late",
    )
