"""How to talk with a model: its tokenizer and chat format, what ends its answers, and how it is to be sampled."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from transformers import AutoTokenizer, GenerationConfig, PreTrainedTokenizerBase

from glmbot.errors import ModelFileError
from glmbot.models.chat_format import TemplateChatFormat
from glmbot.models.chatglm.family import open_tokenizer as open_chatglm_tokenizer
from glmbot.models.family import FamilyTokenizer, first_line, token_numbers
from glmbot.models.gguf.header import GgufFile
from glmbot.models.gguf.model import gguf_talk
from glmbot.models.glm.family import open_tokenizer as open_glm_tokenizer
from glmbot.models.glm130b.family import open_tokenizer as open_glm130b_tokenizer
from glmbot.models.text_growth import refuse_growing_tokenizer

__all__ = ["read_talk"]


def read_talk(folder: Path, config: Any, thinks: bool, gguf: GgufFile | None) -> FamilyTokenizer:
    """How to talk with the model of `config`, in `folder` or `gguf`. thinks: see `registry.load`.

    Raises ModelFileError.
    """
    if gguf is not None:
        talk, stops = gguf_talk(gguf, int(config.get_text_config().vocab_size), thinks=thinks)
        return FamilyTokenizer(talk, stops, _generation_defaults(folder))
    own = (
        open_chatglm_tokenizer(folder, config, thinks=thinks)
        or open_glm_tokenizer(folder, config)
        or open_glm130b_tokenizer(folder, config)
    )
    defaults = _generation_defaults(folder)
    if own is not None:
        return replace(own, generation_defaults=own.generation_defaults | defaults)
    tokenizer = _read_tokenizer(folder, int(config.get_text_config().vocab_size))
    talk = TemplateChatFormat(tokenizer, thinks=thinks)
    return FamilyTokenizer(talk, _stop_tokens(folder, defaults, config, tokenizer), defaults)


def _read_tokenizer(folder: Path, vocabulary: int) -> PreTrainedTokenizerBase:
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:
        raise ModelFileError(f"{folder}: the tokenizer can't be read: {first_line(error)}") from error
    if len(tokenizer) > vocabulary:
        raise ModelFileError(
            f"{folder}: the tokenizer has {len(tokenizer)} tokens and the model {vocabulary}; "
            "they do not belong together"
        )
    if (backend := getattr(tokenizer, "backend_tokenizer", None)) is not None:
        refuse_growing_tokenizer(folder, backend)
    return tokenizer


def _generation_defaults(folder: Path) -> dict[str, Any]:
    if not (folder / "generation_config.json").is_file():
        return {}
    try:
        config: Any = GenerationConfig.from_pretrained(folder, local_files_only=True)
    except Exception as error:
        raise ModelFileError(f"{folder / 'generation_config.json'}: {first_line(error)}") from error
    return cast(dict[str, Any], config.to_dict())


def _stop_tokens(folder: Path, defaults: dict[str, Any], config: Any, tokenizer: Any) -> frozenset[int]:
    return (
        token_numbers(defaults.get("eos_token_id"), folder / "generation_config.json")
        | token_numbers(getattr(config, "eos_token_id", None), folder / "config.json")
        | token_numbers(tokenizer.eos_token_id, folder / "tokenizer_config.json")
    )
