"""Which fields a request may have, endpoint by endpoint, and why the others are refused.

Allowed is what OpenAI's and Anthropic's APIs define for the endpoint and what vLLM 0.32 adds to it for
sampling. Refused by name, with the reason, is what would endanger the engine or another tenant, what the
gateway sets itself, and what the engine would silently ignore although it changes the answer. Anything else
is unknown. docs/api.md has the evidence.

A table maps a field to its check; None stands for a field that is passed on as it is.
"""

import difflib
from collections.abc import Mapping
from typing import Any

from gateway.api.checks import (
    Check,
    Refused,
    an_object,
    content,
    flag,
    integer,
    items,
    messages,
    never,
    only,
    strings,
    template_arguments,
    text,
)
from gateway.api.grammars import json_format, response_format, structured_outputs, tools
from gateway.errors import InvalidRequest

Fields = Mapping[str, Check | None]

MAX_SEQUENCES = 128
"""How many answers one request may ask for: choices times prompts. OpenAI's own limit for `n`."""

MAX_LOGPROBS = 20
MAX_TOKENS = 2**31 - 1
MAX_TOKEN_IDS = 1024
MAX_BIASES = 1024

_NOT_STORED = "nothing is stored: an engine would keep it for itself, and show it to every tenant"
_STEERS_MEMORY = "it steers the engine's own memory"
_PROMPT_LOGPROBS = "it makes the engine compute log-probabilities of the prompt, which stops it with adapters"

# --- what every generating endpoint shares --------------------------------------------------------------

_OURS: Fields = {
    "cache_salt": never("the gateway sets it, to keep tenants' prefix caches apart"),
    "priority": only(0, "the gateway sets it"),
    "request_id": never("the gateway sets it; send your own as the header x-request-id"),
    "kv_transfer_params": never(_STEERS_MEMORY),
    "ec_transfer_params": never(_STEERS_MEMORY),
    "vllm_xargs": never("it hands arguments to extensions of the engine"),
    "mm_processor_kwargs": never("it changes how much memory media take"),
    "media_io_kwargs": never("it changes how media are loaded"),
    "session_id": never("the engine would share it between tenants"),
    "watermarking": never("whether answers are watermarked is the operator's choice"),
}

_PENALTIES: Fields = {
    "temperature": None,
    "top_p": None,
    "frequency_penalty": None,
    "presence_penalty": None,
}

_SAMPLING: Fields = {
    "top_k": integer(-1, MAX_TOKENS),
    "min_p": None,
    "repetition_penalty": None,
    "seed": integer(-(2**63), 2**63 - 1),
    "stop": strings(most=64, most_chars=4096),
    "stop_token_ids": items(MAX_TOKEN_IDS),
    "ignore_eos": flag,
    "logit_bias": items(MAX_BIASES),
    "skip_special_tokens": flag,
    "include_stop_str_in_output": flag,
    "structured_outputs": structured_outputs,
}

_MORE_SAMPLING: Fields = {
    "length_penalty": None,
    "min_tokens": integer(0, MAX_TOKENS),
    "spaces_between_special_tokens": flag,
    "allowed_token_ids": items(MAX_TOKEN_IDS),
    "bad_words": strings(most=128, most_chars=4096),
    "logprob_token_ids": items(MAX_TOKEN_IDS),
    "truncate_prompt_tokens": integer(-1, MAX_TOKENS),
    "truncation_side": text,
    "thinking_token_budget": integer(-1, MAX_TOKENS),
    "repetition_detection": an_object,
    "stream_interval": integer(1, MAX_TOKENS),
    "add_special_tokens": flag,
    "return_tokens_as_token_ids": flag,
    "return_token_ids": flag,
    "response_format": response_format,
    "use_beam_search": only(False, "each of its steps is many requests of the engine's own"),
    "prompt_logprobs": never(_PROMPT_LOGPROBS),
    "prompt_embeds": never("the engine would decode a client's tensors"),
    "chat_template": never("a template is a program, which the engine would run for a client"),
    "logits_processors": never("they are code, which the engine would run for a client"),
    "guided_decoding_backend": never("which grammar engine runs is the operator's choice"),
    **{
        f"guided_{kind}": never("vLLM no longer reads it; use 'structured_outputs'")
        for kind in ("json", "regex", "choice", "grammar", "whitespace_pattern")
    },
}

