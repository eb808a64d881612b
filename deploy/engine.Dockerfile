# An engine for Turnout: vLLM's own image and the plugin that brings bitsandbytes quantization back to it.
#
#   docker build -t turnout-engine -f deploy/engine.Dockerfile deploy
#
# Keep it on a private network: whoever reaches it can load adapters and has no key to show.

ARG VLLM_VERSION=0.32.0
FROM vllm/vllm-openai:v${VLLM_VERSION}
# --no-deps, so that the image's own torch and vLLM stay as they are.
RUN python3 -m pip install --no-cache-dir --no-deps bitsandbytes==0.50.2 vllm-bnb-plugin==0.0.3
ENV VLLM_ALLOW_RUNTIME_LORA_UPDATING=True VLLM_NO_USAGE_STATS=1 DO_NOT_TRACK=1 HF_HUB_OFFLINE=1
EXPOSE 8000
ENTRYPOINT ["python3", "-m", "vllm.entrypoints.openai.api_server", "--host", "0.0.0.0", "--port", "8000"]
