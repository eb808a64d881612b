"""`turnout evaluate` from rows to report, on a base of two layers with random adapters."""

import json
from typing import Any

import pytest

from tests.training.evaluation.fleet import Fleet
from tests.training.evaluation.servers import serving

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(400),
    pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning"),
]


def test_a_version_is_judged_against_all_there_is(fleet: Fleet) -> None:
    """Production, base and baselines; slices and groups; kept for the version, and shown as a table too."""
    arguments = (
        "fruit@2", fleet.rows, "--train", fleet.train, "--slice", "product", "--group", "user",
        "--draws", "2",
    )  # fmt: skip
    found = fleet.judge(*arguments)
    assert found["systems"] == [
        "fruit@2", "fruit@1", "base", "base-lenient", "base-constrained", "base-4-shot", "majority", "tf-idf",
    ]  # fmt: skip
    assert (found["candidate"], found["rival"], found["rows"], found["units"]) == (
        "fruit@2",
        "fruit@1",
        40,
        20,
    )
    metrics = {each["metric"] for each in found["scores"] if each["system"] == "fruit@2"}
    assert {
        "accuracy",
        "precision",
        "recall",
        "f1",
        "f1:apple",
        "loss",
        "perplexity",
        "ece",
        "brier",
    } <= metrics
    assert {each["system"] for each in found["reliability"]} >= {"fruit@2", "base", "base-4-shot", "tf-idf"}
    assert all(each["low"] <= each["high"] for each in (score["here"] for score in found["scores"]))
    assert {each["name"] for each in found["slices"]} >= {"product = x", "product = y"}
    losses = {each["system"]: each["here"]["value"] for each in found["scores"] if each["metric"] == "loss"}
    assert len(set(losses.values())) == 3
    kept = list((fleet.state / "evaluations" / "fruit@2").iterdir())
    assert sorted(path.suffix for path in kept) == [".html", ".json"]
    shown = fleet.run(*arguments, "--no-keep", "--html", fleet.folder / "page.html")
    assert shown.exit_code == 0, shown.output
    assert "fruit@1 (production)" in shown.stdout
    assert "only 20 groups" in shown.stdout
    assert (fleet.folder / "page.html").is_file()
    assert len(list((fleet.state / "evaluations" / "fruit@2").iterdir())) == 2


def test_texts_are_judged_by_their_loss(fleet: Fleet) -> None:
    """As the model alone finds them, cut at its context window; what needs answers is refused."""
    import torch

    from training.fitting.model import load_base
    from training.fitting.template import Template

    line = "the bread was good and so was the apple that we ate with it"
    words = line.split()
    texts = [" ".join(words[n % 5 : n % 5 + 2 + n]) + f" {n}" for n in range(8)]
    texts.append(" ".join(words * 100))
    path = fleet.folder / "texts.jsonl"
    path.write_text("\n".join(json.dumps({"text": text}) for text in texts), encoding="utf-8")
    found = fleet.judge("fruit@2", path, "--fresh")
    assert found["systems"] == ["fruit@2", "fruit@1", "base"]
    assert found["metrics"] == ["loss", "perplexity"]
    assert any("1 texts are longer" in note for note in found["notes"])
    base = load_base(str(fleet.base))
    template = Template(base.tokenizer, base.stop_ids)
    nats = tokens = 0.0
    for text in texts:
        ids = torch.tensor([template.text_ids(text)[: base.max_position]])
        with torch.inference_mode():
            loss = base.model(input_ids=ids, labels=ids).loss
        nats, tokens = nats + float(loss) * (ids.shape[1] - 1), tokens + ids.shape[1] - 1
    scores = {(each["system"], each["metric"]): each["here"]["value"] for each in found["scores"]}
    assert scores["base", "loss"] == pytest.approx(nats / tokens, abs=0.01)
    assert scores["fruit@2", "loss"] != pytest.approx(scores["base", "loss"], abs=0.01)
    shown = fleet.run("fruit@2", path, "--no-keep", "--html", fleet.folder / "page.html")
    assert shown.exit_code == 0, shown.output
    assert "answers are better" not in shown.stdout
    for options in (["--metric", "accuracy"], ["--instruction", "Go on."]):
        assert fleet.run("fruit@2", path, *options).exit_code == 2


