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
from glmbot.models.glm130b.model import GLM130BForCausalLM, alpha
from glmbot.models.partition import LLAMA_LIKE, Partition
from glmbot.native.library import kernels
from glmbot.native.linear import NativeLinear
from glmbot.native.program import Buffer, Program, ProgramBuilder
from glmbot.native.weights import WeightKind

__all__ = ["LoweredModel", "lower"]

_Rotation = tuple[Tensor, Tensor]
_ROW_KINDS = {torch.bfloat16: WeightKind.ROWS_BFLOAT16, torch.float32: WeightKind.ROWS_FLOAT32}
_NEIGHBOURS = ("glm", "glm4")
"""Those whose rotary positions turn neighbouring columns."""


@dataclass(frozen=True, slots=True)
class LoweredModel:
    program: Program
    embed: Callable[[Tensor, Tensor], Tensor]
    """Token ids int64 [tokens] and positions int64 [rows, tokens] to hidden states [tokens, hidden]."""
    rotation: Callable[[Tensor], _Rotation] | None
    """Positions to cosines and sines float32 [tables, tokens, angles]."""


def lower(module: nn.Module, shard: Partition | None = None) -> LoweredModel | None:
    """None when this architecture, or the form in which its weights are, has no native program. shard: what this
    process has of a model that several share."""
    library = kernels()
    if library is None:
        return None
    owner: Any = module
    try:
        if isinstance(module, ChatGLMForCausalLM):
            return _chatglm(owner, library, shard)
        if isinstance(module, ChatGLM2ForCausalLM):
            return _chatglm2(owner, library, shard)
        if isinstance(module, GLM130BForCausalLM):
            return _glm130b(owner, library, shard)
        if isinstance(module, GLMForBlankInfilling):
            return _blank_infilling(owner, library, shard)
        if getattr(owner.config, "model_type", "") in LLAMA_LIKE:
            return _llama(owner, library, shard)
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


class _Share:
    """What this process computes of each block: all, unless several share the model. What a matrix needs whole is
    gathered before it, and what it made is gathered behind it."""

    def __init__(self, builder: ProgramBuilder, shard: Partition | None, config: Any, inner: int) -> None:
        self._builder = builder
        self._shard = shard
        self.heads, self.inner = config.num_attention_heads, inner
        self.kv_heads = getattr(config, "num_key_value_heads", None) or self.heads
        if shard is not None:
            start, end = shard.inner[shard.rank]
            self.heads, self.kv_heads, self.inner = shard.heads, shard.kv_heads, end - start
            self._attended, self._inner = (
                builder.buffer(runs[-1][1]) for runs in (shard.attended, shard.inner)
            )
            start, end = shard.hidden[shard.rank]
            self._made, self._whole = builder.buffer(end - start), builder.buffer(builder.hidden.width)

    def close_attention(self, src: Buffer, dst: Buffer, layer: nn.Module, *, adds: bool = True) -> None:
        """dst (+)= layer(src), src being what attention made here."""
        if self._shard is not None:
            self._builder.exchange(src, self._attended, self._shard.attended)
            src = self._attended
        self._close(src, dst, layer, adds=adds)

    def close_inner(self, src: Buffer, dst: Buffer, layer: nn.Module, *, adds: bool = True) -> None:
        """dst (+)= layer(src), src being the part of the inner state that is here."""
        if self._shard is not None:
            self._builder.exchange(src, self._inner, self._shard.inner)
            src = self._inner
        self._close(src, dst, layer, adds=adds)

    def _close(self, src: Buffer, dst: Buffer, layer: nn.Module, *, adds: bool) -> None:
        builder = self._builder
        if self._shard is None:
            builder.linear(src, dst, _native(layer), adds=adds)
            return
        builder.linear(src, self._made, _native(layer))
        builder.exchange(self._made, self._whole if adds else dst, self._shard.hidden)
        if adds:
            builder.scale(self._whole, dst, 1.0, keeps=1.0)


# ---- Transformers' classes ------------------------------------------------------------------------------


