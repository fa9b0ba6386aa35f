"""How much memory a model needs at each precision, and how much this machine has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from glmbot.engine.kv_cache import Arena
from glmbot.engine.placement import Placement, free_memory, host_parts, parse_devices
from glmbot.engine.precision import available_precisions
from glmbot.engine.sizes import expected_weight_bytes
from glmbot.models.catalogue import CATALOGUE
from glmbot.models.registry import ModelShape, load

__all__ = ["ModelMemory", "machine_memory", "memory_needed", "model_memory", "suggestions"]


@dataclass(frozen=True, slots=True)
class ModelMemory:
    name: str
    made_by: str
    needs: Mapping[str, int]
    """Precision -> bytes of weights and KV cache."""
    speaks: str = ""


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
        return [ModelMemory(model.name, "-", _needs(model.module, model.shape, context))]
    return [
        ModelMemory(each.repository, each.made_by, _needs(*each.open(), context), each.speaks)
        for each in CATALOGUE
    ]


def memory_needed(module: nn.Module, shape: ModelShape, device: torch.device, context: int) -> dict[str, int]:
    """Precision -> bytes of weights and of a KV cache of `context` tokens, on devices of the kind of `device`."""
    placement = Placement(device, parts=host_parts(module, shape, device))
    cache = {
        precision: context
        * Arena.bytes_per_token(
            layers=shape.layers,
            kv_heads=shape.kv_heads,
            head_dim=shape.head_dim,
            dtype=placement.dtype(precision),
        )
        for precision in available_precisions(device)
    }
    return {
        precision.value: cached
        + expected_weight_bytes(module, precision, lambda name: name not in placement.parts)
        for precision, cached in cache.items()
    }


def _needs(module: nn.Module, shape: ModelShape, context: int) -> Mapping[str, int]:
    return memory_needed(module, shape, parse_devices("auto")[0], context)
