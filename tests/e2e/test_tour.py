"""The README's five-minute tour, typed as a reader would, while other clients keep calling."""

import contextlib
import io
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.e2e.conftest import Service
from tests.e2e.tour import README, steps

ADDRESS = "http://127.0.0.1:8080"
BYSTANDERS = (
    ("sentiment@1", "Is this movie review positive or negative? Answer with one word.\n\nwarm and funny ."),
    ("sarcasm@1", "Is this headline sarcastic or serious? Answer with one word.\n\nsenate passes water bill"),
)
PAUSE_S = 2.0
"""Between the calls of a bystander: without it they keep a slow machine from what the tour does."""


def _two_arms(output: str) -> None:
    counts = dict(re.findall(r"'(sentiment@[12])': (\d+)", output))
    assert sum(map(int, counts.values())) == 40
    assert int(counts["sentiment@1"]) > int(counts["sentiment@2"]) > 0


def _behaviours(output: str) -> None:
    lines = [line.split(": ", 1) for line in output.strip().splitlines()]
    assert [model for model, _ in lines] == ["sentiment", "sentiment", "sarcasm", "SmolLM2-135M-Instruct"]
    assert [answer for _, answer in lines[:3]] == ["negative", "positive", "sarcastic"]
    assert lines[3][1] not in ("negative", "positive")


def _contains(*parts: str) -> Callable[[str], None]:
    def check(output: str) -> None:
        assert [part for part in parts if part not in output] == []

    return check


# What the reader must see, by heading and the number of the block under it.
SEEN: dict[tuple[str, int], Callable[[str], None]] = {
    ("Call an adapter", 0): _behaviours,
    ("Add it while traffic runs", 0): _contains("sentiment@2"),
    ("Add it while traffic runs", 1): _contains("sentiment@2"),
    ("Split traffic 90/10", 1): _two_arms,
    ("Send feedback", 1): _contains("sentiment@1", "sentiment@2", "thumbs"),
    ("Look at metrics", 0): _contains('adapter="sentiment@1"', 'adapter="sentiment@2"'),
    ("See drift", 1): _contains("turnout_drift_detected", "1.0"),
}


@contextmanager
def bystanders(url: str) -> Iterator[list[str]]:
    """Keep calling two adapters until the block ends; yield the list that failures go to."""
    failures: list[str] = []
    served = [0] * len(BYSTANDERS)
    over = threading.Event()

    def call(number: int) -> None:
        model, text = BYSTANDERS[number]
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
        first = None
        while not over.wait(PAUSE_S):
            try:
                answer = client.chat.completions.create(
                    model=model, messages=[{"role": "user", "content": text}], max_tokens=3, temperature=0
                )
            except openai.OpenAIError as error:
                failures.append(f"{model}: {error}")
                continue
            content = answer.choices[0].message.content
            first = first or content
            served[number] += 1
            if content != first or answer.model != model:
                failures.append(f"{model} answered {content!r} as {answer.model}, and {first!r} before")
        client.close()

    threads = [threading.Thread(target=call, args=(number,)) for number in range(len(BYSTANDERS))]
    for thread in threads:
        thread.start()
    try:
        yield failures
    finally:
        over.set()
        for thread in threads:
            thread.join(60)
    assert min(served) > 10, f"the bystanders were served {served} times"


def _type_shell(code: str, service: Service, folder: Path) -> str:
    if code.startswith("source .venv"):
        code = code.split("\n", 1)[1]
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", code],
        cwd=folder,
        env=service.environment(),
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert done.returncode == 0, f"{code}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def _type_python(code: str, session: dict[str, Any]) -> str:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "README.md", "exec"), session)  # noqa: S102 - it is our own README
    return printed.getvalue()


def test_every_step_of_the_tour_works(service: Service, tmp_path: Path) -> None:
    """Each block does what the README says, and clients of other versions notice none of it."""
    session: dict[str, Any] = {}
    seen: dict[str, int] = {}
    with bystanders(service.url) as failures:
        for step in steps(README.read_text(encoding="utf-8")):
            code = step.code.replace(ADDRESS, service.url)
            run = _type_python(code, session) if step.language == "python" else None
            output = run if run is not None else _type_shell(code, service, tmp_path)
            number = seen.get(step.heading, 0)
            seen[step.heading] = number + 1
            if check := SEEN.get((step.heading, number)):
                check(output)
    session["client"].close()
    assert failures == []


@pytest.mark.skipif(shutil.which("curl") is None, reason="the tour uses curl")
def test_the_tour_left_a_report(service: Service) -> None:
    """The drift report that the tour speaks of is there, whole, as a page and as JSON."""
    reports = sorted((service.state_dir / "reports" / "sentiment").glob("*"))
    assert {path.suffix for path in reports} == {".html", ".json"}
