"""Names that the gateway and its reader of sources share: an adapter's files, the reader's answers."""

from adapters.peft_config import CONFIG

WEIGHTS = "adapter_model.safetensors"
MANIFEST = "manifest.json"
WANTED = (CONFIG, WEIGHTS, MANIFEST)
ANSWER = "answer.json"
TOTAL = "total"
FILES = "adapter"
