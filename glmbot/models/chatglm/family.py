"""The ChatGLM generations as one family: their registration with Transformers, and which folder is which."""

from __future__ import annotations

import logging
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer

from glmbot.errors import ModelFileError
from glmbot.models.chatglm import chat_format as v1
from glmbot.models.chatglm.configuration import ChatGLMConfig
from glmbot.models.chatglm.model import ChatGLMForCausalLM
from glmbot.models.chatglm.tokenizer import ChatGLMTokenizer
from glmbot.models.chatglm2 import chat_format as v2
from glmbot.models.chatglm2.configuration import ChatGLM2Config
from glmbot.models.chatglm2.model import ChatGLM2ForCausalLM
from glmbot.models.chatglm2.tokenizer import ChatGLM2Tokenizer
from glmbot.models.family import FamilyTokenizer, read_json

__all__ = ["open_tokenizer", "register_chatglm"]

_log = logging.getLogger(__name__)

_THIRD = "chatglm3"


@lru_cache(maxsize=1)
def register_chatglm() -> None:
    """Make the family known to AutoConfig, AutoModel, AutoModelForCausalLM and AutoTokenizer."""
    AutoConfig.register("chatglm", ChatGLMConfig)
    for config, model, tokenizer in (
        (ChatGLMConfig, ChatGLMForCausalLM, ChatGLMTokenizer),
        (ChatGLM2Config, ChatGLM2ForCausalLM, ChatGLM2Tokenizer),
    ):
        # Published folders name their one class for all purposes, so both doors lead to it.
        AutoModel.register(config, model)
        AutoModelForCausalLM.register(config, model)
        AutoTokenizer.register(config, slow_tokenizer_class=tokenizer)


def open_tokenizer(folder: Path, config: Any) -> FamilyTokenizer | None:
    """The tokenizer and chat format of a folder of this family, or None for any other model.

    Raises ModelFileError when the tokenizer is missing or belongs to another model.
    """
    if isinstance(config, ChatGLMConfig):
        return _first_generation(folder, config)
    if isinstance(config, ChatGLM2Config):
        return _later_generation(folder, config)
    return None


def _first_generation(folder: Path, config: ChatGLMConfig) -> FamilyTokenizer:
    file = _vocabulary(folder, "ice_text.model")
    settings = read_json(folder / "tokenizer_config.json")
    images = settings.get("num_image_tokens", 20000)
    tokenizer = ChatGLMTokenizer(str(file), num_image_tokens=int(images), **_text_settings(settings))
    wanted = {
        "[MASK]": config.mask_token_id,
        "[gMASK]": config.gmask_token_id,
        "<sop>": config.bos_token_id,
        "<eop>": config.eos_token_id,
    }
    for piece, token in wanted.items():
        if tokenizer.id_of(piece) != token:
            raise ModelFileError(
                f"{file}: has {piece} at {tokenizer.id_of(piece)}, and config.json says {token};"
                " tokenizer and model do not belong together (num_image_tokens in tokenizer_config.json"
                f" is {images})"
            )
    _check_size(file, tokenizer.vocab_size, config.vocab_size)
    return FamilyTokenizer(
        v1.ChatGLMChatFormat(tokenizer),
        frozenset({cast(int, config.eos_token_id)}),
        dict(v1.GENERATION_DEFAULTS),
    )


def _later_generation(folder: Path, config: ChatGLM2Config) -> FamilyTokenizer:
    file = _vocabulary(folder, "tokenizer.model")
    tokenizer = ChatGLM2Tokenizer(str(file))
    third = _is_third(folder)
    # ChatGLM2's own tokenizer ends before the role tokens, and its model has rows to spare.
    _check_size(file, tokenizer.vocab_size, config.padded_vocab_size)
    kind = v2.ChatGLM3ChatFormat if third else v2.ChatGLM2ChatFormat
    _log.info("%s: chat format of %s", folder.name, "ChatGLM3" if third else "ChatGLM2")
    ends = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
    return FamilyTokenizer(
        kind(tokenizer),
        frozenset({*cast(list[int], ends), *(tokenizer.control[piece] for piece in kind.stop_pieces)}),
        dict(v2.GENERATION_DEFAULTS),
    )


def _is_third(folder: Path) -> bool:
    """ChatGLM2 and ChatGLM3 share layout and configuration; only names and role tokens tell them apart."""
    if _THIRD in folder.resolve().name.lower().replace("-", "").replace("_", ""):
        return True
    for name in ("config.json", "tokenizer_config.json", "special_tokens_map.json"):
        file = folder / name
        text = file.read_text("utf-8", "replace") if file.is_file() else ""
        if _THIRD in text.lower() or "<|assistant|>" in text:
            return True
    return False


def _vocabulary(folder: Path, name: str) -> Path:
    file = folder / name
    if not file.is_file():
        raise ModelFileError(f"{file}: missing; the model's tokenizer is read from it")
    return file


def _check_size(file: Path, tokens: int, rows: int) -> None:
    if tokens > rows:
        raise ModelFileError(
            f"{file}: has {tokens} tokens and the model {rows}; tokenizer and model do not belong together"
        )


def _text_settings(settings: dict[str, Any]) -> dict[str, Any]:
    return {name: bool(settings[name]) for name in ("do_lower_case", "remove_space") if name in settings}
