"""What every program of a model is made of, whatever its architecture and whoever runs it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from torch import Tensor, nn

from glmbot.models.partition import Partition
from glmbot.models.targets import Builder, Target
from glmbot.native.program import Buffer

__all__ = ["LoweredModel", "Rotation", "Share", "add_head", "add_norm"]

Rotation = tuple[Tensor, Tensor]
P_co = TypeVar("P_co", covariant=True)


@dataclass(frozen=True, slots=True)
class LoweredModel(Generic[P_co]):
    program: P_co
    embed: Callable[[Tensor, Tensor], Tensor]
    """Token ids int64 [tokens] and positions int64 [rows, tokens] to hidden states [tokens, hidden]."""
    rotation: Callable[[Tensor], Rotation] | None
    """Positions to cosines and sines float32 [tables, tokens, angles]."""
    turns_by_position: bool = True
    """Whether these are of each position alone, in whatever sequence it stands."""


def add_norm(builder: Builder, src: Buffer, dst: Buffer, norm: Any, *, at: int = 0, pieces: int = 1) -> None:
    centred = isinstance(norm, nn.LayerNorm) or getattr(norm, "centred", False)
    eps = norm.eps if isinstance(norm, nn.LayerNorm | nn.RMSNorm) else norm.variance_epsilon
    bias = getattr(norm, "bias", None)
    builder.norm(src, dst, norm.weight, eps or 0.0, bias=bias, centred=centred, at=at, pieces=pieces)


def add_head(builder: Builder, target: Target[Any], norm: Any, head: nn.Module) -> Buffer:
    """Norm and output head, for the rows that draw alone."""
    last = builder.buffer(builder.hidden.width)
    layer = target.head(head)
    logits = builder.buffer(layer.out_features)
    builder.gather(builder.hidden, last)
    add_norm(builder, last, last, norm)
    builder.linear(last, logits, [layer])
    return logits


class Share:
    """What this process computes of each block: all, unless several share the model. What a matrix needs whole is
    gathered before it, and what it made is gathered behind it."""

    def __init__(
        self, builder: Builder, target: Target[Any], shard: Partition | None, config: Any, inner: int
    ) -> None:
        self._builder, self._target = builder, target
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
            builder.linear(src, dst, self._target.stored(layer), adds=adds)
            return
        builder.linear(src, self._made, self._target.stored(layer))
        builder.exchange(self._made, self._whole if adds else dst, self._shard.hidden)
        if adds:
            builder.scale(self._whole, dst, 1.0, keeps=1.0)
