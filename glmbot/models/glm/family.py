"""GLM's registration with Transformers, and what a folder of it says."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM

from glmbot.errors import ModelFileError
from glmbot.models.family import FamilyTokenizer
from glmbot.models.glm.chat_format import GENERATION_DEFAULTS, GLMChatFormat
from glmbot.models.glm.configuration import BlankInfillingConfig
from glmbot.models.glm.model import GLMForBlankInfilling
from glmbot.models.glm.tokenizer import GLMTokenizer
from glmbot.models.positions import BlockPositions

__all__ = ["open_tokenizer", "register_glm"]


@lru_cache(maxsize=1)
def register_glm() -> None:
    AutoModelForCausalLM.register(BlankInfillingConfig, GLMForBlankInfilling)


def open_tokenizer(folder: Path, config: Any) -> FamilyTokenizer | None:
    """The tokenizer and chat format of a folder of GLM, or None for any other model.

    Raises ModelFileError when the tokenizer is missing or belongs to another model.
    """
    if not isinstance(config, BlankInfillingConfig):
        return None
    tokenizer = GLMTokenizer(folder)
    if tokenizer.size > config.vocab_size:
        raise ModelFileError(
            f"{folder}: the tokenizer has {tokenizer.size} tokens and the model {config.vocab_size};"
            " they do not belong together"
        )
    control = tokenizer.control
    masks = tuple(control[piece] for piece in ("[MASK]", "[gMASK]") if piece in control)
    return FamilyTokenizer(
        GLMChatFormat(tokenizer),
        frozenset(control[piece] for piece in GLMChatFormat.stop_pieces),
        dict(GENERATION_DEFAULTS),
        BlockPositions(control["<|startofpiece|>"], masks),
    )
