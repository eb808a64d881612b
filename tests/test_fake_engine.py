"""The fake engine behaves like the real one where the gateway and the controller depend on it."""

import json
import struct
from pathlib import Path

import httpx
import pytest

from tests import fake_engine


def adapter(folder: Path, *, rank: int = 8, cut: bool = False, seed: int = 0) -> Path:
    """Write a minimal adapter folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps({"r": rank}))
    header = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    data = struct.pack("<Q", len(header)) + header + struct.pack("<II", seed, seed)
    (folder / "adapter_model.safetensors").write_bytes(data[:-3] if cut else data)
    return folder


def test_loading_answers_as_vllm_does(tmp_path: Path) -> None:
    """Loading gives vLLM's status for each case, and a loaded adapter is listed with its path."""
    good = str(adapter(tmp_path / "good"))
    cases = [
        ("a@1", good, 200),
        ("a@1", good, 400),
        ("", good, 400),
        ("b@1", str(tmp_path / "missing"), 404),
        ("c@1", str(adapter(tmp_path / "cut", cut=True)), 500),
        ("d@1", str(adapter(tmp_path / "wide", rank=64)), 500),
    ]
    with fake_engine.start() as engine, httpx.Client(base_url=engine.url) as client:
        for name, path, status in cases:
            answer = client.post("/v1/load_lora_adapter", json={"lora_name": name, "lora_path": path})
            assert answer.status_code == status, (name, answer.text)
        cards = {card["id"]: card["root"] for card in client.get("/v1/models").json()["data"]}
        assert cards == {engine.base_model: engine.base_model, "a@1": good}
        assert client.post("/v1/unload_lora_adapter", json={"lora_name": "a@1"}).status_code == 200
        assert client.post("/v1/unload_lora_adapter", json={"lora_name": "a@1"}).status_code == 404


def test_an_evicted_adapter_is_read_again_and_its_loss_is_fatal(tmp_path: Path) -> None:
    """An evicted adapter whose folder is gone takes the whole engine down at its next use."""
    with fake_engine.start(max_cpu_loras=1) as engine, httpx.Client(base_url=engine.url) as client:
        for name in ("a", "b"):
            path = str(adapter(tmp_path / name))
            client.post("/v1/load_lora_adapter", json={"lora_name": name, "lora_path": path})
        for part in (tmp_path / "a").iterdir():
            part.unlink()
        with pytest.raises(httpx.TransportError):
            client.post("/v1/completions", json={"model": "a", "prompt": "x"})
        assert engine.dead


def test_an_empty_model_is_the_base_model() -> None:
    """An absent model silently means the base model; an unknown one is a 404."""
    with fake_engine.start() as engine, httpx.Client(base_url=engine.url) as client:
        body = {"messages": [{"role": "user", "content": "x"}]}
        assert client.post("/v1/chat/completions", json=body).json()["model"] == engine.base_model
        assert client.post("/v1/chat/completions", json={**body, "model": "no"}).status_code == 404


def test_log_probabilities_depend_on_weights_and_prompt() -> None:
    """Base, adapter and an adapter that was never applied differ exactly as attestation expects."""
    ask = {"prompt": ["one", "two"], "max_tokens": 1, "logprobs": 20}
    with fake_engine.start() as engine, httpx.Client(base_url=engine.url) as client:
        engine.register("a@1")
        base = client.post("/v1/completions", json=ask).json()["choices"]
        tuned = client.post("/v1/completions", json={**ask, "model": "a@1"}).json()["choices"]
        assert tuned[0]["logprobs"]["top_logprobs"] == [fake_engine.first_logprobs(b"a@1", "one", 20)]
        assert tuned[1]["logprobs"] != tuned[0]["logprobs"] != base[0]["logprobs"]
        engine.knobs.unapplied.add("a@1")
        silent = client.post("/v1/completions", json={**ask, "model": "a@1"}).json()
        assert silent["model"] == "a@1"
        assert silent["choices"][0]["logprobs"] == base[0]["logprobs"]


def test_a_restart_is_a_new_incarnation() -> None:
    """A restarted engine has forgotten its adapters and has another start time."""
    with fake_engine.start() as engine, httpx.Client(base_url=engine.url) as client:
        engine.register("a@1")
        before = engine.incarnation
        assert f"process_start_time_seconds {before}\n" in client.get("/metrics").text
        engine.restart()
        assert engine.adapters == []
        assert engine.incarnation != before
