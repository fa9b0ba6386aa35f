"""Which device holds which part of the model: one, or its layers one after another over several GPUs."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import psutil
import torch
from accelerate.hooks import AlignDevicesHook, add_hook_to_module
from torch import nn

from glmbot.engine.base import Precision
from glmbot.engine.kv_cache import Arena
from glmbot.engine.sizes import FLOAT_DTYPES, expected_weight_bytes
from glmbot.errors import ConfigError
from glmbot.models.partition import Cut, Partition, partition
from glmbot.models.registry import LoadedModel, ModelShape

__all__ = [
    "Placement",
    "align",
    "ending_with",
    "free_memory",
    "host_parts",
    "parse_devices",
    "place",
    "shared_devices",
    "shared_placement",
    "spread",
    "table_fits",
]


@dataclass(frozen=True, slots=True)
class Placement:
    """Where each module's tensors go and in which dtype activations are computed."""

    device: torch.device
    """Of the logits, and of every module that `parts` does not name."""
    activations: torch.dtype | None = None
    """None is what the device computes fastest at each precision."""
    parts: Mapping[str, torch.device] = field(default_factory=dict[str, torch.device])
    """Module name -> device: layers on other GPUs, embeddings in the host's memory."""
    shard: Partition | None = None
    """Which rows of each tensor this process holds, where several share the model."""
    plain: bool = False
    """Whether a card computes by torch's modules alone."""

    def dtype(self, precision: Precision) -> torch.dtype:
        """The dtype of hidden states and KV cache. torch's CPU operators for packed weights are fast with
        bfloat16 only."""
        if precision in FLOAT_DTYPES:
            return FLOAT_DTYPES[precision]
        if self.activations is not None:
            return self.activations
        return torch.bfloat16 if self.device.type == "cpu" else torch.float16

    @property
    def embeds_on_host(self) -> bool:
        """Whether a card computes, and the table of embeddings stays in the host's memory."""
        return any(device.type == "cpu" for device in self.parts.values())

    @property
    def nvidia(self) -> bool:
        """Whether it computes on NVIDIA's cards. AMD's go by the same name, and have other instructions."""
        return self.device.type == "cuda" and torch.version.hip is None

    def device_of(self, name: str) -> torch.device:
        """The device of the module or tensor called `name`."""
        while name:
            if name in self.parts:
                return self.parts[name]
            name = name.rpartition(".")[0]
        return self.device

    def cut(self, name: str) -> Cut | None:
        """The rows of the parameter called `name` that are here; None for all."""
        return None if self.shard is None else self.shard.cut(name)

    @property
    def devices(self) -> tuple[torch.device, ...]:
        """Those of the kind that computes, each once, the one of the logits first."""
        used = dict.fromkeys((self.device, *self.parts.values()))
        return tuple(device for device in used if device.type == self.device.type)


def parse_devices(words: str) -> list[torch.device]:
    """ "auto", "cpu", "cuda", "cuda:1", or several GPUs: "cuda:0,cuda:1". Raises ConfigError."""
    if words == "auto":
        count = torch.cuda.device_count()
        return [torch.device("cuda", index) for index in range(count)] or [torch.device("cpu")]
    try:
        devices = [torch.device(word.strip()) for word in words.split(",")]
    except RuntimeError as error:
        raise ConfigError(
            f'[model] device: "{words}" names no device; use auto, cpu, cuda, cuda:1 or cuda:0,cuda:1'
        ) from error
    devices = [torch.device("cuda", 0) if device == torch.device("cuda") else device for device in devices]
    if len(set(devices)) < len(devices) or (len(devices) > 1 and any(d.type != "cuda" for d in devices)):
        raise ConfigError(f'[model] device: "{words}": only different GPUs can be named together')
    return devices


def place(
    module: nn.Module,
    shape: ModelShape,
    devices: Sequence[torch.device],
    precision: Precision,
    cache_tokens: int,
    *,
    plain: bool = False,
) -> Placement:
    """On the first device alone when weights and KV cache fit there, or the layers spread over all devices. plain:
    see `Placement`."""
    first = devices[0]
    parts = host_parts(module, shape, first)
    alone = Placement(first, parts=parts, plain=plain)
    if parts and not plain and _has_room_for_tables(module, shape, alone, cache_tokens):
        return replace(alone, parts={})
    if len(devices) == 1:
        return alone
    rest = expected_weight_bytes(
        module, precision, lambda name: ".layers." not in f".{name}." and name not in parts
    )
    layer = cache_tokens * Arena.bytes_per_token(
        layers=1, kv_heads=shape.kv_heads, head_dim=shape.head_dim, dtype=alone.dtype(precision)
    )
    of_layer = f"{shape.layer_names[0]}."
    layer += expected_weight_bytes(module, precision, lambda name: name.startswith(of_layer))
    room = [free_memory(device) for device in devices]
    if rest + layer * shape.layers <= room[0]:
        return alone
    chosen = spread(shape.layers, layer, rest, room)
    return Placement(
        first,
        parts=parts
        | {
            name: devices[index]
            for name, index in zip(shape.layer_names, chosen, strict=True)
            if devices[index] != first
        },
        plain=plain,
    )


