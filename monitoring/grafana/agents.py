"""Agents: the row of the Engine dashboard about what brings adapters beside engines on other machines."""

from monitoring.grafana.page import Limits, Page, newest, rate


def agent_panels(page: Page, of: str) -> None:
    """Add the row, for the series that match `of`."""
    page.row("Agents")
    page.graph(
        "Adapters brought",
        {"{{replica}} {{outcome}}": rate("turnout_agent_syncs_total", of=of, by="replica, outcome")},
        says="How bringing blobs ended: fetched, found from before, or not to be had: missing in the bucket, "
        "the bucket, room, disk, fault.",
        unit="cps",
        see="agent-failing",
    )
    page.graph(
        "What comes from the bucket",
        {"{{replica}}": rate("turnout_agent_fetched_bytes_total", of=of, by="replica")},
        says="Bytes a second, also of blobs that are not whole yet.",
        unit="Bps",
    )
    page.graph(
        "Blobs beside the engine",
        {
            "{{replica}} in place": newest("turnout_agent_blobs", of=of, by="replica"),
            "{{replica}} on their way": newest("turnout_agent_fetching_blobs", of=of, by="replica"),
        },
        says="How many are whole and verified, and how many are coming.",
        see="agent-failing",
    )
    page.graph(
        "Room for blobs, used",
        {
            "{{replica}}": f"""{newest("turnout_agent_blob_bytes", of=of, by="replica")}
            / {newest("turnout_agent_max_bytes", of=of, by="replica")}"""
        },
        says="Of --max-gib. Full is well as long as something may go: what the running engine reads stays.",
        unit="percentunit",
        limits=Limits(0.9, 1),
        see="agent-failing",
    )
    page.graph(
        "Free on the agent's disk",
        {"{{replica}}": f"min by (replica) (turnout_agent_disk_free_bytes{{{of}}})"},
        says="The room on the disk that blobs are on. Nothing is fetched that would not fit.",
        unit="bytes",
        limits=Limits(5 * 2**30, 2**30, low=True),
        see="agent-failing",
    )
    page.graph(
        "Made room",
        {"{{replica}}": rate("turnout_agent_removed_blobs_total", of=of, by="replica")},
        says="Blobs of ended engines that were removed for others. Often: the room is too small.",
        unit="cps",
        see="agent-failing",
        width=4,
    )
    page.graph(
        "Since one came",
        {
            "{{replica}}": "time() - max by (replica) "
            f"(turnout_agent_last_success_timestamp_seconds{{{of}}} > 0)"
        },
        says="Time since a blob was last brought or found. Long is well where no version is new.",
        unit="s",
        width=4,
    )
