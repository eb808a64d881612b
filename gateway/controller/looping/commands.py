"""What the steps of a run are: which program with which arguments, and what it needs. Pure."""

import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gateway.core.refs import BASE, VersionRef
from gateway.loops import results
from gateway.loops.run import Run

# -P: a folder `training` in the working directory is not ours.
_PYTHON = (sys.executable, "-P", "-m")
PROGRAMS: Mapping[str, Sequence[str]] = {
    "curating": (*_PYTHON, "training.curation"),
    "training": (*_PYTHON, "training.runs.for_loop"),
    "gating": (*_PYTHON, "training.gate"),
}
_LEARNS = ("torch", "transformers", "peft", "trl", "datasets", "accelerate", "bitsandbytes")
NEEDS: Mapping[str, Sequence[str]] = {
    "curating": ("numpy", "datasketch"),
    "training": _LEARNS,
    "gating": ("torch", "transformers", "peft"),
}
SECRETS = ("TURNOUT_ADMIN_KEY", "TURNOUT_API_KEY", "TURNOUT_AUTH__ADMIN_KEY")
"""What a step has no use for."""


@dataclass(frozen=True, slots=True)
class Programs:
    """The steps' programs, and what they are told of the fleet in their environment.

    `installed` says whether a library is there; nothing is imported.
    """

    state_dir: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    programs: Mapping[str, Sequence[str]] = field(default_factory=lambda: PROGRAMS)
    needs: Mapping[str, Sequence[str]] = field(default_factory=lambda: NEEDS)
    installed: Callable[[str], bool] = lambda name: importlib.util.find_spec(name) is not None

    def missing(self, run: Run) -> str | None:
        """Return why the present step can't work here at all; None when it can."""
        gone = [name for name in self.needs.get(run.state, ()) if not self.installed(name)]
        if not gone:
            return None
        return (
            f"{run.state} needs {', '.join(gone)}, which the controller's environment lacks: "
            "pip install 'turnout[training]'"
        )

    def command(self, run: Run, folder: Path, *, best: str | None = None) -> list[str]:
        """Return the command of the run's present step, which works in `folder`."""
        arguments = {"curating": self._curate, "training": self._train, "gating": self._gate}[run.state]
        more = ["--best", best] if best is not None and run.state == "gating" else []
        return [*self.programs[run.state], *arguments(run, folder), *more]

    def told(self, inherited: Mapping[str, str]) -> dict[str, str]:
        """Return the environment of a step."""
        kept = {name: value for name, value in inherited.items() if name not in SECRETS}
        return {**kept, **self.environment, "TURNOUT_STATE_DIR": str(self.state_dir)}

    def _curate(self, run: Run, folder: Path) -> list[str]:
        return [
            *(run.route, "--run", run.id, "--out", str(folder)),
            *("--policy", str(folder / "policy.json"), "--state-dir", str(self.state_dir)),
        ]

    def _train(self, run: Run, folder: Path) -> list[str]:
        method = results.curated(run.results["curate"]).method
        wanted = run.policy.method
        begun = run.champion if run.policy.begin_from == "champion" and run.champion != BASE else None
        return [
            *("--out", str(folder), "--name", adapter_of(run)),
            *("--method", method if wanted == "auto" else wanted),
            *(("--from", begun) if begun else ()),
        ]

    def _gate(self, run: Run, folder: Path) -> list[str]:
        return [
            *("--route", run.route, "--candidate", str(run.candidate), "--champion", run.champion),
            *("--golden", str(folder / "golden.jsonl"), "--new", str(folder / "held_out_new.jsonl")),
            *("--old", str(folder / "held_out_old.jsonl"), "--policy", str(folder / "policy.json")),
            *("--out", str(folder / "gate.json"), "--state-dir", str(self.state_dir)),
        ]


def adapter_of(run: Run) -> str:
    """Return the adapter that gets a version: the champion's, or one of the route's name on the base."""
    ref = VersionRef.parse(run.champion)
    return run.route if ref is None else ref.name