def test_a_model_that_was_trained_whole_is_judged_beside_adapters(fleet: Fleet) -> None:
    """As candidate or beside one; it is the base model's equal, or says that it has another template."""
    import torch

    from training.fitting.model import load_base

    base, whole = load_base(str(fleet.base), quantization="none", full=True), fleet.folder / "whole"
    torch.manual_seed(3)
    for parameter in base.model.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    base.model.save_pretrained(whole)
    base.tokenizer.save_pretrained(whole)
    found = fleet.judge(whole, "fruit@1", fleet.rows, "--no-baselines")
    losses = {each["system"]: each["here"]["value"] for each in found["scores"] if each["metric"] == "loss"}
    assert list(losses) == found["systems"] == [str(whole), "fruit@1", "base"]
    assert len(set(losses.values())) == 3
    assert found["settings"]["quantization"] == "nf4"
    beside = fleet.judge("fruit@1", whole, fleet.rows, "--no-baselines", "--fresh")
    again = {each["system"]: each["here"]["value"] for each in beside["scores"] if each["metric"] == "loss"}
    assert again == pytest.approx(losses, abs=1e-6)
    alone = fleet.judge(whole, fleet.rows, "--no-baselines", "--quantization", "none")
    assert alone["settings"]["quantization"] == "none"
    base.tokenizer.chat_template = "{{ messages }}"
    base.tokenizer.save_pretrained(whole)
    refused = fleet.run(whole, fleet.rows, "--no-baselines", "--fresh")
    assert (refused.exit_code, "another tokenizer or chat template" in refused.stderr) == (2, True)


