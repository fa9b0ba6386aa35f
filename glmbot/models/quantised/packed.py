"""Weights that GPTQ and AWQ packed into 32-bit words: codes of 4 or 8 bits under a scale and a zero for each group
of inputs.

The layouts are published by code: https://github.com/ModelCloud/GPTQModel and https://github.com/mit-han-lab/llm-awq
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from glmbot.models.weight_files import StoredTensor
from glmbot.quantization.formats import Groups, quantize_groups

__all__ = ["AWQ_PARTS", "GPTQ_PARTS", "PackedTensor", "awq", "gptq"]

GPTQ_PARTS = ("qweight", "qzeros", "scales", "g_idx")
AWQ_PARTS = ("qweight", "qzeros", "scales")
# The columns whose codes follow each other in a word.
_AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
_WORD = 32


@dataclass(frozen=True, slots=True)
class _Codes:
    codes: Tensor
    """uint8 [inputs, outputs]."""
    zeros: Tensor
    """Int32 [groups, outputs]."""
    scales: Tensor
    """Float [groups, outputs]."""
    group_of: Tensor | None
    """Int64 [inputs] where the inputs of a group are no neighbours."""


@dataclass(frozen=True, slots=True)
class PackedTensor:
    """The weight that `parts` stand for, by the last words of their names."""

    parts: Mapping[str, StoredTensor]
    width: int
    """Bits of a code."""
    unpack: Callable[[Mapping[str, Tensor], int], _Codes]

    @property
    def files(self) -> tuple[Path, ...]:
        return tuple(file for part in self.parts.values() for file in part.files)

    @property
    def bits(self) -> int | None:
        return self.width

    def read(self) -> Tensor:
        """Float32 [outputs, inputs]."""
        return _widened(self._codes())

    def groups(self) -> Groups | None:
        found = self._codes()
        if found.group_of is not None:
            # Kernels want neighbours; 8 bits hold what 4 said, whoever its neighbours are.
            weight = _widened(found)
            return quantize_groups(weight, 8) if weight.shape[1] % _WORD == 0 else None
        scale = found.scales.float()
        minimum = (-scale * found.zeros).to(torch.float16)
        return Groups(
            found.codes.t().contiguous(),
            scale.to(torch.float16).t().contiguous(),
            minimum.t().contiguous(),
            self.width,
        )

    def release(self) -> None:
        for part in self.parts.values():
            part.release()

    def _codes(self) -> _Codes:
        return self.unpack({name: part.read() for name, part in self.parts.items()}, self.width)


def gptq(parts: Mapping[str, Tensor], width: int, *, one_more: bool = True) -> _Codes:
    """one_more: whether zeros are stored less 1, as all do but those of checkpoint_format gptq_v2.

    Raises ValueError for parts that do not fit each other.
    """
    packed, scales = _words(parts["qweight"], "qweight"), parts["scales"]
    codes = _apart(packed, width, range(_WORD // width)).transpose(1, 2).flatten(0, 1)
    zeros = _apart(_words(parts["qzeros"], "qzeros"), width, range(_WORD // width)).flatten(1).int()
    _check(codes, zeros, scales)
    group_of = parts.get("g_idx")
    if group_of is not None:
        inputs, groups = codes.shape[0], scales.shape[0]
        in_order = torch.arange(inputs) // max(1, inputs // groups)
        if group_of.shape != (inputs,) or group_of.is_floating_point():
            raise ValueError(f"g_idx has the shape {list(group_of.shape)} for {inputs} inputs")
        group_of = group_of.long()
        if int(group_of.min()) < 0 or int(group_of.max()) >= groups:
            raise ValueError(
                f"g_idx names groups from {int(group_of.min())} to {int(group_of.max())} of {groups}"
            )
        group_of = None if torch.equal(group_of, in_order) else group_of
    if group_of is None and codes.shape[0] % scales.shape[0]:
        raise ValueError(f"{codes.shape[0]} inputs are no {scales.shape[0]} groups")
    return _Codes(codes, zeros + 1 if one_more else zeros, scales, group_of)


def awq(parts: Mapping[str, Tensor], width: int) -> _Codes:
    """Raises ValueError for parts that do not fit each other."""
    codes = _apart(_words(parts["qweight"], "qweight"), width, _AWQ_ORDER).flatten(1)
    zeros = _apart(_words(parts["qzeros"], "qzeros"), width, _AWQ_ORDER).flatten(1).int()
    _check(codes, zeros, parts["scales"])
    if codes.shape[0] % parts["scales"].shape[0]:
        raise ValueError(f"{codes.shape[0]} inputs are no {parts['scales'].shape[0]} groups")
    return _Codes(codes, zeros, parts["scales"], None)


def _widened(found: _Codes) -> Tensor:
    """Float32 [outputs, inputs]."""
    group_of = found.group_of
    if group_of is None:
        inputs, groups = found.codes.shape[0], found.scales.shape[0]
        group_of = torch.arange(inputs) // (inputs // groups)
    scales, zeros = found.scales.float()[group_of], found.zeros.float()[group_of]
    return ((found.codes.float() - zeros) * scales).t().contiguous()


def _words(tensor: Tensor, name: str) -> Tensor:
    if tensor.dtype != torch.int32 or tensor.dim() != 2 or tensor.numel() == 0:
        raise ValueError(
            f"{name} is {tensor.dtype} {list(tensor.shape)}, and must be a matrix of 32-bit words"
        )
    return tensor


def _apart(words: Tensor, width: int, order: Sequence[int]) -> Tensor:
    """int32 [rows, columns] to uint8 [rows, columns, codes of a word], each where `order` says that it stands."""
    shifts = torch.empty(len(order), dtype=torch.int32)
    shifts[torch.tensor(order)] = torch.arange(len(order), dtype=torch.int32) * width
    return (words[:, :, None] >> shifts & (1 << width) - 1).to(torch.uint8)


def _check(codes: Tensor, zeros: Tensor, scales: Tensor) -> None:
    if not scales.is_floating_point() or scales.dim() != 2 or scales.numel() == 0:
        raise ValueError(f"scales are {scales.dtype} {list(scales.shape)}")
    if scales.shape[1] != codes.shape[1] or zeros.shape != scales.shape:
        raise ValueError(
            f"scales {list(scales.shape)}, zeros {list(zeros.shape)} and codes {list(codes.shape)} do not fit each"
            " other"
        )
