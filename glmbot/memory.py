"""How much memory a model needs at each precision, and how much this machine has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from glmbot.engine.kv_cache import Arena
from glmbot.engine.precision import Placement, available_precisions, expected_weight_bytes
from glmbot.engine.runner import free_memory
from glmbot.models.catalogue import CATALOGUE
from glmbot.models.registry import ModelShape, load

__all__ = ["ModelMemory", "default_device", "machine_memory", "memory_needed", "model_memory"]


@dataclass(frozen=True, slots=True)
class ModelMemory:
    name: str
    made_by: str
    needs: Mapping[str, int]
    """Precision -> bytes of weights and KV cache."""


def default_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def machine_memory() -> tuple[str, int]:
    """The device that a model would go to, in words, and the bytes free on it."""
    device = default_device()
    name = torch.cuda.get_device_name() if device.type == "cuda" else "this machine (CPU)"
    return name, free_memory(device)


def model_memory(context: int, folder: Path | None = None) -> Sequence[ModelMemory]:
    """Of the published models, or of the one in `folder`, with `context` tokens of KV cache.

    Raises ModelFileError.
    """
    if folder is not None:
        model = load(folder, "sdpa")
        return [_needs(model.name, "-", model.module, model.shape, context)]
    return [_needs(each.repository, each.made_by, *each.open(), context) for each in CATALOGUE]


def memory_needed(module: nn.Module, shape: ModelShape, placement: Placement, context: int) -> dict[str, int]:
    """Precision -> bytes of weights and of a KV cache of `context` tokens."""
    return {
        precision.value: expected_weight_bytes(module, precision)
        + context
        * Arena.bytes_per_token(
            layers=shape.layers,
            kv_heads=shape.kv_heads,
            head_dim=shape.head_dim,
            dtype=placement.dtype(precision),
        )
        for precision in available_precisions(placement.device)
    }


def _needs(name: str, made_by: str, module: nn.Module, shape: ModelShape, context: int) -> ModelMemory:
    return ModelMemory(name, made_by, memory_needed(module, shape, Placement(default_device()), context))
