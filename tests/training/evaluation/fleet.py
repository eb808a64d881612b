"""A registry with two versions of one adapter and rows to judge them by, for `turnout evaluate`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typer.testing import CliRunner

from gateway.core.documents import Arm
from gateway.core.routes import RouteStatus
from gateway.store.control import ControlStore
from gateway.store.database import Database
from training.evaluation.cli import app

if TYPE_CHECKING:
    from tests.training.evaluation.conftest import MakeLora


class Fleet:
    """A state directory with `fruit@1` in production and `fruit@2`, and rows to judge by."""

    def __init__(self, folder: Path, base: Path, make_lora: "MakeLora") -> None:
        from adapters.base import identify
        from training.publishing.publish import Fleet as Where
        from training.publishing.publish import control_url, publish

        self.folder, self.base, self.state = folder, base, folder / "state"
        where = Where(self.state, control_url(self.state, None), 8)
        for number in (1, 2):
            made = make_lora(folder / f"lora{number}", number)
            publish("fruit", made, fleet=where, base=identify(str(base), "tiny"), actor="t")
        database = Database(where.url, "control")
        try:
            store = ControlStore(database)
            route = store.routes.get("fruit")
            assert route is not None
            status = RouteStatus(state="active", effective_arms=(Arm(adapter="fruit@1", share=1.0),))
            store.routes.set_status("fruit", status, generation=route.generation, actor="t")
        finally:
            database.close()
        self.rows = self.write("rows.jsonl", 40, 0)
        self.train = self.write("train.jsonl", 40, 1000)

    def write(self, name: str, count: int, start: int) -> Path:
        """Write rows of two labels."""
        lines = [
            {
                "prompt": f"{'ab'[number % 2]} {number}",
                "completion": ("apple", "bread")[number % 2],
                "product": "xy"[number % 3 > 0],
                "user": f"u{number // 2}",
            }
            for number in range(start, start + count)
        ]
        path = self.folder / name
        path.write_text("\n".join(json.dumps(line) for line in lines), encoding="utf-8")
        return path

    def run(self, *arguments: object, parity: bool = False) -> Any:
        """Run the command."""
        options = ["--base", str(self.base), "--base-name", "tiny", "--state-dir", str(self.state)]
        off = [] if parity else ["--parity", "off"]
        return CliRunner().invoke(
            app, [*map(str, arguments), *options, *off, "--batch-size", "16", "--max-answer-tokens", "8"]
        )

    def judge(self, *arguments: object, parity: bool = False) -> dict[str, Any]:
        """Run the command and return its document."""
        done = self.run(*arguments, "--json", parity=parity)
        assert done.exit_code == 0, done.output
        document = json.loads(done.stdout)
        assert isinstance(document, dict)
        return document
