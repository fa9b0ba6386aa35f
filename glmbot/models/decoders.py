"""Transformers' decoders as programs: one way for all whose blocks differ in their norms, their gate, how
their heads turn and what is added to what.

What a block has is read off its modules; what no module shows stands in the tables here.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from glmbot.models.lowered import LoweredModel, Rotation, Share, add_head, add_norm
from glmbot.models.partition import LLAMA_LIKE, Partition
from glmbot.models.targets import Builder, NotNativeError, Target
from glmbot.native.program import Buffer

__all__ = ["DECODERS", "lower_decoder"]

P = TypeVar("P")

DECODERS = frozenset({
    *LLAMA_LIKE, "arcee", "cohere", "cohere2", "cwm", "ernie4_5", "exaone4", "gemma", "gemma2", "gemma3_text",
    "granite", "helium", "hunyuan_v1_dense", "jais2", "ministral", "olmo", "olmo2", "olmo3", "phi", "phi3",
    "seed_oss", "smollm3", "starcoder2", "vaultgemma",
})  # fmt: skip
"""By `model_type`. A kind whose heads depend on their positions in other ways than by turning is none of these."""

_NEIGHBOURS = ("cohere", "cohere2", "ernie4_5", "glm", "glm4", "helium")
"""Those whose rotary positions turn neighbouring columns."""
_APART = ("cohere", "cohere2")
"""Of these, the ones whose tables say each angle twice, side by side."""
_FROM_ONE = ("gemma", "gemma2", "gemma3_text", "vaultgemma")
"""Those whose norms' weights are stored less 1."""
_TANH = ("gelu_pytorch_tanh", "gelu_new", "gelu_fast")
# Positions by which a table changes as a text grows.
_GROWING = ("longrope", "dynamic")


@dataclass(frozen=True, slots=True)
class _Norms:
    """Of one block, where it has them. `together`: attention and the gate read the same."""

    before_attention: nn.Module | None
    after_attention: nn.Module | None
    before_gate: nn.Module | None
    after_gate: nn.Module | None
    together: bool


def lower_decoder(owner: Any, target: Target[P], shard: Partition | None) -> LoweredModel[P]:
    """Raises NotNativeError and ValueError for what the target has no way to compute."""
    config, body = owner.config, owner.model
    _refuse(config, body)
    turns = _Turns(config, body)
    builder = target.builder(config.hidden_size)
    share = Share(builder, target, shard, config, config.intermediate_size)
    block = _Block(builder, target, share, config, turns, int(body.layers[0].self_attn.head_dim))
    for number, layer in enumerate(body.layers):
        block.add(number, layer)
    final = body.norm if hasattr(body, "norm") else body.final_layernorm
    logits = add_head(builder, target, _lifted(config, final), owner.lm_head)
    _finish(builder, config, owner, logits)
    factor = float(getattr(config, "embedding_multiplier", 1.0))

    def embed(ids: Tensor, _positions: Tensor) -> Tensor:
        made = body.embed_tokens(ids)
        return made if factor == 1.0 else made * factor

    return LoweredModel(target.build(builder, logits), embed, turns.rotation, not _grows(config))


def _refuse(config: Any, body: Any) -> None:
    """What can't be seen in a block."""
    odd = (
        getattr(config, "clip_qkv", None) is not None
        or getattr(config, "use_bidirectional_attention", False)
        or getattr(body.layers[0].self_attn, "qk_layernorm", False)
    )
    if odd or (_grows(config) and config.model_type not in LLAMA_LIKE):
        raise NotNativeError


def _grows(config: Any) -> bool:
    """Whether the angles of a position depend on how long a sequence is."""
    rope: Any = getattr(config, "rope_parameters", None) or {}
    kinds = [rope, *(each for each in rope.values() if isinstance(each, dict))]
    return any(each.get("rope_type") in _GROWING for each in kinds)


def _finish(builder: Builder, config: Any, owner: Any, logits: Buffer) -> None:
    factor = float(getattr(owner, "logit_scale", 1.0))
    if (scaling := getattr(config, "logits_scaling", None)) is not None:
        factor = 1.0 / float(scaling)
    if factor != 1.0:
        builder.scale(logits, logits, factor)
    if (most := getattr(config, "final_logit_softcapping", None)) is not None:
        builder.cap(logits, float(most))