def _llama(owner: Any, library: Any, shard: Partition | None) -> LoweredModel:
    config, body = owner.config, owner.model
    first = body.layers[0]
    head_dim = int(first.self_attn.head_dim)
    if config.hidden_act != "silu":
        raise _NotNativeError
    neighbours = config.model_type in _NEIGHBOURS
    angles = int(body.rotary_emb.inv_freq.shape[0])
    fused = hasattr(first.mlp, "gate_up_proj")
    builder = ProgramBuilder(config.hidden_size)
    share = _Share(builder, shard, config, config.intermediate_size)
    heads, kv_heads = share.heads, share.kv_heads
    width, kv_width = heads * head_dim, kv_heads * head_dim
    hidden = builder.hidden
    normed = builder.buffer(hidden.width)
    mixed, attended = builder.buffer(width + 2 * kv_width), builder.buffer(width)
    inner, product = builder.buffer(2 * share.inner), builder.buffer(share.inner)
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
        after = getattr(layer, "post_self_attn_layernorm", None)
        share.close_attention(
            attended, hidden if after is None else normed, attention.o_proj, adds=after is None
        )
        _add_normed(builder, normed, hidden, after)
        _norm(builder, hidden, normed, layer.post_attention_layernorm)
        builder.linear(
            normed, inner, _native(mlp.gate_up_proj) if fused else _native(mlp.gate_proj, mlp.up_proj)
        )
        builder.silu_product(inner, product, share.inner)
        after = getattr(layer, "post_mlp_layernorm", None)
        share.close_inner(product, hidden if after is None else normed, mlp.down_proj, adds=after is None)
        _add_normed(builder, normed, hidden, after)
    logits = _head(builder, body.norm, owner.lm_head)

    def embed(ids: Tensor, _positions: Tensor) -> Tensor:
        return body.embed_tokens(ids)

    return LoweredModel(builder.build(library, logits), embed, _rotary_embedding_of(body, angles))


def _rotary_embedding_of(body: Any, angles: int) -> Callable[[Tensor], _Rotation]:
    def rotation(positions: Tensor) -> _Rotation:
        cosines, sines = body.rotary_emb(torch.zeros(1), positions)
        return cosines[..., :angles].float().contiguous(), sines[..., :angles].float().contiguous()

    return rotation


def _window(config: Any, attention: Any, number: int) -> int | None:
    kinds: Sequence[str] | None = getattr(config, "layer_types", None)
    if kinds is not None and kinds[number] == "full_attention":
        return None
    if kinds is not None and kinds[number] != "sliding_attention":
        raise _NotNativeError
    return getattr(attention, "sliding_window", None) or getattr(config, "sliding_window", None)


def _add_normed(builder: ProgramBuilder, made: Buffer, hidden: Buffer, norm: nn.Module | None) -> None:
    """hidden += norm(made); without a norm it was added already."""
    if norm is not None:
        _norm(builder, made, made, norm)
        builder.scale(made, hidden, 1.0, keeps=1.0)


# ---- our classes ----------------------------------------------------------------------------------------


def _rotation_of(body: Any) -> Callable[[Tensor], _Rotation]:
    def rotation(positions: Tensor) -> _Rotation:
        angles = positions[:, :, None] * body.inv_freq
        return angles.cos().contiguous(), angles.sin().contiguous()

    return rotation


def _chatglm(owner: ChatGLMForCausalLM, library: Any, shard: Partition | None) -> LoweredModel:
    config: Any = owner.config
    body: Any = owner.transformer
    head_dim = config.head_dim
    builder = ProgramBuilder(config.hidden_size)
    share = _Share(builder, shard, config, config.inner_hidden_size)
    heads, hidden = share.heads, builder.hidden
    normed, mixed = builder.buffer(hidden.width), builder.buffer(3 * heads * head_dim)
    attended, inner = builder.buffer(heads * head_dim), builder.buffer(share.inner)
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
        share.close_attention(attended, hidden, layer.attention.dense)
        _norm(builder, hidden, normed, layer.post_attention_layernorm)
        builder.linear(normed, inner, _native(layer.mlp.dense_h_to_4h))
        builder.gelu(inner, inner, share.inner)
        builder.scale(normed, hidden, ALPHA)
        share.close_inner(inner, hidden, layer.mlp.dense_4h_to_h)
    logits = _head(builder, body.final_layernorm, owner.lm_head)

    def embed(ids: Tensor, _positions: Tensor) -> Tensor:
        return body.word_embeddings(ids)

    return LoweredModel(builder.build(library, logits), embed, _rotation_of(body))


def _glm130b(owner: GLM130BForCausalLM, library: Any, shard: Partition | None) -> LoweredModel:
    config: Any = owner.config
    body: Any = owner.transformer
    head_dim, residual = config.head_dim, alpha(config.num_layers)
    builder = ProgramBuilder(config.hidden_size)
    share = _Share(builder, shard, config, config.inner_hidden_size)
    heads, hidden = share.heads, builder.hidden
    normed, mixed = builder.buffer(hidden.width), builder.buffer(3 * heads * head_dim)
    attended = builder.buffer(heads * head_dim)
    inner, product = builder.buffer(2 * share.inner), builder.buffer(share.inner)
    for number, layer in enumerate(body.layers):
        _norm(builder, hidden, normed, layer.input_layernorm)
        builder.linear(normed, mixed, _native(layer.attention.query_key_value))
        # Query, key and value are beside each other inside each head.
        for part in (0, head_dim):
            builder.rotate(
                mixed, part, heads=heads, stride=3 * head_dim, angles=head_dim // 2, neighbours=False
            )
        builder.attend(
            mixed, attended, layer=number, heads=heads, kv_heads=heads, head_dim=head_dim,
            columns=(0, head_dim, 2 * head_dim), strides=(3 * head_dim, 3 * head_dim), scaling=head_dim**-0.5,
        )  # fmt: skip
        builder.scale(normed, hidden, residual)
        share.close_attention(attended, hidden, layer.attention.dense)
        _norm(builder, hidden, normed, layer.post_attention_layernorm)
        builder.linear(normed, inner, _native(layer.mlp.dense_h_to_4h))
        builder.gelu_product(inner, product, share.inner)
        builder.scale(normed, hidden, residual)
        share.close_inner(product, hidden, layer.mlp.dense_4h_to_h)
    logits = _head(builder, body.final_layernorm, body.word_embeddings)

    def embed(ids: Tensor, _positions: Tensor) -> Tensor:
        return body.word_embeddings(ids)

    def rotation(positions: Tensor) -> _Rotation:
        cosines, sines = body.rotation(positions)
        return cosines.contiguous(), sines.contiguous()

    return LoweredModel(builder.build(library, logits), embed, rotation)


