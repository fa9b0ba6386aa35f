"""How many bytes a model's weights and KV cache take, before or after they are there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeGuard

import torch
from torch import Tensor, nn

from glmbot.engine.base import Precision
from glmbot.models.causal_lm import GlmCausalLM
from glmbot.models.partition import Partition
from glmbot.native.linear import NativeLinear
from glmbot.quantization.formats import GROUP
from glmbot.quantization.linear import QuantizedLinear

__all__ = [
    "BITS",
    "FLOAT_DTYPES",
    "expected_weight_bytes",
    "int4_in_groups",
    "is_linear",
    "is_quantised_layer",
    "parameter_owners",
    "weight_bytes",
]

BITS = {Precision.INT8: 8, Precision.INT4: 4}
FLOAT_DTYPES = {Precision.FP32: torch.float32, Precision.FP16: torch.float16, Precision.BF16: torch.bfloat16}


def weight_bytes(module: nn.Module) -> int:
    """Bytes of all parameters and buffers, shared ones counted once."""
    tensors: dict[int, Tensor] = {}
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.device.type != "meta":
            tensors[tensor.data_ptr()] = tensor
    return sum(tensor.numel() * tensor.itemsize for tensor in tensors.values())


def expected_weight_bytes(
    module: nn.Module,
    precision: Precision,
    counts: Callable[[str], bool] = lambda _: True,
    shard: Partition | None = None,
) -> int:
    """Bytes of the module's parameters once they are at `precision`, of the parts whose name `counts`, and of the
    rows that `shard` has of a whole module. The module may be without weights."""
    float_bytes = FLOAT_DTYPES.get(precision, torch.float16).itemsize
    total = 0
    for prefix, owner in parameter_owners(module):
        if not counts(prefix):
            continue
        if is_linear(owner):
            cut = None if shard is None else shard.cut(f"{prefix}.weight")
            rows = owner.out_features if cut is None else cut.held
            elements = owner.in_features * rows
            if precision in BITS and is_quantised_layer(prefix):
                grouped = precision is Precision.INT4 and int4_in_groups(module, owner.in_features)
                total += elements * BITS[precision] // 8 + 4 * (elements // GROUP if grouped else rows)
            else:
                total += elements * float_bytes
        else:
            for name, parameter in owner.named_parameters(recurse=False):
                cut = None if shard is None else shard.cut(f"{prefix}.{name}")
                share = 1.0 if cut is None else cut.held / cut.rows
                total += int(parameter.numel() * share) * float_bytes
    return total


def is_linear(part: nn.Module) -> TypeGuard[nn.Linear | QuantizedLinear | NativeLinear]:
    """Whether it is what a linear layer can be, depending on precision and device. A class that only inherits from
    nn.Linear, such as a router of experts, computes something of its own."""
    return type(part) is nn.Linear or isinstance(part, QuantizedLinear | NativeLinear)


def is_quantised_layer(name: str) -> bool:
    """Whether INT8 and INT4 apply to the linear layer called `name`: those of the blocks, never the output
    head, whose quantisation costs accuracy for little memory."""
    return ".layers." in f".{name}."


def int4_in_groups(module: nn.Module, in_features: int) -> bool:
    """Whether int4 means groups of columns: ChatGLM's own int4, one scale a row, is a published format."""
    return not isinstance(module, GlmCausalLM) and in_features % GROUP == 0


def parameter_owners(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Name and module of all that holds parameters of its own."""
    for prefix, owner in module.named_modules():
        if is_linear(owner) or any(True for _ in owner.parameters(recurse=False)):
            yield prefix, owner
