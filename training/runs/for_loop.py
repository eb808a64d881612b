"""`python -m training.runs.for_loop`: the training of one run of the loop, begun or gone on with.

It writes `OUT/train.json` when a version is published, whole or not at all. A training that was stopped in
any way is gone on with from its last checkpoint; one that had published before it was stopped publishes
nothing again, since the same content is the same version.
"""

import json
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.core.loop import read_policy
from training.exits import exit_codes
from training.progress import Progress
from training.runs.folder import Run, all_runs, replace_file
from training.runs.order import Order, as_served, order_of
from training.runs.session import begin, resume

JUDGED_ROWS = 20
MANY_ROWS = 400
"""From so many rows on, the recipe's own share of them is enough to judge by."""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    *,
    out: Annotated[Path, typer.Option(help="The run's folder, with train.jsonl and policy.json.")],
    name: Annotated[str, typer.Option(help="The adapter that gets a version.")],
    method: Annotated[str, typer.Option(help="sft, kto or dpo.")],
    parent: Annotated[str | None, typer.Option("--from", help="The version to go on from.")] = None,
) -> None:
    """Train on a run's rows, publish the version, and say so in train.json."""
    with exit_codes("training.runs.for_loop"):
        order = loop_order(out, os.environ, name=name, method=method, parent=parent)
        version = _trained(order, Progress())
        if version == parent:  # the same weights are the same version
            raise ValueError(
                f"no step of the training was better than {parent} on its validation rows: it gave the "
                'same weights again; "patience": 0 in the policy\'s train has it go on to the end'
            )
        about = {"version": version, "name": name, "method": method, "parent": parent}
        replace_file(out / "train.json", json.dumps(about, indent=1) + "\n")


def loop_order(
    out: Path, environment: Mapping[str, str], *, name: str, method: str, parent: str | None
) -> Order:
    """Return what `turnout train` is asked for: the policy's options, and the fleet's places.

    Raises:
        ValueError: a document of the run can't be read, or an option is wrong.
        OSError: a document is missing.
    """
    run, curated = (json.loads((out / f"{part}.json").read_bytes()) for part in ("run", "curate"))
    rank = environment.get("TURNOUT_ENGINE__MAX_LORA_RANK")
    values = {
        **as_served(environment),
        "test_share": _test_share(curated.get("rows")),
        **read_policy(out / "policy.json").train,
        "name": name,
        "source": str(out / "train.jsonl"),
        "recipe": method,
        "from_version": parent,
        "runs": str(out / "training"),
        "track": "none",
        "data_source": f"the loop of route {run['route']}",
        "loop_run": run["run"],
        "drift_id": run["drift_id"],
        "curated": curated.get("fingerprint"),
        "state_dir": environment.get("TURNOUT_STATE_DIR"),
        "store_url": environment.get("TURNOUT_STORE__CONTROL_URL"),
        "base": environment.get("TURNOUT_BASE__MODEL"),
        "base_name": environment.get("TURNOUT_BASE__SERVED_NAME"),
        "max_rank": int(rank) if rank else None,
    }
    return order_of({key: value for key, value in values.items() if value is not None})


def _test_share(rows: Any) -> float | None:
    """Return the share of few rows that the training itself judges by; the gate judges by others anyway."""
    if not isinstance(rows, int) or rows >= MANY_ROWS:
        return None
    return min(0.3, JUDGED_ROWS / max(1, rows))


def _trained(order: Order, progress: Progress) -> str:
    """Return the version: of the training that was begun here before, if there is one."""
    before = next(iter(all_runs(Path(str(order.runs)))), None)
    if before is None:
        return _published(begin(order.settled(Path.cwd()), progress).ref)
    state = before.read()
    if state.state == "finished":
        return _published(state.version)
    run = Run.take(before.path)
    try:
        return _published(resume(run, progress, changes={"store_url": order.store_url}).ref)
    finally:
        run.release()


def _published(ref: Any) -> str:
    if ref is None:
        raise ValueError("the training published no version")
    return str(ref)


if __name__ == "__main__":
    # Asked to end, it cleans up as after Ctrl-C; so it can be gone on with.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    app(prog_name="training.runs.for_loop")