def shared_placement(
    model: LoadedModel, device: torch.device, rank: int, world: int, activations: torch.dtype | None = None
) -> Placement:
    """Of one of the `world` processes that share a model. Raises ModelFileError when they can't."""
    return Placement(device, activations, shard=partition(model.module, rank, world))


def shared_devices(devices: Sequence[torch.device], world: int) -> list[torch.device]:
    """Of each process: a GPU of its own, or the same CPU. Raises ConfigError."""
    if devices[0].type == "cpu":
        return [devices[0]] * world
    if len(devices) < world:
        raise ConfigError(
            f"[model] tensor_parallel is {world}, and there are {len(devices)} GPUs for it; each process needs one"
        )
    return list(devices[:world])


def host_parts(module: nn.Module, shape: ModelShape, device: torch.device) -> dict[str, torch.device]:
    """What stays in the host's memory although the model computes on `device`: on a GPU, a table of token
    embeddings that is not the output head too. A step reads few of its rows."""
    owner: Any = module
    if device.type == "cpu" or getattr(owner.config, "tie_word_embeddings", False):
        return {}
    parts = list(module.named_modules())
    if not any(isinstance(part, nn.Linear) and part.out_features == shape.vocabulary for _, part in parts):
        return {}
    return {
        name: torch.device("cpu")
        for name, part in parts
        if isinstance(part, nn.Embedding) and part.num_embeddings == shape.vocabulary
    }


def table_fits(table: int, needs: Iterable[int], room: int) -> bool:
    """Whether a table of embeddings goes to the card: it must take away no precision that the card has room for.
    needs: bytes at each precision without it."""
    reached = [need for need in needs if need <= room]
    return bool(reached) and max(reached) + table <= room


def _has_room_for_tables(
    module: nn.Module, shape: ModelShape, placement: Placement, cache_tokens: int
) -> bool:
    def bytes_of(precision: Precision, *, tables: bool) -> int:
        return expected_weight_bytes(module, precision, lambda name: (name in placement.parts) is tables)

    def cache(precision: Precision) -> int:
        each = Arena.bytes_per_token(
            layers=shape.layers,
            kv_heads=shape.kv_heads,
            head_dim=shape.head_dim,
            dtype=placement.dtype(precision),
        )
        return cache_tokens * each

    at = (Precision.FP16, Precision.INT8, Precision.INT4)
    needs = [bytes_of(each, tables=False) + cache(each) for each in at]
    # A cache that sizes itself takes half of what is left.
    table = bytes_of(Precision.FP16, tables=True) + cache(Precision.FP16)
    return table_fits(table, needs, free_memory(placement.device))


def spread(layers: int, layer_bytes: int, first_bytes: int, room: Sequence[int]) -> list[int]:
    """The device of each layer, as an index into `room` (bytes free on each): a contiguous run for each
    device, filled in proportion to its room. `first_bytes` are on device 0 besides its layers.

    What does not fit at all is spread all the same; loading then says how much is missing.
    """
    total = first_bytes + layers * layer_bytes
    whole = sum(room) or 1
    chosen: list[int] = []
    filled = 0.0
    for device, free in enumerate(room):
        filled += free / whole * total
        # All devices up to this one hold this many layers between them.
        count = layers if device == len(room) - 1 else round((filled - first_bytes) / max(1, layer_bytes))
        chosen += [device] * (min(layers, max(count, len(chosen))) - len(chosen))
    return chosen


def align(module: nn.Module, shape: ModelShape, placement: Placement) -> None:
    """Make hidden states follow the parts from device to device, and come back at the end. Weights must be
    where they belong already."""
    layers = shape.layer_names
    for name, device in placement.parts.items():
        if name not in layers:
            _hook(module, name, AlignDevicesHook(execution_device=device, io_same_device=True))
    if any(name in placement.parts for name in layers):
        for name in layers[:-1]:
            _hook(module, name, AlignDevicesHook(execution_device=placement.device_of(name)))
        # What follows the last layer is where the logits are.
        _hook(module, layers[-1], _ReturnHook(placement.device_of(layers[-1]), placement.device))


@contextmanager
def ending_with(module: nn.Module, name: str, placement: Placement) -> Generator[None]:
    """As if this layer were the last one: hidden states come back after it."""
    hook = getattr(module.get_submodule(name), "_hf_hook", None)
    if hook is None:
        yield
        return
    _hook(module, name, _ReturnHook(placement.device_of(name), placement.device))
    try:
        yield
    finally:
        _hook(module, name, hook)


def _hook(module: nn.Module, name: str, hook: Any) -> None:
    add_hook_to_module(module.get_submodule(name), hook)


class _ReturnHook(AlignDevicesHook):
    def __init__(self, device: torch.device, home: torch.device) -> None:
        super().__init__(execution_device=device, io_same_device=True)
        self._home = home

    def pre_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        moved = super().pre_forward(module, *args, **kwargs)
        self.input_device = self._home
        return moved


def free_memory(device: torch.device) -> int:
    """Bytes that a new allocation may take. Devices that don't say it share the machine's memory."""
    told = getattr(getattr(torch, device.type, None), "mem_get_info", None)
    return psutil.virtual_memory().available if told is None else int(told(device)[0])
