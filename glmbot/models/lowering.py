"""From a model's modules to a program of native operations: which architectures can be lowered, and how.

A module is lowered only when its linear layers are native ones (on the CPU, where the kernels are). What is built
here is held against the module itself by the engine's probe before it serves anybody.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from glmbot.models.chatglm.model import ALPHA, ChatGLMForCausalLM
from glmbot.models.chatglm2.model import ChatGLM2ForCausalLM
from glmbot.models.glm.model import GLMForBlankInfilling
from glmbot.native.library import kernels
from glmbot.native.linear import NativeLinear
from glmbot.native.program import Buffer, Program, ProgramBuilder
from glmbot.native.weights import WeightKind

__all__ = ["LoweredModel", "lower"]

_Rotation = tuple[Tensor, Tensor]
_ROW_KINDS = {torch.bfloat16: WeightKind.ROWS_BFLOAT16, torch.float32: WeightKind.ROWS_FLOAT32}
# Those of Transformers' classes whose blocks are Llama's, give or take biases and norms of the heads.
_NEIGHBOURS = ("glm", "glm4")
"""Those whose rotary positions turn neighbouring columns."""
_LLAMA_LIKE = ("llama", "mistral", "qwen2", "qwen3", "glm", "glm4")


@dataclass(frozen=True, slots=True)
class LoweredModel:
    program: Program
    embed: Callable[[Tensor, Tensor], Tensor]
    """Token ids int64 [tokens] and positions int64 [rows, tokens] to hidden states [tokens, hidden]."""
    rotation: Callable[[Tensor], _Rotation] | None
    """Positions to cosines and sines float32 [tables, tokens, angles]."""


def lower(module: nn.Module) -> LoweredModel | None:
    """None when this architecture, or the form in which its weights are, has no native program."""
    library = kernels()
    if library is None:
        return None
    owner: Any = module
    try:
        if isinstance(module, ChatGLMForCausalLM):
            return _chatglm(owner, library)
        if isinstance(module, ChatGLM2ForCausalLM):
            return _chatglm2(owner, library)
        if isinstance(module, GLMForBlankInfilling):
            return _blank_infilling(owner, library)
        if getattr(owner.config, "model_type", "") in _LLAMA_LIKE:
            return _llama(owner, library)
    except (ValueError, _NotNativeError):
        return None
    return None


class _NotNativeError(Exception):
    """A layer is in a form that the kernels don't read."""


def _native(*layers: nn.Module) -> list[NativeLinear]:
    if not all(isinstance(layer, NativeLinear) for layer in layers):
        raise _NotNativeError
    return cast(list[NativeLinear], list(layers))


def _norm(
    builder: ProgramBuilder, src: Buffer, dst: Buffer, norm: Any, *, at: int = 0, pieces: int = 1
) -> None:
    centred = isinstance(norm, nn.LayerNorm)
    eps = norm.eps if centred or isinstance(norm, nn.RMSNorm) else norm.variance_epsilon
    bias = norm.bias if centred else None
    builder.norm(src, dst, norm.weight, eps or 0.0, bias=bias, centred=centred, at=at, pieces=pieces)


def _head(builder: ProgramBuilder, norm: Any, head: nn.Module) -> Buffer:
    """Norm and output head, for the rows that draw alone. A float head stays row by row, as it often is the table
    of embeddings too."""
    last = builder.buffer(builder.hidden.width)
    if isinstance(head, NativeLinear):
        layer = head
    else:
        weight: Tensor = cast(Any, head).weight
        if weight.dtype not in _ROW_KINDS or getattr(head, "bias", None) is not None:
            raise _NotNativeError
        rows, columns = weight.shape
        layer = NativeLinear(_ROW_KINDS[weight.dtype], rows, columns, weight.data)
    logits = builder.buffer(layer.out_features)
    builder.gather(builder.hidden, last)
    _norm(builder, last, last, norm)
    builder.linear(last, logits, [layer])
    return logits


# ---- Transformers' classes ------------------------------------------------------------------------------