# What OpenAI defines and this engine has no use for: it changes nothing about the answer.
_INERT: Fields = {
    "metadata": None,
    "user": None,
    "safety_identifier": None,
    "service_tier": None,
    "prompt_cache_key": None,
    "prompt_cache_retention": None,
    "prompt_cache_options": None,
}

_TEMPLATE: Fields = {
    "add_generation_prompt": flag,
    "continue_final_message": flag,
    "chat_template_kwargs": template_arguments,
}

# --- endpoint by endpoint -------------------------------------------------------------------------------

CHAT: Fields = {
    **_OURS,
    **_PENALTIES,
    **_SAMPLING,
    **_MORE_SAMPLING,
    **_INERT,
    **_TEMPLATE,
    "model": None,
    "messages": messages,
    "max_tokens": integer(0, MAX_TOKENS),
    "max_completion_tokens": integer(0, MAX_TOKENS),
    "n": integer(1, MAX_SEQUENCES),
    "logprobs": flag,
    "top_logprobs": integer(0, MAX_LOGPROBS),
    "stream": flag,
    "stream_options": an_object,
    "tools": tools("function", otherwise="is none that the engine knows here; 'function' is"),
    "tool_choice": None,
    "parallel_tool_calls": flag,
    "reasoning_effort": text,
    "include_reasoning": flag,
    "verbosity": text,
    "prediction": None,
    "return_prompt_text": flag,
    "documents": items(256),
    "modalities": only(["text"], "the engine answers in text only"),
    "store": only(False, _NOT_STORED),
    "echo": only(False, _PROMPT_LOGPROBS),
    "audio": never("the engine answers in text only"),
    "moderation": never("the engine moderates nothing"),
    "web_search_options": never("the engine searches nothing"),
    "functions": never("it is deprecated and the engine ignores it; use 'tools'"),
    "function_call": never("it is deprecated and the engine ignores it; use 'tool_choice'"),
}

COMPLETIONS: Fields = {
    **_OURS,
    **_PENALTIES,
    **_SAMPLING,
    **_MORE_SAMPLING,
    **_INERT,
    "model": None,
    "prompt": None,  # bounded together with `n`, below
    "suffix": text,
    "echo": flag,
    "max_tokens": integer(0, MAX_TOKENS),
    "n": integer(1, MAX_SEQUENCES),
    "best_of": only(1, "the engine ignores it; use 'n'"),
    "logprobs": integer(0, MAX_LOGPROBS),
    "stream": flag,
    "stream_options": an_object,
}

RESPONSES: Fields = {
    **_OURS,
    **_PENALTIES,
    **_SAMPLING,
    **_INERT,
    "model": None,
    "input": content,
    "instructions": text,
    "max_output_tokens": integer(1, MAX_TOKENS),
    "max_tool_calls": integer(1, MAX_TOKENS),
    "include": items(16),
    "top_logprobs": integer(0, MAX_LOGPROBS),
    "stream": flag,
    "stream_options": an_object,
    "text": json_format,
    "tools": tools(
        "function",
        "custom",
        "namespace",
        otherwise="would make the engine call out; 'function' and 'custom' do not",
    ),
    "tool_choice": None,
    "parallel_tool_calls": flag,
    "reasoning": an_object,
    "include_reasoning": flag,
    "truncation": text,
    "enable_response_messages": flag,
    "chat_template_kwargs": template_arguments,
    "store": only(False, _NOT_STORED),
    "background": only(False, _NOT_STORED),
    "previous_response_id": never(f"{_NOT_STORED}; send the whole conversation as 'input'"),
    "conversation": never(f"{_NOT_STORED}; send the whole conversation as 'input'"),
    "previous_input_messages": never("send the whole conversation as 'input'"),
    "prompt": never("there are no stored prompts; send it as 'instructions' and 'input'"),
    "context_management": never("the engine does not shorten conversations"),
    "moderation": never("the engine moderates nothing"),
    "access_programs": never("the engine knows no programs"),
    "image": never("the engine answers in text only"),
}

