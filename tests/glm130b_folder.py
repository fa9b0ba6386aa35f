"""Tiny GLM-130B models in folders laid out exactly as the published one is: a file for each rank."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import sentencepiece
import torch
from torch import Tensor

from chatglm_folder import BILINGUAL
from glmbot.models.glm130b.configuration import GLM130BConfig
from glmbot.models.glm130b.model import GLM130BForCausalLM
from glmbot.models.glm130b.ranks import RANK_FILE, part_of
from glmbot.models.glm130b.tokenizer import GLM130BTokenizer
from glmbot.quantization.formats import pack_nibbles, quantize_rows

IMAGES = 100


def sizes(vocabulary: int) -> dict[str, Any]:
    first = vocabulary - 20
    names = ("mask", "gmask", "smask", "eod", "sop", "eop", "enc", "dblock")
    return {
        "vocab_size": vocabulary,
        "hidden_size": 64,
        "num_layers": 2,
        "num_attention_heads": 4,
        "inner_hidden_size": 128,
        "eos_token_id": IMAGES + 2,
        **{f"{name}_token_id": first + place for place, name in enumerate(names)},
    }


def _write_tokenizer(folder: Path) -> int:
    """icetk's layout: no control tokens but SentencePiece's own, and `<n>`. Returns a size of vocabulary for it."""
    model = BytesIO()
    sentencepiece.SentencePieceTrainer.Train(  # pyright: ignore[reportAttributeAccessIssue]
        sentence_iterator=iter(BILINGUAL * 4), model_writer=model, model_type="bpe", byte_fallback=True,
        character_coverage=1.0, hard_vocab_limit=False, minloglevel=2, user_defined_symbols=["<n>"],
        pad_id=3, vocab_size=700,
    )  # fmt: skip
    (folder / "ice_text.model").write_bytes(model.getvalue())
    (folder / "tokenizer_config.json").write_text(json.dumps({"num_image_tokens": IMAGES}), "utf-8")
    return IMAGES + GLM130BTokenizer(str(folder / "ice_text.model"), IMAGES).text.size + 40


def _weights(config: dict[str, Any]) -> dict[str, Tensor]:
    torch.manual_seed(1)
    module = GLM130BForCausalLM(GLM130BConfig(**config))
    made = {name: tensor for name, tensor in module.state_dict().items() if "inv_freq" not in name}
    for name, tensor in made.items():
        std = 1.2 * tensor.shape[-1] ** -0.5 if tensor.dim() > 1 else 0.1
        torch.nn.init.normal_(tensor, std=std)
        if "norm.weight" in name or "layernorm.weight" in name:
            tensor += 1
    words = made["transformer.word_embeddings.weight"]
    # Greedy answers never end by themselves, and are words.
    words[: IMAGES + 260] *= 0.1
    words[config["mask_token_id"] :] *= 0.1
    return {name: tensor.half() for name, tensor in made.items()}


def write_glm130b_folder(
    folder: Path, ranks: int = 2, bits: int | None = None, **changes: Any
) -> dict[str, Tensor]:
    config = sizes(_write_tokenizer(folder)) | changes
    whole = _weights(config)
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    (folder / "latest").write_text("300", "ascii")
    (folder / "300").mkdir()
    for rank in range(ranks):
        parts: dict[str, Tensor] = {}
        for name, tensor in whole.items():
            part = part_of(name, tensor, rank, ranks).clone()
            if bits and ".layers." in name and tensor.dim() == 2:
                codes, parts[f"{name}_scale"] = quantize_rows(part, bits)
                part = pack_nibbles(codes) if bits == 4 else codes
            parts[name] = part
        parts["transformer.layers.0.attention.rotary_emb.inv_freq"] = torch.ones(8).half()
        torch.save(
            {"module": parts, "optimizer": None, "mp_world_size": ranks},
            folder / "300" / RANK_FILE.format(rank),
        )
    return whole