def _llama(owner: Any, library: Any) -> LoweredModel:
    config, body = owner.config, owner.model
    first = body.layers[0]
    attention, heads, kv_heads = first.self_attn, config.num_attention_heads, config.num_key_value_heads
    head_dim = int(attention.head_dim)
    width, kv_width = heads * head_dim, kv_heads * head_dim
    if config.hidden_act != "silu":
        raise _NotNativeError
    neighbours = config.model_type in _NEIGHBOURS
    angles = int(body.rotary_emb.inv_freq.shape[0])
    fused = hasattr(first.mlp, "gate_up_proj")
    builder = ProgramBuilder(config.hidden_size)
    hidden = builder.hidden
    normed = builder.buffer(hidden.width)
    mixed, attended = builder.buffer(width + 2 * kv_width), builder.buffer(width)
    inner, product = builder.buffer(2 * config.intermediate_size), builder.buffer(config.intermediate_size)
    for number, layer in enumerate(body.layers):
        attention, mlp = layer.self_attn, layer.mlp
        _norm(builder, hidden, normed, layer.input_layernorm)
        builder.linear(normed, mixed, _native(attention.q_proj, attention.k_proj, attention.v_proj))
        if hasattr(attention, "q_norm"):
            _norm(builder, mixed, mixed, attention.q_norm, at=0, pieces=heads)
            _norm(builder, mixed, mixed, attention.k_norm, at=width, pieces=kv_heads)
        builder.rotate(
            mixed, 0, heads=heads + kv_heads, stride=head_dim, angles=angles, neighbours=neighbours
        )
        builder.attend(
            mixed, attended, layer=number, heads=heads, kv_heads=kv_heads, head_dim=head_dim,
            columns=(0, width, width + kv_width), strides=(head_dim, head_dim),
            scaling=float(attention.scaling), window=_window(config, attention, number),
        )  # fmt: skip
        _add(
            builder,
            attended,
            hidden,
            normed,
            attention.o_proj,
            getattr(layer, "post_self_attn_layernorm", None),
        )
        _norm(builder, hidden, normed, layer.post_attention_layernorm)
        builder.linear(
            normed, inner, _native(mlp.gate_up_proj) if fused else _native(mlp.gate_proj, mlp.up_proj)
        )
        builder.silu_product(inner, product, config.intermediate_size)
        _add(builder, product, hidden, normed, mlp.down_proj, getattr(layer, "post_mlp_layernorm", None))
    logits = _head(builder, body.norm, owner.lm_head)

    def rotation(positions: Tensor) -> _Rotation:
        cosines, sines = body.rotary_emb(torch.zeros(1), positions)
        return cosines[..., :angles].float().contiguous(), sines[..., :angles].float().contiguous()

    def embed(ids: Tensor, _positions: Tensor) -> Tensor:
        return body.embed_tokens(ids)

    return LoweredModel(builder.build(library, logits), embed, rotation)


def _window(config: Any, attention: Any, number: int) -> int | None:
    kinds: Sequence[str] | None = getattr(config, "layer_types", None)
    if kinds is not None and kinds[number] == "full_attention":
        return None
    if kinds is not None and kinds[number] != "sliding_attention":
        raise _NotNativeError
    return getattr(attention, "sliding_window", None) or getattr(config, "sliding_window", None)


def _add(
    builder: ProgramBuilder,
    src: Buffer,
    hidden: Buffer,
    spare: Buffer,
    layer: nn.Module,
    norm: nn.Module | None,
) -> None:
    """hidden += layer(src), with a norm between where there is one."""
    if norm is None:
        builder.linear(src, hidden, _native(layer), adds=True)
    else:
        builder.linear(src, spare, _native(layer))
        _norm(builder, spare, spare, norm)
        builder.scale(spare, hidden, 1.0, keeps=1.0)


# ---- our classes ----------------------------------------------------------------------------------------


def _rotation_of(body: Any) -> Callable[[Tensor], _Rotation]:
    def rotation(positions: Tensor) -> _Rotation:
        angles = positions[:, :, None] * body.inv_freq
        return angles.cos().contiguous(), angles.sin().contiguous()

    return rotation


def _chatglm(owner: ChatGLMForCausalLM, library: Any) -> LoweredModel:
    config: Any = owner.config
    body: Any = owner.transformer
    heads, head_dim = config.num_attention_heads, config.head_dim
    builder = ProgramBuilder(config.hidden_size)
    hidden = builder.hidden
    normed, mixed = builder.buffer(hidden.width), builder.buffer(3 * hidden.width)
    attended, inner = builder.buffer(hidden.width), builder.buffer(config.inner_hidden_size)
    for number, layer in enumerate(body.layers):
        _norm(builder, hidden, normed, layer.input_layernorm)
        builder.linear(normed, mixed, _native(layer.attention.query_key_value))
        # Query, key and value are beside each other inside each head; each has two halves, for the two positions.
        for part in (0, head_dim):
            for table in (0, 1):
                builder.rotate(
                    mixed, part + table * head_dim // 2, heads=heads, stride=3 * head_dim,
                    angles=head_dim // 4, neighbours=False, table=table,
                )  # fmt: skip
        builder.attend(
            mixed, attended, layer=number, heads=heads, kv_heads=heads, head_dim=head_dim,
            columns=(0, head_dim, 2 * head_dim), strides=(3 * head_dim, 3 * head_dim), scaling=head_dim**-0.5,
        )  # fmt: skip
        builder.scale(normed, hidden, ALPHA)
        builder.linear(attended, hidden, _native(layer.attention.dense), adds=True)
        _norm(builder, hidden, normed, layer.post_attention_layernorm)
        builder.linear(normed, inner, _native(layer.mlp.dense_h_to_4h))
        builder.gelu(inner, inner, config.inner_hidden_size)
        builder.scale(normed, hidden, ALPHA)
        builder.linear(inner, hidden, _native(layer.mlp.dense_4h_to_h), adds=True)
    logits = _head(builder, body.final_layernorm, owner.lm_head)

    def embed(ids: Tensor, _positions: Tensor) -> Tensor:
        return body.word_embeddings(ids)

    return LoweredModel(builder.build(library, logits), embed, _rotation_of(body))