def _chatglm2(owner: ChatGLM2ForCausalLM, library: Any, shard: Partition | None) -> LoweredModel:
    config: Any = owner.config
    body: Any = owner.transformer
    if config.apply_residual_connection_post_layernorm or not config.post_layer_norm:
        raise _NotNativeError
    head_dim = config.kv_channels
    builder = ProgramBuilder(config.hidden_size)
    share = _Share(builder, shard, config, config.ffn_hidden_size)
    heads, kv_heads = share.heads, share.kv_heads
    width, kv_width = heads * head_dim, kv_heads * head_dim
    together = config.multi_query_attention
    columns = (0, width, width + kv_width) if together else (0, head_dim, 2 * head_dim)
    stride = head_dim if together else 3 * head_dim
    hidden = builder.hidden
    normed, mixed = builder.buffer(hidden.width), builder.buffer(width + 2 * kv_width)
    attended = builder.buffer(width)
    inner, product = builder.buffer(2 * share.inner), builder.buffer(share.inner)
    for number, layer in enumerate(body.encoder.layers):
        _norm(builder, hidden, normed, layer.input_layernorm)
        builder.linear(normed, mixed, _native(layer.self_attention.query_key_value))
        for first, count in ((columns[0], heads), (columns[1], kv_heads)):
            builder.rotate(mixed, first, heads=count, stride=stride, angles=head_dim // 4, neighbours=True)
        builder.attend(
            mixed, attended, layer=number, heads=heads, kv_heads=kv_heads, head_dim=head_dim, columns=columns,
            strides=(stride, stride), scaling=head_dim**-0.5,
        )  # fmt: skip
        share.close_attention(attended, hidden, layer.self_attention.dense)
        _norm(builder, hidden, normed, layer.post_attention_layernorm)
        builder.linear(normed, inner, _native(layer.mlp.dense_h_to_4h))
        builder.silu_product(inner, product, share.inner)
        share.close_inner(product, hidden, layer.mlp.dense_4h_to_h)
    logits = _head(builder, body.encoder.final_layernorm, body.output_layer)

    def embed(ids: Tensor, _positions: Tensor) -> Tensor:
        return body.embedding(ids)

    return LoweredModel(builder.build(library, logits), embed, _rotation_of(body))


def _blank_infilling(owner: GLMForBlankInfilling, library: Any, shard: Partition | None) -> LoweredModel:
    config: Any = owner.config
    body: Any = owner.transformer
    head_dim = config.head_dim
    builder = ProgramBuilder(config.hidden_size)
    share = _Share(builder, shard, config, 4 * config.hidden_size)
    heads, hidden = share.heads, builder.hidden
    width = heads * head_dim
    normed, mixed, attended = builder.buffer(hidden.width), builder.buffer(3 * width), builder.buffer(width)
    inner = builder.buffer(share.inner)
    for number, layer in enumerate(body.layers):
        _norm(builder, hidden, normed, layer.input_layernorm)
        builder.linear(normed, mixed, _native(layer.attention.query_key_value))
        builder.attend(
            mixed, attended, layer=number, heads=heads, kv_heads=heads, head_dim=head_dim,
            columns=(0, width, 2 * width), strides=(head_dim, head_dim), scaling=head_dim**-0.5,
        )  # fmt: skip
        share.close_attention(attended, hidden, layer.attention.dense)
        _norm(builder, hidden, normed, layer.post_attention_layernorm)
        builder.linear(normed, inner, _native(layer.mlp.dense_h_to_4h))
        builder.gelu(inner, inner, share.inner)
        share.close_inner(inner, hidden, layer.mlp.dense_4h_to_h)
    logits = _head(builder, body.final_layernorm, owner.word_embeddings)

    def embed(ids: Tensor, positions: Tensor) -> Tensor:
        return (
            owner.word_embeddings(ids)
            + body.position_embeddings(positions[0])
            + body.block_position_embeddings(positions[1])
        )

    return LoweredModel(builder.build(library, logits), embed, None)
