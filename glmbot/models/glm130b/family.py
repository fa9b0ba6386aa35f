"""GLM-130B's registration with Transformers, and what a folder of it says."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer

from glmbot.errors import ModelFileError
from glmbot.models.family import FamilyTokenizer, read_json
from glmbot.models.glm130b.chat_format import GENERATION_DEFAULTS, GLM130BChatFormat
from glmbot.models.glm130b.configuration import GLM130BConfig
from glmbot.models.glm130b.model import GLM130BForCausalLM
from glmbot.models.glm130b.tokenizer import GLM130BTokenizer

__all__ = ["open_tokenizer", "register_glm130b"]


@lru_cache(maxsize=1)
def register_glm130b() -> None:
    """Make the model known to AutoConfig, AutoModel, AutoModelForCausalLM and AutoTokenizer."""
    AutoConfig.register("glm130b", GLM130BConfig)
    AutoModel.register(GLM130BConfig, GLM130BForCausalLM)
    AutoModelForCausalLM.register(GLM130BConfig, GLM130BForCausalLM)
    AutoTokenizer.register(GLM130BConfig, slow_tokenizer_class=GLM130BTokenizer)


def open_tokenizer(folder: Path, config: Any) -> FamilyTokenizer | None:
    """The tokenizer and chat format of a folder of GLM-130B, or None for any other model.

    Raises ModelFileError when the tokenizer is missing or belongs to another model.
    """
    if not isinstance(config, GLM130BConfig):
        return None
    file = folder / "ice_text.model"
    if not file.is_file():
        raise ModelFileError(
            f"{file}: missing; it is icetk's, and is published apart from the weights (in the package icetk, and"
            " as ice_text.model of ChatGLM-6B's first revision)"
        )
    images = int(read_json(folder / "tokenizer_config.json").get("num_image_tokens", 20000))
    tokenizer = GLM130BTokenizer(str(file), num_image_tokens=images, first_control_token=config.mask_token_id)
    control, texts = tokenizer.control, images + tokenizer.text.size
    wanted = {
        "[gMASK]": config.gmask_token_id,
        "[sMASK]": config.smask_token_id,
        "sop": config.sop_token_id,
        "eop": config.eop_token_id,
        "</s>": config.eos_token_id,
    }
    for piece, token in wanted.items():
        if tokenizer.id_of(piece) != token:
            raise ModelFileError(
                f"{file}: has {piece} at {tokenizer.id_of(piece)}, and the configuration says {token}; tokenizer"
                f" and model do not belong together (num_image_tokens in tokenizer_config.json is {images})"
            )
    if texts > config.mask_token_id or max(control.values()) >= config.vocab_size:
        raise ModelFileError(
            f"{file}: has {texts} tokens, and the model's control tokens are at {config.mask_token_id} of"
            f" {config.vocab_size}; tokenizer and model do not belong together"
        )
    return FamilyTokenizer(
        GLM130BChatFormat(tokenizer, int(wanted["</s>"])),
        frozenset({config.eop_token_id, wanted["</s>"]}),
        dict(GENERATION_DEFAULTS),
    )