def _chatglm2(owner: ChatGLM2ForCausalLM, library: Any) -> LoweredModel:
    config: Any = owner.config
    body: Any = owner.transformer
    heads, kv_heads, head_dim = config.num_attention_heads, config.num_key_value_heads, config.kv_channels
    width, kv_width = heads * head_dim, kv_heads * head_dim
    if config.apply_residual_connection_post_layernorm or not config.post_layer_norm:
        raise _NotNativeError
    together = config.multi_query_attention
    columns = (0, width, width + kv_width) if together else (0, head_dim, 2 * head_dim)
    stride = head_dim if together else 3 * head_dim
    builder = ProgramBuilder(config.hidden_size)
    hidden = builder.hidden
    normed, mixed = builder.buffer(hidden.width), builder.buffer(width + 2 * kv_width)
    attended = builder.buffer(width)
    inner, product = builder.buffer(2 * config.ffn_hidden_size), builder.buffer(config.ffn_hidden_size)
    for number, layer in enumerate(body.encoder.layers):
        _norm(builder, hidden, normed, layer.input_layernorm)
        builder.linear(normed, mixed, _native(layer.self_attention.query_key_value))
        for first, count in ((columns[0], heads), (columns[1], kv_heads)):
            builder.rotate(mixed, first, heads=count, stride=stride, angles=head_dim // 4, neighbours=True)
        builder.attend(
            mixed, attended, layer=number, heads=heads, kv_heads=kv_heads, head_dim=head_dim, columns=columns,
            strides=(stride, stride), scaling=head_dim**-0.5,
        )  # fmt: skip
        builder.linear(attended, hidden, _native(layer.self_attention.dense), adds=True)
        _norm(builder, hidden, normed, layer.post_attention_layernorm)
        builder.linear(normed, inner, _native(layer.mlp.dense_h_to_4h))
        builder.silu_product(inner, product, config.ffn_hidden_size)
        builder.linear(product, hidden, _native(layer.mlp.dense_4h_to_h), adds=True)
    logits = _head(builder, body.encoder.final_layernorm, body.output_layer)

    def embed(ids: Tensor, _positions: Tensor) -> Tensor:
        return body.embedding(ids)

    return LoweredModel(builder.build(library, logits), embed, _rotation_of(body))


def _blank_infilling(owner: GLMForBlankInfilling, library: Any) -> LoweredModel:
    config: Any = owner.config
    body: Any = owner.transformer
    heads, head_dim, width = config.num_attention_heads, config.head_dim, config.hidden_size
    builder = ProgramBuilder(width)
    hidden = builder.hidden
    normed, mixed, attended = builder.buffer(width), builder.buffer(3 * width), builder.buffer(width)
    inner = builder.buffer(4 * width)
    for number, layer in enumerate(body.layers):
        _norm(builder, hidden, normed, layer.input_layernorm)
        builder.linear(normed, mixed, _native(layer.attention.query_key_value))
        builder.attend(
            mixed, attended, layer=number, heads=heads, kv_heads=heads, head_dim=head_dim,
            columns=(0, width, 2 * width), strides=(head_dim, head_dim), scaling=head_dim**-0.5,
        )  # fmt: skip
        builder.linear(attended, hidden, _native(layer.attention.dense), adds=True)
        _norm(builder, hidden, normed, layer.post_attention_layernorm)
        builder.linear(normed, inner, _native(layer.mlp.dense_h_to_4h))
        builder.gelu(inner, inner, 4 * width)
        builder.linear(inner, hidden, _native(layer.mlp.dense_4h_to_h), adds=True)
    logits = _head(builder, body.final_layernorm, owner.word_embeddings)

    def embed(ids: Tensor, positions: Tensor) -> Tensor:
        return (
            owner.word_embeddings(ids)
            + body.position_embeddings(positions[0])
            + body.block_position_embeddings(positions[1])
        )

    return LoweredModel(builder.build(library, logits), embed, None)
