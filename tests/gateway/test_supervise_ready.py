"""How far an engine is, how it is, and why it failed."""

import httpx
import pytest

from gateway.supervise.ready import Health, diagnose, health, phase


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], "loading vLLM"),
        (["INFO 11-20 [importing.py:44] Triton not installed"], "loading vLLM"),
        (["INFO (EngineCore pid=1) [core.py:110] Initializing a V1 LLM engine"], "starting its core"),
        (["Initializing a V1 LLM engine", "Starting to load model /models/x..."], "loading the weights"),
        (
            ["Loading weights took 0.4 seconds", "GPU KV cache size: 47,104 tokens"],
            "making room for the KV cache",
        ),
        (["KV cache size: 1", "INFO:     Application startup complete."], "opening its port"),
    ],
)
def test_phase(lines: list[str], expected: str) -> None:
    """The last line that says something tells the phase."""
    assert phase(lines) == expected


@pytest.mark.parametrize(
    ("line", "code", "says"),
    [
        ("OSError: [Errno 98] Address already in use", 1, "port"),
        ("RuntimeError: operator torchvision::nms does not exist", 1, "linked against CUDA"),
        ("ModuleNotFoundError: No module named 'vllm'", 1, "make setup"),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB", 1, "too little memory"),
        ("RuntimeError: std::bad_alloc", 1, "too little memory"),
        ("ValueError: 1.1 GiB KV cache is needed, which is larger than the available", 1, "max_model_len"),
        ("huggingface_hub.errors.OfflineModeIsEnabled: Cannot reach the hub", 1, "HF_HUB_OFFLINE=0"),
        ("api_server.py: error: unrecognized arguments: --sedd 7", 2, "engine.extra_args"),
        ("OSError: [Errno 28] No space left on device", 1, "disk is full"),
        ("", 137, "killed, most likely for want of memory"),
        ("something else", 1, "its log says why"),
    ],
)
def test_diagnosis(line: str, code: int, says: str) -> None:
    """A known failure is named with what to do; an unknown one points to the log."""
    assert says in diagnose(["first line", line, "last line"], code)


@pytest.mark.parametrize(
    ("answer", "expected"), [(200, Health.WELL), (503, Health.DEAD), (None, Health.SILENT)]
)
def test_health(answer: int | None, expected: Health) -> None:
    """200 is well, another answer means a dead core, and no answer is silence."""

    def handle(request: httpx.Request) -> httpx.Response:
        assert request.url.path == "/health"
        if answer is None:
            raise httpx.ConnectError("refused")
        return httpx.Response(answer)

    with httpx.Client(transport=httpx.MockTransport(handle)) as client:
        assert health(client, "http://127.0.0.1:1") is expected
