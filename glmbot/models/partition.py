"""What each of several processes holds of a model: rows of every large matrix, and the heads that they make.

Each matrix is cut by its rows, so a process computes whole sums over whole columns: its numbers are those that one
process computes, bit for bit, at every precision, and no row's quantisation is touched. What the next matrix needs
is gathered from all. (Cutting every second matrix by columns, as in Megatron-LM, arXiv:1909.08053, saves every
second exchange, and makes sums that depend on the number of processes.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from glmbot.errors import ModelFileError
from glmbot.models.chatglm.model import ChatGLMForCausalLM
from glmbot.models.chatglm2.model import ChatGLM2ForCausalLM
from glmbot.models.glm.model import GLMForBlankInfilling
from glmbot.models.glm130b.model import GLM130BForCausalLM

__all__ = ["LLAMA_LIKE", "Cut", "Partition", "Run", "partition"]

LLAMA_LIKE = ("llama", "mistral", "qwen2", "qwen3", "glm", "glm4")
"""Those of Transformers' classes whose blocks are Llama's, give or take biases and norms of the heads."""

Run = tuple[int, int]
"""From which number to which, the second not included."""

# Vector registers hold so many numbers.
_UNIT = 16


@dataclass(frozen=True, slots=True)
class Cut:
    """The rows of one tensor that a process holds."""

    rows: int
    """Of the whole tensor."""
    runs: tuple[Run, ...]

    @property
    def held(self) -> int:
        return sum(end - start for start, end in self.runs)

    def of(self, tensor: Tensor) -> Tensor:
        """tensor: [rows, …]. A view where that is possible."""
        parts = [tensor[start:end] for start, end in self.runs]
        return parts[0] if len(parts) == 1 else torch.cat(parts)


@dataclass(frozen=True, slots=True)
class Partition:
    """How one process of `world` shares a model with the others."""

    rank: int
    world: int
    heads: int
    """Of this process; `kv_heads` too."""
    kv_heads: int
    kv_run: Run
    attended: tuple[Run, ...]
    """Of each process: its columns of what attention makes; below, of a block's inner and hidden state, and its
    tokens of the vocabulary."""
    inner: tuple[Run, ...]
    hidden: tuple[Run, ...]
    vocabulary: tuple[Run, ...]
    cuts: Mapping[str, Cut]
    """By the end of a parameter's name."""
    after_attention: str
    """The end of the name of the layer that takes what attention made; `after_inner` of the one behind it."""
    after_inner: str
    embedding: str

    def cut(self, name: str) -> Cut | None:
        """Of the parameter called `name`; None where each process has all of it."""
        layer, _, _ = name.rpartition(".")
        return next((cut for end, cut in self.cuts.items() if _ends(layer, end)), None)

    def gathered_for(self, layer: str) -> tuple[Run, ...] | None:
        """How the input of a layer, by its name, is spread over the processes; None where each has all of it."""
        if _ends(layer, self.after_attention):
            return self.attended
        return self.inner if _ends(layer, self.after_inner) else None


def _ends(name: str, end: str) -> bool:
    return f".{name}".endswith(f".{end}")


