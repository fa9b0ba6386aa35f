"""How much memory a model needs at each precision, and how much this machine has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from glmbot.engine.base import Precision
from glmbot.engine.card.outlook import card_bandwidth, outlook, told
from glmbot.engine.kv_cache import Arena
from glmbot.engine.placement import Placement, free_memory, host_parts, parse_devices
from glmbot.engine.precision import available_precisions
from glmbot.engine.sizes import expected_weight_bytes, is_linear, parameter_owners
from glmbot.models.catalogue import CATALOGUE
from glmbot.models.glm130b.configuration import GLM130BConfig
from glmbot.models.partition import partition
from glmbot.models.registry import ModelShape, load

__all__ = [
    "ModelMemory",
    "SharedMemory",
    "card_outlooks",
    "machine_memory",
    "memory_needed",
    "memory_of_cards",
    "memory_parts",
    "model_memory",
    "suggestions",
]


@dataclass(frozen=True, slots=True)
class ModelMemory:
    name: str
    made_by: str
    needs: Mapping[str, int]
    """Precision -> bytes of weights and KV cache."""
    speaks: str = ""
    weights: Mapping[str, int] = field(default_factory=dict[str, int])
    per_token: Mapping[str, int] = field(default_factory=dict[str, int])
    """Bytes of the cache."""


@dataclass(frozen=True, slots=True)
class SharedMemory:
    """Bytes on each of several cards that share a model."""

    name: str
    precision: Precision
    cards: int
    card_gib: int
    weights: int
    cache: int
    working: int

    @property
    def need(self) -> int:
        return self.weights + self.cache + self.working

    @property
    def room(self) -> int:
        return self.card_gib << 30


# The sets of cards that GLM-130B was published for.
_CARDS = ((4, 24), (8, 11))
# While a layer is widened there are its codes, a byte each, and two float16 copies.
_WIDENED_BYTES = 5
# What else runs on a machine wants some too.
_SHARE_TAKEN = 0.7
_SUGGESTED = 3
_LEAST_GOOD = ("bf16", "fp16", "int8", "int4")


def suggestions(rows: Sequence[ModelMemory], free: int) -> list[tuple[ModelMemory, str]]:
    """The largest everyday models that fit into `free` bytes, each with the finest precision that does."""
    found: list[tuple[ModelMemory, str]] = []
    for row in sorted(rows, key=lambda row: -max(row.needs.values())):
        fits = [name for name in _LEAST_GOOD if row.needs.get(name, free) <= _SHARE_TAKEN * free]
        if row.speaks and fits:
            found.append((row, fits[0]))
    return found[:_SUGGESTED]


def memory_of_cards(context: int) -> Sequence[SharedMemory]:
    """Of GLM-130B at int4 with `context` tokens of KV cache, on the cards that it was published for."""
    model = next(each for each in CATALOGUE if isinstance(each.config, GLM130BConfig))
    module, shape = model.open()
    return [_shared(model.repository, module, shape, context, cards, gib) for cards, gib in _CARDS]


def _shared(
    name: str, module: nn.Module, shape: ModelShape, context: int, cards: int, card_gib: int
) -> SharedMemory:
    shard = partition(module, 0, cards)
    cuts = {prefix: shard.cut(f"{prefix}.weight") for prefix, _ in parameter_owners(module)}
    largest = max(
        cut.held * part.in_features
        for prefix, cut in cuts.items()
        if cut is not None and is_linear(part := module.get_submodule(prefix))
    )
    cache = Arena.bytes_per_token(
        layers=shape.layers, kv_heads=shard.kv_heads, head_dim=shape.head_dim, dtype=torch.float16
    )
    return SharedMemory(
        name,
        Precision.INT4,
        cards,
        card_gib,
        weights=expected_weight_bytes(module, Precision.INT4, shard=shard),
        cache=context * cache,
        working=_WIDENED_BYTES * largest,
    )


def machine_memory() -> tuple[str, int]:
    """The devices that a model would go to, in words, and the bytes free on them together."""
    devices = parse_devices("auto")
    names = [torch.cuda.get_device_name(device) for device in devices if device.type == "cuda"]
    return ", ".join(names) or "this machine (CPU)", sum(map(free_memory, devices))


def model_memory(context: int, folder: Path | None = None) -> Sequence[ModelMemory]:
    """Of the published models, or of the one in `folder`, with `context` tokens of KV cache.

    Raises ModelFileError.
    """
    if folder is not None:
        model = load(folder, "sdpa")
        return [_memory_of(model.name, "-", model.module, model.shape, context)]
    return [
        _memory_of(each.repository, each.made_by, *each.open(), context, each.speaks) for each in CATALOGUE
    ]


def card_outlooks(rows: Sequence[ModelMemory]) -> list[str]:
    """What the card at hand has room for, and how fast its memory would let it answer. Without a card: nothing."""
    device = parse_devices("auto")[0]
    if device.type != "cuda":
        return []
    bandwidth, free = card_bandwidth(device), free_memory(device)
    name = torch.cuda.get_device_name(device)
    read = "" if bandwidth is None else f", which reads {bandwidth / 1e9:.0f} GB/s of its memory"
    found = [(row.name, outlook(row.weights, row.per_token, free, bandwidth)) for row in rows]
    lines = [f"  {model}: {told(at)}" for model, at in found if any(one.conversations for one in at)]
    return [f"On {name}{read}:", *lines] if lines else []


def memory_needed(module: nn.Module, shape: ModelShape, device: torch.device, context: int) -> dict[str, int]:
    """Precision -> bytes of weights and of a KV cache of `context` tokens, on devices of the kind of `device`."""
    return _together(*memory_parts(module, shape, device), context)


def memory_parts(
    module: nn.Module, shape: ModelShape, device: torch.device
) -> tuple[dict[str, int], dict[str, int]]:
    """Precision -> bytes of weights, and of a token in the KV cache."""
    placement = Placement(device, parts=host_parts(module, shape, device))
    known = available_precisions(device)
    per_token = {
        precision.value: Arena.bytes_per_token(
            layers=shape.layers,
            kv_heads=shape.kv_heads,
            head_dim=shape.head_dim,
            dtype=placement.dtype(precision),
        )
        for precision in known
    }
    weights = {
        precision.value: expected_weight_bytes(module, precision, lambda name: name not in placement.parts)
        for precision in known
    }
    return weights, per_token


def _memory_of(
    name: str, made_by: str, module: nn.Module, shape: ModelShape, context: int, speaks: str = ""
) -> ModelMemory:
    device = parse_devices("auto")[0]
    weights, per_token = memory_parts(module, shape, device)
    return ModelMemory(name, made_by, _together(weights, per_token, context), speaks, weights, per_token)


def _together(weights: Mapping[str, int], per_token: Mapping[str, int], context: int) -> dict[str, int]:
    return {precision: size + context * per_token[precision] for precision, size in weights.items()}
