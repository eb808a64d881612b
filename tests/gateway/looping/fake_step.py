"""Stands in for a step of a run: `python fake_step.py STATE ARGUMENTS…`, as the real ones are called.

`STATE_DIR/plan.json` says for each state what its starts do, in turn, the last one again and again:

| says | does |
|---|---|
| `ok` | leaves its result |
| `die` | ends with code 1 and a line on stderr |
| `refuse` | ends with code 2 |
| `hang` | waits for ever, with a child of its own |
| `stubborn` | the same, and ignores SIGTERM |
| `nonsense` | leaves a result that is none |

Every start is a line in `STATE_DIR/steps.log`; two at once in one folder are a line `TWICE`.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

NAMES = {"curating": "curate", "training": "train", "gating": "gate"}


def main() -> int:
    """Do what the plan says."""
    state, arguments = sys.argv[1], sys.argv[2:]
    state_dir = Path(os.environ["TURNOUT_STATE_DIR"])
    out = Path(arguments[arguments.index("--out") + 1])
    folder = out.parent if out.suffix == ".json" else out
    plan = json.loads((state_dir / "plan.json").read_text())
    starts = folder / f"starts-{state}"
    number = int(starts.read_text()) if starts.exists() else 0
    starts.write_text(str(number + 1))
    todo = plan.get(state, ["ok"])
    todo = todo[min(number, len(todo) - 1)]
    with (state_dir / "steps.log").open("a") as log:
        log.write(f"{folder.name} {state} {os.getpid()} {todo} {' '.join(arguments)}\n")
        try:
            os.kill(int((folder / "worker").read_text()), 0)
            log.write("TWICE\n")
        except (OSError, ValueError):
            pass
    (folder / "worker").write_text(str(os.getpid()))
    if todo in ("hang", "stubborn"):
        if todo == "stubborn":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child = subprocess.Popen(["sleep", "600"])
        (folder / "child").write_text(str(child.pid))
        time.sleep(600)
    if todo in ("die", "refuse"):
        sys.stderr.write("the rows are strange\n")
        return 1 if todo == "die" else 2
    time.sleep(float(plan.get("seconds", 0)))
    result = {"nonsense": 1} if todo == "nonsense" else plan["results"][state]
    scratch = folder / f".{state}.tmp"
    scratch.write_text(json.dumps(result))
    scratch.replace(folder / f"{NAMES[state]}.json")
    (folder / "worker").unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