_ANTHROPIC_INERT: Fields = {
    "metadata": None,
    "service_tier": None,
    "cache_control": None,
    "diagnostics": None,
    "inference_geo": None,
    "speed": None,
    "user_profile_id": None,
    "workspace_id": None,
    "betas": None,
}

_ANTHROPIC_PROMPT: Fields = {
    "model": None,
    "messages": messages,
    "system": content,
    "thinking": an_object,
    "output_config": json_format,
    "tools": tools("custom", otherwise="is a tool of Anthropic's own servers; send your own without a type"),
    "tool_choice": an_object,
    "chat_template_kwargs": template_arguments,
    "mcp_servers": never("the engine calls no servers"),
    "container": never("the engine runs no containers"),
    "context_management": never("the engine does not shorten conversations"),
    "output_format": never("use 'output_config'"),
}

MESSAGES: Fields = {
    **_OURS,
    **_ANTHROPIC_INERT,
    **_ANTHROPIC_PROMPT,
    "max_tokens": integer(1, MAX_TOKENS),
    "stop_sequences": strings(most=64, most_chars=4096),
    "stream": flag,
    "temperature": None,
    "top_k": integer(-1, MAX_TOKENS),
    "top_p": None,
}

COUNT_TOKENS: Fields = {**_ANTHROPIC_INERT, **_ANTHROPIC_PROMPT}

TOKENIZE: Fields = {
    **_TEMPLATE,
    "model": None,
    "prompt": text,
    "messages": messages,
    "tools": tools("function", otherwise="is none that the engine knows here; 'function' is"),
    "add_special_tokens": flag,
    "return_token_strs": flag,
    "chat_template": never("a template is a program, which the engine would run for a client"),
    "mm_processor_kwargs": never("it changes how much memory media take"),
    "media_io_kwargs": never("it changes how media are loaded"),
}

DETOKENIZE: Fields = {"model": None, "tokens": items(2**20)}


def check_fields(body: dict[str, Any], fields: Fields) -> None:
    """Check every field of a body. Refused fields that are null are taken out: null means not given.

    Raises:
        InvalidRequest: a field is refused or unknown, or its value is wrong; the message says why.
    """
    empty = []
    for name, value in body.items():
        try:
            check = fields[name]
        except KeyError:
            raise _unknown(name, fields) from None
        if check is None:
            continue
        if value is None:
            empty.append(name)
            continue
        try:
            check(value)
        except Refused as refused:
            raise _refused(name, refused) from None
    for name in empty:
        del body[name]


def check_sequences(body: Mapping[str, Any]) -> None:
    """Check what one completions request asks for altogether.

    Raises:
        InvalidRequest: it is too much, or it would stop the engine.
    """
    prompt = body.get("prompt")
    # A list of numbers is one prompt, of tokens.
    several = isinstance(prompt, list) and bool(prompt) and not isinstance(prompt[0], int)
    if several and len(prompt or ()) * body.get("n", 1) > MAX_SEQUENCES:
        raise InvalidRequest(
            f"'prompt' and 'n' together ask for more than {MAX_SEQUENCES} answers", param="prompt"
        )
    # Zero log-probabilities are log-probabilities too: only null and absence are none.
    if body.get("echo") and body.get("logprobs") is not None:
        raise InvalidRequest(
            f"'echo' can't be set together with 'logprobs': {_PROMPT_LOGPROBS}",
            code="unsupported_parameter",
            param="echo",
        )


def _refused(name: str, refused: Refused) -> InvalidRequest:
    if refused.supported:
        return InvalidRequest(f"{name!r} {refused.reason}", code="invalid_value", param=name)
    return InvalidRequest(
        f"{name!r} can't be set here: {refused.reason}", code="unsupported_parameter", param=name
    )


def _unknown(name: str, fields: Fields) -> InvalidRequest:
    shown = name[:64]
    close = difflib.get_close_matches(shown, fields, n=1, cutoff=0.7)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return InvalidRequest(f"unknown parameter {shown!r}{hint}", code="unknown_parameter", param=shown)
