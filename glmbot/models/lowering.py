"""From a model's modules to a program of operations: which architectures can be lowered, and how.

A module is lowered only when the target reads its linear layers: native ones on the CPU, floats and packed weights
on a card. What is built here is held against the module itself by the engine's probe before it serves anybody.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from torch import Tensor, nn

from glmbot.models.chatglm.model import ALPHA, ChatGLMForCausalLM
from glmbot.models.chatglm2.model import ChatGLM2ForCausalLM
from glmbot.models.decoders import DECODERS, lower_decoder
from glmbot.models.glm.model import GLMForBlankInfilling
from glmbot.models.glm130b.model import GLM130BForCausalLM, alpha
from glmbot.models.lowered import LoweredModel, Rotation, Share, add_head, add_norm
from glmbot.models.partition import Partition
from glmbot.models.rotation_table import RotationTable
from glmbot.models.targets import Native, NotNativeError, Target
from glmbot.native.library import kernels
from glmbot.native.program import Program

__all__ = ["LoweredModel", "lower", "lower_for"]

P = TypeVar("P")


def lower(module: nn.Module, shard: Partition | None = None) -> LoweredModel[Program] | None:
    """For the CPU; see `lower_for`. None also when its kernels are not here."""
    library = kernels()
    made = None if library is None else lower_for(Native(library), module, shard)
    if made is None or made.rotation is None or not made.turns_by_position:
        return made
    return replace(made, rotation=RotationTable(made.rotation))


def lower_for(target: Target[P], module: nn.Module, shard: Partition | None = None) -> LoweredModel[P] | None:
    """None when this architecture, or the form in which its weights are, has no program there. shard: what this
    process has of a model that several share."""
    owner: Any = module
    try:
        if isinstance(module, ChatGLMForCausalLM):
            return _chatglm(owner, target, shard)
        if isinstance(module, ChatGLM2ForCausalLM):
            return _chatglm2(owner, target, shard)
        if isinstance(module, GLM130BForCausalLM):
            return _glm130b(owner, target, shard)
        if isinstance(module, GLMForBlankInfilling):
            return _blank_infilling(owner, target, shard)
        if getattr(owner.config, "model_type", "") in DECODERS:
            return lower_decoder(owner, target, shard)
    except (ValueError, NotNativeError):
        return None
    return None


def _rotation_of(body: Any) -> Callable[[Tensor], Rotation]:
    def rotation(positions: Tensor) -> Rotation:
        angles = positions[:, :, None] * body.inv_freq
        return angles.cos().contiguous(), angles.sin().contiguous()

    return rotation


def _chatglm(owner: ChatGLMForCausalLM, target: Target[P], shard: Partition | None) -> LoweredModel[P]:
    config: Any = owner.config
    body: Any = owner.transformer
    head_dim = config.head_dim
    builder = target.builder(config.hidden_size)
    share = Share(builder, target, shard, config, config.inner_hidden_size)
    heads, hidden = share.heads, builder.hidden
    normed, mixed = builder.buffer(hidden.width), builder.buffer(3 * heads * head_dim)
    attended, inner = builder.buffer(heads * head_dim), builder.buffer(share.inner)
    for number, layer in enumerate(body.layers):
        add_norm(builder, hidden, normed, layer.input_layernorm)
        builder.linear(normed, mixed, target.stored(layer.attention.query_key_value))
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
        add_norm(builder, hidden, normed, layer.post_attention_layernorm)
        builder.linear(normed, inner, target.stored(layer.mlp.dense_h_to_4h))
        builder.gelu(inner, inner, share.inner)
        builder.scale(normed, hidden, ALPHA)
        share.close_inner(inner, hidden, layer.mlp.dense_4h_to_h)
    logits = add_head(builder, target, body.final_layernorm, owner.lm_head)

    def embed(ids: Tensor, _positions: Tensor) -> Tensor:
        return body.word_embeddings(ids)

    return LoweredModel(target.build(builder, logits), embed, _rotation_of(body))


def _glm130b(owner: GLM130BForCausalLM, target: Target[P], shard: Partition | None) -> LoweredModel[P]:
    config: Any = owner.config
    body: Any = owner.transformer
    head_dim, residual = config.head_dim, alpha(config.num_layers)
    builder = target.builder(config.hidden_size)
    share = Share(builder, target, shard, config, config.inner_hidden_size)
    heads, hidden = share.heads, builder.hidden
    normed, mixed = builder.buffer(hidden.width), builder.buffer(3 * heads * head_dim)
    attended = builder.buffer(heads * head_dim)
    inner, product = builder.buffer(2 * share.inner), builder.buffer(share.inner)
    for number, layer in enumerate(body.layers):
        add_norm(builder, hidden, normed, layer.input_layernorm)
        builder.linear(normed, mixed, target.stored(layer.attention.query_key_value))
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
        add_norm(builder, hidden, normed, layer.post_attention_layernorm)
        builder.linear(normed, inner, target.stored(layer.mlp.dense_h_to_4h))
        builder.gelu_product(inner, product, share.inner)
        builder.scale(normed, hidden, residual)
        share.close_inner(product, hidden, layer.mlp.dense_4h_to_h)
    logits = add_head(builder, target, body.final_layernorm, body.word_embeddings)

    def embed(ids: Tensor, _positions: Tensor) -> Tensor:
        return body.word_embeddings(ids)

    def rotation(positions: Tensor) -> Rotation:
        cosines, sines = body.rotation(positions)
        return cosines.contiguous(), sines.contiguous()

    return LoweredModel(target.build(builder, logits), embed, rotation)


def _chatglm2(owner: ChatGLM2ForCausalLM, target: Target[P], shard: Partition | None) -> LoweredModel[P]:
    config: Any = owner.config
    body: Any = owner.transformer
    if config.apply_residual_connection_post_layernorm or not config.post_layer_norm:
        raise NotNativeError
    head_dim = config.kv_channels
    builder = target.builder(config.hidden_size)
    share = Share(builder, target, shard, config, config.ffn_hidden_size)
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
        add_norm(builder, hidden, normed, layer.input_layernorm)
        builder.linear(normed, mixed, target.stored(layer.self_attention.query_key_value))
        for first, count in ((columns[0], heads), (columns[1], kv_heads)):
            builder.rotate(mixed, first, heads=count, stride=stride, angles=head_dim // 4, neighbours=True)
        builder.attend(
            mixed, attended, layer=number, heads=heads, kv_heads=kv_heads, head_dim=head_dim, columns=columns,
            strides=(stride, stride), scaling=head_dim**-0.5,
        )  # fmt: skip
        share.close_attention(attended, hidden, layer.self_attention.dense)
        add_norm(builder, hidden, normed, layer.post_attention_layernorm)
        builder.linear(normed, inner, target.stored(layer.mlp.dense_h_to_4h))
        builder.silu_product(inner, product, share.inner)
        share.close_inner(product, hidden, layer.mlp.dense_4h_to_h)
    logits = add_head(builder, target, body.encoder.final_layernorm, body.output_layer)

    def embed(ids: Tensor, _positions: Tensor) -> Tensor:
        return body.embedding(ids)

    return LoweredModel(target.build(builder, logits), embed, _rotation_of(body))


def _blank_infilling(
    owner: GLMForBlankInfilling, target: Target[P], shard: Partition | None
) -> LoweredModel[P]:
    config: Any = owner.config
    body: Any = owner.transformer
    head_dim = config.head_dim
    builder = target.builder(config.hidden_size)
    share = Share(builder, target, shard, config, 4 * config.hidden_size)
    heads, hidden = share.heads, builder.hidden
    width = heads * head_dim
    normed, mixed, attended = builder.buffer(hidden.width), builder.buffer(3 * width), builder.buffer(width)
    inner = builder.buffer(share.inner)
    for number, layer in enumerate(body.layers):
        add_norm(builder, hidden, normed, layer.input_layernorm)
        builder.linear(normed, mixed, target.stored(layer.attention.query_key_value))
        builder.attend(
            mixed, attended, layer=number, heads=heads, kv_heads=heads, head_dim=head_dim,
            columns=(0, width, 2 * width), strides=(head_dim, head_dim), scaling=head_dim**-0.5,
        )  # fmt: skip
        share.close_attention(attended, hidden, layer.attention.dense)
        add_norm(builder, hidden, normed, layer.post_attention_layernorm)
        builder.linear(normed, inner, target.stored(layer.mlp.dense_h_to_4h))
        builder.gelu(inner, inner, share.inner)
        share.close_inner(inner, hidden, layer.mlp.dense_4h_to_h)
    logits = add_head(builder, target, body.final_layernorm, owner.word_embeddings)

    def embed(ids: Tensor, positions: Tensor) -> Tensor:
        return (
            owner.word_embeddings(ids)
            + body.position_embeddings(positions[0])
            + body.block_position_embeddings(positions[1])
        )

    return LoweredModel(target.build(builder, logits), embed, None)
