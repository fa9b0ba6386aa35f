"""What a card has room for, and how fast its memory would let it answer. Pure numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

__all__ = ["CONVERSATION", "Outlook", "bandwidth_of", "card_bandwidth", "outlook", "told"]

CONVERSATION = 2048
"""Tokens."""
_GB = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Outlook:
    """At one precision. conversations: of CONVERSATION tokens each that fit together, 0 where not one does. speed:
    tokens a second of one such conversation at the most, None where nobody knows what the card reads in one."""

    precision: str
    weights: int
    conversations: int
    speed: float | None


def outlook(
    weights: Mapping[str, int], per_token: Mapping[str, int], room: int, bandwidth: float | None
) -> list[Outlook]:
    """weights, per_token: precision -> bytes, of all that a step reads and of a token in the cache."""
    made: list[Outlook] = []
    for precision, size in weights.items():
        each = CONVERSATION * per_token[precision]
        speed = None if bandwidth is None else bandwidth / max(1, size + each)
        made.append(Outlook(precision, size, max(0, room - size) // max(1, each), speed))
    return made


def told(found: Sequence[Outlook]) -> str:
    """In one line."""
    words: list[str] = []
    for one in found:
        size = f"{one.precision} {one.weights / _GB:.1f} GB"
        if not one.conversations:
            words.append(f"{size}, no room")
            continue
        speed = "" if one.speed is None else f", at most {one.speed:.0f} tokens/s each"
        words.append(f"{size} and {one.conversations} conversations of {CONVERSATION} tokens{speed}")
    return "; ".join(words)


def bandwidth_of(memory_clock_khz: int, bus_bits: int) -> float | None:
    """Bytes a second; two words go over the bus in a cycle. Of the clock as CUDA tells it:
    https://developer.nvidia.com/blog/how-query-device-properties-and-handle-errors-cuda-cc/"""
    return 2 * memory_clock_khz * 1000 * bus_bits / 8 if memory_clock_khz > 0 and bus_bits > 0 else None


def card_bandwidth(device: torch.device) -> float | None:
    """None where this release of torch, or the card's driver, does not tell."""
    if device.type != "cuda":
        return None
    properties: Any = torch.cuda.get_device_properties(device)
    return bandwidth_of(
        getattr(properties, "memory_clock_rate", 0), getattr(properties, "memory_bus_width", 0)
    )