class _Turns:
    """The tables of rotary positions: one, or one for each kind of layer."""

    def __init__(self, config: Any, body: Any) -> None:
        self._rotary = body.rotary_emb
        self._apart = config.model_type in _APART
        self._layers: Sequence[str] = getattr(config, "layer_types", None) or ()
        by_kind = "layer_type" in inspect.signature(self._rotary.forward).parameters
        self._kinds: Sequence[str | None] = sorted(set(self._layers)) if by_kind else [None]
        self.neighbours = config.model_type in _NEIGHBOURS
        device = next((table.device for table in self._rotary.buffers()), None)
        first = torch.zeros(1, 1, dtype=torch.long, device=device)
        widths = {table.shape[-1] for table in self._tables(first)[0]}
        if len(widths) != 1:
            raise NotNativeError
        self.angles = int(widths.pop())

    def table(self, number: int) -> int:
        """Of a layer."""
        return self._kinds.index(self._layers[number]) if len(self._kinds) > 1 else 0

    def rotation(self, positions: Tensor) -> Rotation:
        cosines, sines = self._tables(positions)
        return torch.cat(cosines).float().contiguous(), torch.cat(sines).float().contiguous()

    def _tables(self, positions: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        made: list[Rotation] = []
        for kind in self._kinds:
            like = torch.zeros(1, device=positions.device)
            cosines, sines = self._rotary(like, positions, *([] if kind is None else [kind]))
            made.append((self._once(cosines), self._once(sines)))
        return [each[0] for each in made], [each[1] for each in made]

    def _once(self, table: Tensor) -> Tensor:
        return table[..., ::2] if self._apart else table[..., : table.shape[-1] // 2]


class _Block:
    def __init__(
        self, builder: Builder, target: Target[Any], share: Share, config: Any, turns: _Turns, head_dim: int
    ) -> None:
        self._target = target
        self._builder, self._share, self._config, self._turns = builder, share, config, turns
        self._head_dim = head_dim
        self._width, self._kv_width = share.heads * head_dim, share.kv_heads * head_dim
        self._normed = builder.buffer(builder.hidden.width)
        self._made = builder.buffer(builder.hidden.width)
        self._mixed = builder.buffer(self._width + 2 * self._kv_width)
        self._attended = builder.buffer(self._width)
        self._inner, self._product = builder.buffer(2 * share.inner), builder.buffer(share.inner)
        self._residual = float(getattr(config, "residual_multiplier", 1.0))
        self._cap = float(getattr(config, "attn_logit_softcapping", None) or 0.0)

    def add(self, number: int, layer: Any) -> None:
        norms = _norms(layer)
        normed = self._read(norms.before_attention)
        self._attend(number, layer.self_attn, normed)
        out = getattr(layer.self_attn, "o_proj", None) or layer.self_attn.dense
        self._close(self._share.close_attention, self._attended, out, norms.after_attention)
        if not norms.together:
            normed = self._read(norms.before_gate)
        down = self._gate(layer.mlp, normed)
        self._close(self._share.close_inner, self._product, down, norms.after_gate)

    def _read(self, norm: nn.Module | None) -> Buffer:
        if norm is None:
            return self._builder.hidden
        self._norm(self._builder.hidden, self._normed, norm)
        return self._normed

    def _attend(self, number: int, attention: Any, normed: Buffer) -> None:
        builder, mixed, head_dim = self._builder, self._mixed, self._head_dim
        heads, kv_heads, width = self._share.heads, self._share.kv_heads, self._width
        fused = getattr(attention, "qkv_proj", None)
        layers = (attention.q_proj, attention.k_proj, attention.v_proj) if fused is None else (fused,)
        builder.linear(normed, mixed, self._target.stored(*layers))
        self._norm_heads(getattr(attention, "q_norm", None), getattr(attention, "k_norm", None))
        if _is_turned(self._config, attention):
            builder.rotate(
                mixed, 0, heads=heads + kv_heads, stride=head_dim, angles=self._turns.angles,
                neighbours=self._turns.neighbours, table=self._turns.table(number),
            )  # fmt: skip
        self._norm_heads(
            getattr(attention, "query_layernorm", None), getattr(attention, "key_layernorm", None)
        )
        builder.attend(
            mixed, self._attended, layer=number, heads=heads, kv_heads=kv_heads, head_dim=head_dim,
            columns=(0, width, width + self._kv_width), strides=(head_dim, head_dim),
            scaling=float(attention.scaling), window=_window(self._config, attention, number), cap=self._cap,
        )  # fmt: skip

    def _norm_heads(self, queries: Any, keys: Any) -> None:
        """Each head by itself, or all of them as one."""
        if queries is None or keys is None:
            return
        for norm, at, width in ((queries, 0, self._width), (keys, self._width, self._kv_width)):
            if norm.weight.dim() != 1 or width % norm.weight.shape[0]:
                raise NotNativeError
            self._norm(self._mixed, self._mixed, norm, at=at, pieces=width // norm.weight.shape[0])

    def _gate(self, mlp: Any, normed: Buffer) -> nn.Module:
        """Returns the layer that closes it."""
        builder, inner, width = self._builder, self._inner, self._share.inner
        act = getattr(self._config, "hidden_activation", None) or self._config.hidden_act
        if hasattr(mlp, "gate_up_proj") or hasattr(mlp, "gate_proj"):
            layers = (mlp.gate_up_proj,) if hasattr(mlp, "gate_up_proj") else (mlp.gate_proj, mlp.up_proj)
            builder.linear(normed, inner, self._target.stored(*layers))
            if act == "silu":
                builder.silu_product(inner, self._product, width)
            elif act == "gelu" or act in _TANH:
                builder.gelu_gate(inner, self._product, width, exactly=act == "gelu")
            else:
                raise NotNativeError
            return mlp.down_proj
        first, last = next(
            (getattr(mlp, up), getattr(mlp, down)) for up, down in _UNGATED if hasattr(mlp, up)
        )
        builder.linear(normed, self._product, self._target.stored(first))
        if act == "relu2":
            builder.squared_relu(self._product, self._product, width)
        elif act == "gelu" or act in _TANH:
            builder.gelu(self._product, self._product, width, exactly=act == "gelu")
        else:
            raise NotNativeError
        return last

    def _close(
        self, close: Callable[..., None], src: Buffer, layer: nn.Module, norm: nn.Module | None
    ) -> None:
        """hidden += layer(src), or what a norm or a factor makes of that."""
        hidden, made = self._builder.hidden, self._made
        if norm is None and self._residual == 1.0:
            close(src, hidden, layer)
            return
        close(src, made, layer, adds=False)
        if norm is not None:
            self._norm(made, made, norm)
        self._builder.scale(made, hidden, self._residual, keeps=1.0)

    def _norm(self, src: Buffer, dst: Buffer, norm: Any, *, at: int = 0, pieces: int = 1) -> None:
        add_norm(self._builder, src, dst, _lifted(self._config, norm), at=at, pieces=pieces)


_UNGATED = (("c_fc", "c_proj"), ("fc1", "fc2"), ("up_proj", "down_proj"))


@dataclass(frozen=True, slots=True)
class _Norm:
    """A norm of Transformers' own, in the terms of torch's. `bias`: of one that centres."""

    weight: Tensor
    variance_epsilon: float
    centred: bool


def _lifted(config: Any, norm: Any) -> Any:
    """What `add_norm` reads, of any norm."""
    if isinstance(norm, nn.LayerNorm | nn.RMSNorm):
        return norm
    name = type(norm).__name__
    if name == "OlmoLayerNorm":
        # Without weights: https://arxiv.org/abs/2402.00838
        return _Norm(torch.ones(config.hidden_size), 1e-5, True)
    eps = float(norm.eps if hasattr(norm, "eps") else norm.variance_epsilon)
    weight = norm.weight.float() + 1.0 if config.model_type in _FROM_ONE else norm.weight
    return _Norm(weight, eps, name.endswith("LayerNorm"))


def _norms(layer: Any) -> _Norms:
    first = getattr(layer, "input_layernorm", None)
    second = getattr(layer, "post_attention_layernorm", None)
    after = getattr(layer, "post_feedforward_layernorm", None)
    before = getattr(layer, "pre_feedforward_layernorm", None)
    if before is not None:
        return _Norms(first, second, before, after, together=False)
    if after is not None:
        # What is made is normed, and nothing that is read: https://arxiv.org/abs/2501.00656
        return _Norms(first, second, None, after, together=False)
    if second is None:
        return _Norms(first, None, None, None, together=True)
    own = [getattr(layer, name, None) for name in ("post_self_attn_layernorm", "post_mlp_layernorm")]
    return _Norms(first, own[0], second, own[1], together=False)


def _is_turned(config: Any, attention: Any) -> bool:
    """Some kinds have layers without positions."""
    window = getattr(attention, "sliding_window", None)
    match config.model_type:
        case "smollm3":
            return bool(attention.use_rope)
        case "cohere2":
            return window is not None
        case "exaone4":
            return window is None or bool(attention.is_sliding)
        case _:
            return True


def _window(config: Any, attention: Any, number: int) -> int | None:
    kinds: Sequence[str] | None = getattr(config, "layer_types", None)
    if kinds is not None and kinds[number] == "full_attention":
        return None
    if kinds is not None and kinds[number] != "sliding_attention":
        raise NotNativeError
    return getattr(attention, "sliding_window", None) or getattr(config, "sliding_window", None)
