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

__all__ = ["ModelMemory", "machine_memory", "memory_needed", "model_memory"]


@dataclass(frozen=True, slots=True)
class ModelMemory:
    name: str
    made_by: str
    needs: Mapping[str, int]
    """Precision -> bytes of weights and KV cache."""


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
        return [_needs(model.name, "-", model.module, model.shape, context)]
    return [_needs(each.repository, each.made_by, *each.open(), context) for each in CATALOGUE]


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


def _needs(name: str, made_by: str, module: nn.Module, shape: ModelShape, context: int) -> ModelMemory:
    return ModelMemory(name, made_by, memory_needed(module, shape, parse_devices("auto")[0], context))
