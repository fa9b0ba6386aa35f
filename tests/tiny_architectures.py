"""Tiny random models of any of Transformers' architectures, and what both engines say: its own and ours."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from glmbot.engine.attention import ATTENTION_NAME, register_attention
from glmbot.engine.base import Precision, Sampling
from glmbot.engine.placement import Placement
from glmbot.engine.runner import ModelRunner
from glmbot.engine.scheduler import Scheduler
from glmbot.engine.scheduler import Sequence as Running
from glmbot.models.registry import LoadedModel, load
from tiny_model import write_tiny_tokenizer

__all__ = ["KINDS", "by_the_engine", "by_transformers", "questions", "runner_of", "write_architecture"]

# All architectures that continue text.
KINDS = sorted(set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES) & set(CONFIG_MAPPING))

# Sizes by the names that configurations have for them; each takes those that it knows.
_SMALL: dict[str, Any] = {
    "vocab_size": 512, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 1024,
    "num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_shared_experts": 1,
    "moe_intermediate_size": 32, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1, "moe_num_experts": 4,
    "moe_k": 2, "moe_num_shared_experts": 1, "shared_expert_intermediate_size": 32, "shared_intermediate_size": 96,
    "kv_lora_rank": 16, "q_lora_rank": 24, "qk_rope_head_dim": 8, "qk_nope_head_dim": 16, "v_head_dim": 16,
    "mamba_n_heads": 8, "mamba_d_head": 16, "mamba_d_state": 16, "mamba_n_groups": 1, "mamba_chunk_size": 16,
    "mamba_expand": 2, "lru_width": 64, "attention_window_size": 32, "conv_L_cache": 3, "block_ff_dim": 96,
    "block_multiple_of": 16, "sliding_window": 32, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    "ffn_dim": 96, "decoder_ffn_dim": 96, "encoder_ffn_dim": 96, "decoder_layers": 4, "encoder_layers": 2,
    "decoder_attention_heads": 4, "encoder_attention_heads": 4, "word_embed_proj_dim": 64, "d_ff": 96, "d_kv": 16,
    "rotary_dim": 8, "intermediate_size_mlp": 96, "attention_chunk_size": 32, "expert_layer_period": 2,
    "attn_layer_period": 2, "mamba_num_heads": 8, "mamba_head_dim": 16, "n_mamba_heads": 2, "ssm_state_size": 16,
    "state_size": 16, "time_step_rank": 8, "linear_num_value_heads": 4, "linear_num_key_heads": 2,
    "linear_key_head_dim": 16, "linear_value_head_dim": 16, "hidden_size_per_layer_input": 16,
    "vocab_size_per_layer_input": 512, "num_kv_shared_layers": 0, "laurel_rank": 8, "altup_num_inputs": 2,
    "is_decoder": True, "index_topk": 16, "index_n_heads": 2, "index_head_dim": 16,
}  # fmt: skip

# Of those whose published models have layers that their configuration's defaults lack, or whose sizes must fit.
_MORE: dict[str, dict[str, Any]] = {
    "lfm2": {"layer_types": ["conv", "full_attention"] * 2},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2},
    "granitemoehybrid": {"layer_types": ["mamba", "attention"] * 2},
    "bamba": {"attn_layer_indices": [1, 3]},
    "jamba": {"attn_layer_offset": 1, "expert_layer_offset": 1},
    "dots3_note": {"num_key_value_heads": 4},
    "dots3_note_text": {"num_key_value_heads": 4},
    "falcon_h1": {"mamba_d_ssm": 128},
    "gpt_neo": {"attention_types": [[["global", "local"], 2]], "window_size": 32},
    "mamba2": {"expand": 2, "num_heads": 8, "head_dim": 16},
    "xlnet": {"d_head": 16},
    "xmod": {"default_language": "en_XX"},
    "zamba2": {"layers_block_type": ["mamba", "hybrid"] * 2, "hybrid_layer_ids": [1, 3], "num_mem_blocks": 1},
    "zaya": {"num_experts_per_tok": 1},
    "dbrx": {
        "attn_config": {"rope_theta": 10000.0, "kv_n_heads": 2, "clip_qkv": 8.0},
        "ffn_config": {"ffn_hidden_size": 64, "moe_num_experts": 4, "moe_top_k": 2, "hidden_size": 64},
    },
}


def write_architecture(kind: str, folder: Path, **fields: Any) -> Path:
    """In Transformers' published layout. Each tensor is random, norms and buffers included."""
    config = _small_config(CONFIG_MAPPING[kind], fields)
    torch.manual_seed(1)
    model: Any = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    stored = set(model.state_dict())
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.copy_(torch.randn(parameter.shape) * 1.2 * parameter.shape[-1] ** -0.5)
            else:
                parameter.add_(torch.randn(parameter.shape) * 0.1)
        for name, buffer in model.named_buffers():
            if name in stored and buffer.is_floating_point():
                buffer.add_(torch.randn(buffer.shape) * 0.3)
    write_tiny_tokenizer(folder)
    model.eval().save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    return folder


