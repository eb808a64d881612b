"""A plugin for the engine on a CPU: adapters that touch their own requests alone, and faster steps.

vLLM calls `register` in each of its processes, by the entry point `vllm.general_plugins`.
"""

from importlib.util import find_spec


def register() -> None:
    """Repair the CPU's LoRA operations and 4-bit layers; elsewhere, and a second time, nothing happens."""
    from vllm.platforms import current_platform  # noqa: PLC0415 - only the engine has vLLM

    if not current_platform.is_cpu():
        return
    from adapters import vllm_lora, vllm_weights  # noqa: PLC0415 - imports torch

    vllm_lora.repair()
    if find_spec("vllm_bnb_plugin") is not None:
        vllm_weights.repair()
