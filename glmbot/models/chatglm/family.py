"""The ChatGLM generations as one family: their registration with Transformers, and which folder is which."""

from __future__ import annotations

import logging
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer

from glmbot.errors import ModelFileError
from glmbot.models.chat_format import TemplateChatFormat
from glmbot.models.chatglm import chat_format as v1
from glmbot.models.chatglm.configuration import ChatGLMConfig
from glmbot.models.chatglm.model import ChatGLMForCausalLM
from glmbot.models.chatglm.tokenizer import ChatGLMTokenizer
from glmbot.models.chatglm2 import chat_format as v2
from glmbot.models.chatglm2.configuration import ChatGLM2Config
from glmbot.models.chatglm2.model import ChatGLM2ForCausalLM
from glmbot.models.chatglm2.tokenizer import ChatGLM2Tokenizer
from glmbot.models.family import FamilyTokenizer, read_json, token_numbers
from glmbot.models.tiktoken_file import is_tiktoken, read_tiktoken

__all__ = ["CHAT_FORMATS", "open_tokenizer", "register_chatglm", "settle_generation"]

_log = logging.getLogger(__name__)

CHAT_FORMATS = ("chatglm2", "chatglm3")
_SECOND, _THIRD = CHAT_FORMATS
# What ChatGLM3's published files have and ChatGLM2's have not, their code included, which is read and never run.
_TRACES = ("<|assistant|>", "build_single_message")
_MOST_TEXT = 1 << 20


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


def settle_generation(folder: Path, config: Any, chat_format: str = "auto") -> None:
    """ChatGLM2 and ChatGLM3 have one layout and configuration, and differ in their format and, where they are made
    for long contexts, in their positions. `chat_format`: one of CHAT_FORMATS, or "auto": what the folder says."""
    if isinstance(config, ChatGLM2Config):
        third = _is_third(folder) if chat_format == "auto" else chat_format == _THIRD
        config.chat_format = _THIRD if third else _SECOND


def open_tokenizer(folder: Path, config: Any, *, thinks: bool = True) -> FamilyTokenizer | None:
    """The tokenizer and chat format of a folder of this family, or None for any other model. thinks: see
    `registry.load`.

    Raises ModelFileError when the tokenizer is missing or belongs to another model.
    """
    if isinstance(config, ChatGLMConfig):
        return _first_generation(folder, config)
    if isinstance(config, ChatGLM2Config):
        return _later_generation(folder, config, thinks)
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
        token_numbers(config.eos_token_id, folder / "config.json"),
        dict(v1.GENERATION_DEFAULTS),
    )


def _later_generation(folder: Path, config: ChatGLM2Config, thinks: bool) -> FamilyTokenizer:
    file = _vocabulary(folder, "tokenizer.model")
    ends = token_numbers(config.eos_token_id, folder / "config.json")
    if is_tiktoken(file):
        # GLM-4, whose layout is ChatGLM3's.
        words = read_tiktoken(file)
        _check_size(file, len(words), config.padded_vocab_size)
        return FamilyTokenizer(TemplateChatFormat(words, thinks=thinks), ends, {})
    tokenizer = ChatGLM2Tokenizer(str(file))
    third = config.chat_format == _THIRD
    # ChatGLM2's own tokenizer ends before the role tokens, and its model has rows to spare.
    _check_size(file, tokenizer.vocab_size, config.padded_vocab_size)
    kind = v2.ChatGLM3ChatFormat if third else v2.ChatGLM2ChatFormat
    return FamilyTokenizer(
        kind(tokenizer),
        ends | {tokenizer.control[piece] for piece in kind.stop_pieces},
        dict(v2.GENERATION_DEFAULTS),
    )


def _is_third(folder: Path) -> bool:
    name = _plain(Path(os.path.realpath(folder)).name)
    if _THIRD in name or _SECOND in name or "codegeex2" in name:
        return _THIRD in name
    files = [folder / name for name in ("config.json", "tokenizer_config.json", "special_tokens_map.json")]
    texts = [_beginning(file) for file in (*files, *sorted(folder.glob("*_chatglm.py")))]
    if any(_THIRD in _plain(text) or trace in text for text in texts for trace in _TRACES):
        return True
    if not any(_SECOND in _plain(text) for text in texts):
        _log.warning(
            "%s: nothing here says whether this is a ChatGLM2 or a ChatGLM3, and it is asked as a ChatGLM2; if"
            ' that is wrong, set [model] chat_format = "chatglm3"',
            folder.name,
        )
    return False


def _plain(text: str) -> str:
    return text.lower().replace("-", "").replace("_", "")


def _beginning(file: Path) -> str:
    if not file.is_file():
        return ""
    with file.open("rb") as opened:
        return opened.read(_MOST_TEXT).decode("utf-8", "replace")


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