def _small_config(described: Any, fields: dict[str, Any]) -> Any:
    """A configuration of this class with sizes as small as they go; models of several parts have one for each."""
    default = described()
    parts: dict[str, Any] = {
        name: _small_config(type(part), {})
        for name in described.sub_configs
        if (part := getattr(default, name, None)) is not None
    }
    known = described(**parts).to_dict()
    names = {name: described.attribute_map.get(name, name) for name in _SMALL}
    small = {
        name: _SMALL[name] for name, stored in names.items() if known.get(stored) is not None or name in known
    }
    # Each kind of layer that its default has.
    kinds = list(dict.fromkeys(known.get("layer_types") or ()))
    if "qk_rope_head_dim" in known:
        # Multi-head latent attention rotates a part of each head.
        small |= {
            "head_dim": _SMALL["qk_rope_head_dim"],
            "num_key_value_heads": _SMALL["num_attention_heads"],
        }
    if len(kinds) > 1:
        small["layer_types"] = [kinds[layer % len(kinds)] for layer in range(_SMALL["num_hidden_layers"])]
    return described(**{**small, **parts, **_MORE.get(described.model_type, {}), **fields})


def questions(*lengths: int) -> list[list[int]]:
    dice = torch.Generator().manual_seed(3)
    return [torch.randint(3, 430, (length,), generator=dice).tolist() for length in lengths]


def by_transformers(folder: Path, asked: Sequence[Sequence[int]], new: int = 12) -> list[list[int]]:
    """Greedy tokens of each prompt alone."""
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0
    said: list[list[int]] = []
    for prompt in asked:
        ids = torch.tensor([prompt])
        with torch.no_grad():
            out = model.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=new, do_sample=False
            )
        said.append(out[0, len(prompt) :].tolist())
    return said


def runner_of(folder: Path, precision: Precision = Precision.FP32) -> tuple[LoadedModel, ModelRunner]:
    """Raises ModelFileError."""
    register_attention()
    model = load(folder, ATTENTION_NAME)
    place = Placement(torch.device("cpu"))
    return model, ModelRunner(model, placement=place, precision=precision, cache_tokens=2048)


def by_the_engine(
    folder: Path,
    asked: Sequence[Sequence[int]],
    new: int = 12,
    *,
    prefill: int = 16,
    precision: Precision = Precision.FP32,
) -> list[list[int]]:
    """Greedy tokens of all prompts together, in chunks. Raises ModelFileError."""
    model, runner = runner_of(folder, precision)
    scheduler = Scheduler(runner.allocator, max_batch=8, prefill_tokens=prefill)
    running = [
        Running(
            id=number,
            user=str(number),
            prompt_length=len(prompt),
            tokens=list(prompt),
            sampling=Sampling(max_tokens=new, temperature=0),
            arrival=float(number),
            regime=model.positions.regime(list(prompt)),
            anew_after=model.positions.anew_after(list(prompt)),
        )
        for number, prompt in enumerate(asked)
    ]
    for sequence in running:
        scheduler.add(sequence)
    while scheduler.running or scheduler.waiting:
        chunks = scheduler.schedule()
        for sequence in scheduler.running:
            if not sequence.started:
                runner.begin(sequence)
        logits = runner.step(chunks)
        row = 0
        for chunk in chunks:
            draws = chunk.draws
            chunk.sequence.computed += chunk.length
            if draws:
                chunk.sequence.tokens.append(int(logits[row].argmax()))
                row += 1
                if chunk.sequence.drawn == new:
                    scheduler.remove(chunk.sequence)
    return [sequence.tokens[sequence.prompt_length :] for sequence in running]