def partition(module: nn.Module, rank: int, world: int) -> Partition:
    """Raises ModelFileError for a model that can't be shared by so many processes."""
    sizes, names = _sizes_and_names(module)
    heads, kv_heads, head_dim = sizes.heads, sizes.kv_heads, sizes.head_dim
    _refuse_heads(type(module).__name__, heads, kv_heads, world)
    of_query = _Piece(heads * head_dim, heads)
    of_key = _Piece(kv_heads * head_dim, kv_heads)
    of_inner = _Piece(sizes.inner, _units(sizes.inner, world))
    of_hidden = _Piece(sizes.hidden, _units(sizes.hidden, world))
    of_words = _Piece(sizes.vocabulary, sizes.vocabulary)
    mixed = [of_query, of_key, of_key] if sizes.apart else [_Piece(3 * heads * head_dim, heads)]
    halves = isinstance(module, ChatGLM2ForCausalLM | GLM130BForCausalLM)
    pieces: dict[str, Sequence[_Piece]] = {
        names["attention"]: [of_hidden],
        names["after_inner"]: [of_hidden],
        names["embedding"]: [of_words],
        names["head"]: [of_words],
        "query_key_value": mixed,
        "q_proj": [of_query],
        "k_proj": [of_key],
        "v_proj": [of_key],
        "dense_h_to_4h": [of_inner] * (2 if halves else 1),
        "gate_proj": [of_inner],
        "up_proj": [of_inner],
        "gate_up_proj": [of_inner] * 2,
    }
    return Partition(
        rank=rank,
        world=world,
        heads=heads // world,
        kv_heads=max(1, kv_heads // world),
        kv_run=_Piece(kv_heads, kv_heads).run(rank, world),
        attended=of_query.runs(world),
        inner=of_inner.runs(world),
        hidden=of_hidden.runs(world),
        vocabulary=of_words.runs(world),
        cuts={name: _cut(each, rank, world) for name, each in pieces.items()},
        after_attention=names["attention"],
        after_inner=names["after_inner"],
        embedding=names["embedding"],
    )


@dataclass(frozen=True, slots=True)
class _Sizes:
    """Of a whole model. `apart`: its queries, keys and values stand one behind the other, not by head."""

    heads: int
    kv_heads: int
    head_dim: int
    inner: int
    hidden: int
    vocabulary: int
    apart: bool


def _sizes_and_names(module: nn.Module) -> tuple[_Sizes, Mapping[str, str]]:
    """The names are those of the layers that architectures call differently. Raises ModelFileError."""
    owner: Any = module
    config = owner.config
    if isinstance(module, ChatGLM2ForCausalLM):
        sizes = _Sizes(
            heads=config.num_attention_heads,
            kv_heads=config.num_key_value_heads,
            head_dim=config.kv_channels,
            inner=config.ffn_hidden_size,
            hidden=config.hidden_size,
            vocabulary=config.padded_vocab_size,
            apart=config.multi_query_attention,
        )
        return sizes, _OURS | {"attention": "self_attention.dense", "head": "output_layer"}
    if isinstance(module, ChatGLMForCausalLM | GLM130BForCausalLM | GLMForBlankInfilling):
        sizes = _Sizes(
            heads=config.num_attention_heads,
            kv_heads=config.num_attention_heads,
            head_dim=config.head_dim,
            inner=getattr(config, "inner_hidden_size", 4 * config.hidden_size),
            hidden=config.hidden_size,
            vocabulary=config.vocab_size,
            apart=isinstance(module, GLMForBlankInfilling),
        )
        return sizes, _OURS
    if config.model_type in LLAMA_LIKE:
        sizes = _Sizes(
            heads=config.num_attention_heads,
            kv_heads=config.num_key_value_heads,
            head_dim=int(owner.model.layers[0].self_attn.head_dim),
            inner=config.intermediate_size,
            hidden=config.hidden_size,
            vocabulary=config.vocab_size,
            apart=True,
        )
        return sizes, _LLAMAS
    raise ModelFileError(
        f"{type(module).__name__}: [model] tensor_parallel can't share this architecture; it can share"
        f" ChatGLM, GLM and GLM-130B, and of Transformers' {', '.join(LLAMA_LIKE)}"
    )


_OURS = {
    "attention": "attention.dense",
    "after_inner": "dense_4h_to_h",
    "embedding": "word_embeddings",
    "head": "lm_head",
}
_LLAMAS = {"attention": "o_proj", "after_inner": "down_proj", "embedding": "embed_tokens", "head": "lm_head"}


@dataclass(frozen=True, slots=True)
class _Piece:
    """Neighbouring rows, in so many units that are not cut."""

    rows: int
    units: int

    def run(self, rank: int, world: int) -> Run:
        each = self.rows // self.units
        if self.units < world:
            # Several processes hold the same head of keys and values.
            first = rank * self.units // world
            return first * each, (first + 1) * each
        return self.units * rank // world * each, self.units * (rank + 1) // world * each

    def runs(self, world: int) -> tuple[Run, ...]:
        return tuple(self.run(rank, world) for rank in range(world))


def _cut(pieces: Sequence[_Piece], rank: int, world: int) -> Cut:
    runs: list[Run] = []
    before = 0
    for piece in pieces:
        start, end = piece.run(rank, world)
        runs.append((before + start, before + end))
        before += piece.rows
    return Cut(before, tuple(runs))


def _units(rows: int, world: int) -> int:
    return rows // _UNIT if rows % _UNIT == 0 and rows // _UNIT >= world else rows


def _refuse_heads(name: str, heads: int, kv_heads: int, world: int) -> None:
    if heads % world or (kv_heads % world and world % kv_heads):
        able = [
            str(n) for n in range(2, heads + 1) if not heads % n and (not kv_heads % n or not n % kv_heads)
        ]
        raise ModelFileError(
            f"{name}: has {heads} heads and {kv_heads} of keys and values, which {world} processes can't share;"
            f" [model] tensor_parallel can be {', '.join(able[:12]) or 'only 1'}"
        )
