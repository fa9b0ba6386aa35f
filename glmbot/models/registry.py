"""From a model folder to a module, a chat format and a checkpoint to read its weights from.

Architectures come from Transformers, without running code from the folder. The module starts without
weights (on the meta device); `glmbot.engine.precision` fills it at the wanted precision.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import init_empty_weights
from torch import nn
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedConfig,
)

from glmbot.errors import ModelFileError
from glmbot.models.chat_format import TemplateChatFormat
from glmbot.models.checkpoint import Checkpoint

__all__ = ["LoadedModel", "ModelShape", "load"]


@dataclass(frozen=True, slots=True)
class ModelShape:
    """What the KV cache must know."""

    layers: int
    kv_heads: int
    head_dim: int
    positions: int
    vocabulary: int


@dataclass(frozen=True, slots=True)
class LoadedModel:
    name: str
    module: nn.Module
    checkpoint: Checkpoint
    chat_format: TemplateChatFormat
    shape: ModelShape
    stop_tokens: frozenset[int]
    generation_defaults: dict[str, Any]


def load(folder: Path, attention: str) -> LoadedModel:
    """Open the model in `folder`, with `attention` as its Transformers attention implementation.

    Raises ModelFileError that names the file and what is wrong with it.
    """
    config = _read_config(folder)
    checkpoint = Checkpoint(folder)
    try:
        # Buffers (rotary frequencies) are computed, not stored, so they are made for real.
        with init_empty_weights(include_buffers=False):
            module: Any = AutoModelForCausalLM.from_config(
                config, attn_implementation=attention, dtype=torch.float32, trust_remote_code=False
            )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelFileError(f"{folder / 'config.json'}: {_first_line(error)}") from error
    if not getattr(module, "_supports_attention_backend", False):
        raise ModelFileError(
            f"{folder / 'config.json'}: {type(module).__name__} brings its own attention, "
            "which can't share one batch and KV cache; choose a model whose attention can be replaced"
        )
    module.eval()
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:
        raise ModelFileError(f"{folder}: the tokenizer can't be read: {_first_line(error)}") from error
    shape = _shape(config)
    if len(tokenizer) > shape.vocabulary:
        raise ModelFileError(
            f"{folder}: the tokenizer has {len(tokenizer)} tokens and the model {shape.vocabulary}; "
            "they do not belong together"
        )
    defaults = _generation_defaults(folder)
    return LoadedModel(
        name=folder.resolve().name,
        module=cast(nn.Module, module),
        checkpoint=checkpoint,
        chat_format=TemplateChatFormat(tokenizer),
        shape=shape,
        stop_tokens=_stop_tokens(defaults, config, tokenizer),
        generation_defaults=defaults,
    )


def _read_config(folder: Path) -> PreTrainedConfig:
    path = folder / "config.json"
    if not folder.is_dir():
        raise ModelFileError(f"{folder}: there is no such model folder; `glmbot pull` gets the demo model")
    if not path.is_file():
        raise ModelFileError(f"{path}: missing; this is not a Transformers model folder")
    try:
        fields = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ModelFileError(f"{path}: not readable as JSON: {error}") from error
    if not isinstance(fields, dict) or "model_type" not in fields:
        raise ModelFileError(f'{path}: "model_type" is missing')
    if fields["model_type"] not in CONFIG_MAPPING:
        raise ModelFileError(
            f"{path}: the architecture {fields['model_type']!r} is not among those that Transformers and glmbot"
            " bring themselves, and code from a model folder is never run"
        )
    try:
        return cast(
            PreTrainedConfig,
            AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True),
        )
    except Exception as error:
        raise ModelFileError(f"{path}: {_first_line(error)}") from error


def _shape(config: PreTrainedConfig) -> ModelShape:
    fields: Any = config.get_text_config()
    heads = int(fields.num_attention_heads)
    return ModelShape(
        layers=int(fields.num_hidden_layers),
        kv_heads=int(getattr(fields, "num_key_value_heads", None) or heads),
        head_dim=int(getattr(fields, "head_dim", None) or fields.hidden_size // heads),
        positions=int(getattr(fields, "max_position_embeddings", 2048)),
        vocabulary=int(fields.vocab_size),
    )


def _generation_defaults(folder: Path) -> dict[str, Any]:
    if not (folder / "generation_config.json").is_file():
        return {}
    try:
        config: Any = GenerationConfig.from_pretrained(folder, local_files_only=True)
    except Exception as error:
        raise ModelFileError(f"{folder / 'generation_config.json'}: {_first_line(error)}") from error
    return cast(dict[str, Any], config.to_dict())


def _stop_tokens(defaults: dict[str, Any], config: Any, tokenizer: Any) -> frozenset[int]:
    stops: set[int] = set()
    for source in (
        defaults.get("eos_token_id"),
        getattr(config, "eos_token_id", None),
        tokenizer.eos_token_id,
    ):
        if isinstance(source, int):
            stops.add(source)
        elif isinstance(source, list):
            stops.update(int(token) for token in cast(list[Any], source))
    return frozenset(stops)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