def test_a_second_run_asks_nothing(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """All answers are kept; `--fresh` asks again and comes to the same."""
    from training.evaluation import scorer

    first = fleet.judge("fruit@2", fleet.rows, "--train", fleet.train)
    fresh = fleet.judge("fruit@2", fleet.rows, "--train", fleet.train, "--fresh")

    def never(*_: object, **__: object) -> None:
        raise AssertionError("the model was asked")

    monkeypatch.setattr(scorer, "answer", never)
    monkeypatch.setattr(scorer, "likelihoods", never)
    second = fleet.judge("fruit@2", fleet.rows, "--train", fleet.train)
    same = ("scores", "differences", "slices", "changed", "reliability")
    assert all(first[name] == second[name] == fresh[name] for name in same)


def test_a_killed_evaluation_ends_like_an_unbroken_one(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed in the middle of a system, it goes on with the next batch; a torn line is asked again."""
    from training.evaluation import scorer

    whole = fleet.judge("fruit@2", fleet.rows, "--no-baselines", "--fresh")
    real, calls = scorer.likelihoods, {"count": 0}

    def dying(*arguments: Any, **options: Any) -> Any:
        calls["count"] += 1
        if calls["count"] == 3:
            raise KeyboardInterrupt
        return real(*arguments, **options)

    monkeypatch.setattr(scorer, "likelihoods", dying)
    assert fleet.run("fruit@2", fleet.rows, "--no-baselines").exit_code == 130
    (path,) = (fleet.folder / "cache" / "evaluations").iterdir()
    lines = path.read_bytes()
    assert lines.count(b"\n") == 32
    path.write_bytes(lines[:-7])
    calls["count"] = 10
    resumed = fleet.judge("fruit@2", fleet.rows, "--no-baselines")
    assert calls["count"] - 10 == 2 + 2 * 3
    assert resumed["scores"] == whole["scores"]


def test_rows_that_are_longer_than_the_context_are_left_out_and_counted(fleet: Fleet) -> None:
    """They are judged by nowhere, and the others as if they were not there."""
    lines = fleet.rows.read_text(encoding="utf-8").splitlines()
    whole = fleet.judge("fruit@2", fleet.rows, "--train", fleet.train)
    long = json.dumps({"prompt": "ab " * 400, "completion": "apple", "product": "x", "user": "u"})
    fleet.rows.write_text("\n".join([*lines[:7], long, *lines[7:]]), encoding="utf-8")
    found = fleet.judge("fruit@2", fleet.rows, "--train", fleet.train)
    assert "1 rows are longer than the context window and were left out" in found["notes"]
    assert found["rows"] == whole["rows"] == 40
    assert found["scores"] == whole["scores"]


def test_free_answers_have_text_figures_and_few_shot(fleet: Fleet) -> None:
    """Where there are no labels, the few-shot base answers freely, and ROUGE, BLEU and chrF are reported."""
    pytest.importorskip("sacrebleu")
    lines = [{"prompt": f"say {n}", "completion": f"{n} is what you said {n * 7}"} for n in range(24)]
    for name, part in (("free.jsonl", lines[:12]), ("more.jsonl", lines[12:])):
        (fleet.folder / name).write_text("\n".join(map(json.dumps, part)), encoding="utf-8")
    found = fleet.judge(
        "fruit@2", "fruit@1", fleet.folder / "free.jsonl", "--train", fleet.folder / "more.jsonl",
        "--shots", "2", "--draws", "2",
    )  # fmt: skip
    assert found["systems"] == ["fruit@2", "fruit@1", "base", "base-2-shot"]
    assert set(found["metrics"]) == {
        "token_f1", "exact_match", "rouge1", "rouge2", "rougeL", "bleu", "chrf", "loss", "perplexity",
        "answer_chars",
    }  # fmt: skip


def test_a_judge_is_asked_about_production(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its key from the environment, which appears nowhere."""
    keys: set[str | None] = set()

    def judge(_path: str, _body: dict[str, Any], headers: dict[str, str]) -> tuple[int, Any, dict[str, str]]:
        keys.add(headers.get("authorization"))
        return 200, {"choices": [{"message": {"content": '{"verdict": "tie"}'}}]}, {}

    monkeypatch.setenv("MY_KEY", "sk-secret")
    with serving(judge) as url:
        found = fleet.judge(
            "fruit@2", fleet.rows, "--no-baselines", "--judge-url", f"{url}/v1", "--judge-model", "j",
            "--judge-key-env", "MY_KEY", "--judge-rows", "10",
        )  # fmt: skip
    assert found["preferences"]["against"] == "fruit@1"
    assert found["preferences"]["rows"] == 10
    assert keys <= {"Bearer sk-secret"}
    assert "sk-secret" not in json.dumps(found)


def test_a_judge_reads_what_the_systems_were_asked(fleet: Fleet) -> None:
    """The instruction is before the prompt in the request that it compares the answers to."""
    asked: list[str] = []

    def judge(_path: str, body: dict[str, Any], _headers: dict[str, str]) -> tuple[int, Any, dict[str, str]]:
        request = json.loads(body["messages"][1]["content"])["request"]
        asked.append(request[-1]["content"])
        return 200, {"choices": [{"message": {"content": '{"verdict": "tie"}'}}]}, {}

    with serving(judge) as url:
        fleet.judge(
            "fruit@2", fleet.rows, "--no-baselines", "--instruction", "Which?", "--judge-rows", "10",
            "--judge-url", f"{url}/v1", "--judge-model", "j",
        )  # fmt: skip
    assert asked
    assert all(text.startswith("Which?\n\n") for text in asked)


def test_the_candidates_own_instruction_goes_before_every_prompt(fleet: Fleet) -> None:
    """A given one replaces it, and both are in the settings."""
    found = fleet.judge("fruit@2", fleet.rows, "--no-baselines", "--instruction", "Which?")
    assert found["settings"]["instruction"] == "Which?"
    plain = fleet.judge("fruit@2", fleet.rows, "--no-baselines")
    assert plain["settings"]["instruction"] is None
    assert plain["scores"] != found["scores"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fruit@2"], "name at least one version"),
        (["fruit@7", "ROWS"], "no version fruit@7"),
        (["fruit@2", "none.jsonl"], "none.jsonl"),
        (["fruit@2", "ROWS", "--slice", "colour"], "--slice colour"),
        (["fruit@2", "ROWS", "--group", "colour"], "--group colour"),
        (["fruit@2", "ROWS", "--metric", "beauty"], "--metric beauty"),
        (["fruit@2", "ROWS", "--judge-url", "http://x/v1"], "both --judge-url and --judge-model"),
        (["fruit@2", "ROWS", "--engine-url", "http://x"], "--parity off"),
        (["fruit@2", "ROWS", "--schema", "ROWS"], "no JSON schema"),
        (["fruit@2", "ROWS", "--route", "nobody"], "--route nobody"),
    ],
)
def test_bad_usage_is_told_before_the_model_is_loaded(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    """With exit code 2 and the option's name."""
    from training.evaluation import scorer

    monkeypatch.setattr(scorer, "load_base", lambda *_, **__: pytest.fail("the model was loaded"))
    done = fleet.run(*(str(fleet.rows) if each == "ROWS" else each for each in arguments))
    assert (done.exit_code, message in done.stderr) == (2, True), done.stderr


def test_an_adapter_of_another_base_is_refused(fleet: Fleet) -> None:
    """A folder whose weights do not fit says so."""
    from tests.adapters.folders import make_adapter

    other = make_adapter(fleet.folder / "other", rank=4, base_model_name_or_path="tiny")
    done = fleet.run(other, fleet.rows, "--no-baselines")
    assert done.exit_code == 2
    assert "does not fit the base model" in done.stderr
