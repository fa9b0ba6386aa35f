"""What several processes that share a model say to each other within a step: torch's own collectives.

gloo on CPUs, bound to this machine's loopback; NCCL on NVIDIA cards. They meet over a file in a folder that only
this user can read, so nobody else can join. A process that ends or stands still makes the others' exchange fail.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from glmbot.models.partition import Partition, Run

__all__ = ["TensorGroup", "join_parts"]

# Between two exchanges lies a matrix's product at most.
_EXCHANGE_S = 60
_LOOPBACK = "127.0.0.1"
# What gloo adds up and moves.
_GLOO_DTYPES = (torch.float32, torch.float16)


class TensorGroup:
    """One process's end. All of them must make the same calls in the same order."""

    def __init__(self, meeting: str, rank: int, world: int, device: torch.device) -> None:
        """Waits for the others. Raises RuntimeError when they do not come, or one of them ends."""
        self.rank = rank
        self.world = world
        self._device = device
        owner: Any = dist
        store = owner.FileStore(meeting, world)
        if device.type == "cuda":
            torch.cuda.set_device(device)
            # Where NCCL's processes find each other; what they exchange goes from card to card.
            os.environ.setdefault("NCCL_SOCKET_IFNAME", "lo")
            options = owner.ProcessGroupNCCL.Options()
            options._timeout = timedelta(seconds=_EXCHANGE_S)
            self._group: Any = owner.ProcessGroupNCCL(store, rank, world, options)
        else:
            options = owner.ProcessGroupGloo._Options()
            options._devices = [owner.ProcessGroupGloo.create_device(hostname=_LOOPBACK)]
            options._timeout = timedelta(seconds=_EXCHANGE_S)
            self._group = owner.ProcessGroupGloo(store, rank, world, options)

    def gather(self, part: Tensor, whole: Tensor, runs: Sequence[Run]) -> None:
        """part: [tokens, columns of this process]; fills whole [tokens, all columns]. Raises RuntimeError."""
        widest = max(end - start for start, end in runs)
        mine = part
        if part.shape[1] != widest or part.dtype not in _GLOO_DTYPES:
            # All parts must be of one size.
            mine = torch.zeros(part.shape[0], widest, dtype=self._carried(part.dtype), device=part.device)
            mine[:, : part.shape[1]] = part
        parts = [torch.empty_like(mine, memory_format=torch.contiguous_format) for _ in runs]
        self._group.allgather([parts], [mine.contiguous()]).wait()
        for (start, end), each in zip(runs, parts, strict=True):
            whole[:, start:end] = each[:, : end - start]

    def add(self, tensor: Tensor) -> Tensor:
        """The sum over all processes. Raises RuntimeError."""
        carried = tensor.to(self._carried(tensor.dtype)).contiguous()
        self._group.allreduce([carried]).wait()
        return carried.to(tensor.dtype)

    def close(self) -> None:
        """Others that wait for this process fail then."""
        self._group = None

    def _carried(self, dtype: torch.dtype) -> torch.dtype:
        return dtype if self._device.type == "cuda" or dtype in _GLOO_DTYPES else torch.float32


def join_parts(module: nn.Module, shard: Partition, group: TensorGroup) -> list[RemovableHandle]:
    """Have the module's own code gather what its layers make in parts, until the hooks are removed."""
    hooks: list[RemovableHandle] = []
    for name, part in module.named_modules():
        runs = shard.gathered_for(name)
        if runs is not None:
            hooks.append(part.register_forward_pre_hook(_gathering_input(group, runs)))
            hooks.append(part.register_forward_hook(_gathering_output(group, shard.hidden)))
        elif f".{name}".endswith(f".{shard.embedding}"):
            own = shard.vocabulary[shard.rank]
            hooks.append(part.register_forward_pre_hook(_own_words(own)))
            hooks.append(part.register_forward_hook(_adding_words(group)))
    return hooks


def _wholly(group: TensorGroup, part: Tensor, runs: Sequence[Run]) -> Tensor:
    rows = part.reshape(-1, part.shape[-1])
    whole = rows.new_empty(rows.shape[0], runs[-1][1])
    group.gather(rows, whole, runs)
    return whole.reshape(*part.shape[:-1], -1)


def _gathering_input(group: TensorGroup, runs: Sequence[Run]) -> Any:
    def hook(_module: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (_wholly(group, arguments[0], runs), *arguments[1:])

    return hook


def _gathering_output(group: TensorGroup, runs: Sequence[Run]) -> Any:
    def hook(_module: nn.Module, _arguments: tuple[Tensor, ...], made: Tensor) -> Tensor:
        return _wholly(group, made, runs)

    return hook


def _own_words(run: Run) -> Any:
    def hook(module: Any, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        ids = arguments[0]
        module._glmbot_own = (ids >= run[0]) & (ids < run[1])
        return ((ids - run[0]).clamp(0, run[1] - run[0] - 1), *arguments[1:])

    return hook


def _adding_words(group: TensorGroup) -> Any:
    def hook(module: Any, _arguments: tuple[Tensor, ...], made: Tensor) -> Tensor:
        own = module._glmbot_own.to(made.device)
        # Every other process has zeros there, so that the sum is exact.
        return group.add(made.masked_fill(~own[..., None], 0))

    return hook
