"""LoRA adapters as PEFT saves them, merged into the weights while those are read.

A weight becomes W + alpha / r · B A, or that of a module which was trained whole. https://huggingface.co/docs/peft
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from glmbot.errors import ModelFileError
from glmbot.models.checkpoint import Checkpoint
from glmbot.models.family import read_json
from glmbot.models.weight_files import StoredTensor, open_weights_file

__all__ = ["Adapter", "check_adapter", "merge_adapters", "open_adapter"]

_PREFIX = "base_model.model."
_FILES = ("adapter_model.safetensors", "adapter_model.bin")
_ENDINGS = (".lora_A.weight", ".lora_B.weight", ".lora_embedding_A", ".lora_embedding_B")
_MOST_TENSORS = 65_536
_HIGHEST_RANK = 8_192
# What makes an adapter compute something else than a sum.
_UNREAD = ("use_dora", "use_qalora", "lora_bias", "trainable_token_indices", "target_parameters",
           "alora_invocation_tokens", "arrow_config", "use_bdlora")  # fmt: skip

_Change = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Adapter:
    file: Path
    alpha: float
    rank_stabilised: bool
    alphas: Mapping[str, float]
    """By patterns of the names of modules."""
    transposed: bool
    """Whether weights of the base lie as [in, out]."""
    base: str
    tensors: Mapping[str, StoredTensor]
    """Without PEFT's own prefix."""


def open_adapter(folder: Path) -> Adapter:
    """Raises ModelFileError."""
    check_adapter(folder)
    config = folder / "adapter_config.json"
    fields = read_json(config)
    kind = str(fields.get("peft_type", ""))[:30]
    if kind != "LORA":
        raise ModelFileError(
            f"{config}: peft_type is {kind!r}, and LORA is read; merge it with peft, and use the result"
        )
    for key in _UNREAD:
        if fields.get(key):
            raise ModelFileError(
                f"{config}: {key} is set, which is not read here; merge it with peft, and use the result"
            )
    file = next((folder / name for name in _FILES if (folder / name).is_file()), None)
    if file is None:
        raise ModelFileError(f"{folder}: no {_FILES[0]} here")
    shard = open_weights_file(file)
    if len(names := shard.names()) > _MOST_TENSORS:
        raise ModelFileError(f"{file}: holds {len(names)} tensors, at most {_MOST_TENSORS} are read")
    alphas: Any = fields.get("alpha_pattern") or {}
    if not isinstance(alphas, dict):
        raise ModelFileError(f"{config}: alpha_pattern is no object")
    return Adapter(
        file,
        _number(config, "lora_alpha", fields.get("lora_alpha")),
        bool(fields.get("use_rslora")),
        {
            str(name): _number(config, f"alpha_pattern of {name}", value)
            for name, value in cast(dict[str, Any], alphas).items()
        },
        bool(fields.get("fan_in_fan_out")),
        str(fields.get("base_model_name_or_path") or "its base model")[:200],
        {_plain(name): shard.tensor(name) for name in names},
    )


def _plain(name: str) -> str:
    """Without what PEFT wraps modules in."""
    return re.sub(r"\.(base_layer|modules_to_save)\.", ".", name.removeprefix(_PREFIX))


def check_adapter(folder: Path) -> None:
    """Raises ModelFileError for a folder that holds no adapter."""
    if not (folder / "adapter_config.json").is_file():
        raise ModelFileError(
            f"{folder / 'adapter_config.json'}: missing; [model] adapters names folders that PEFT has saved"
        )


def merge_adapters(module: nn.Module, checkpoint: Checkpoint, folders: Sequence[Path]) -> None:
    """From now on `checkpoint` reads weights with all adapters merged. Raises ModelFileError for what does not fit
    the module."""
    shapes = {name: parameter.shape for name, parameter in module.named_parameters(remove_duplicate=False)}
    names = checkpoint.names()
    for folder in folders:
        adapter = open_adapter(folder)
        changes = _changes(adapter, shapes)
        if not changes:
            raise ModelFileError(f"{adapter.file}: holds no weights")
        for name, change in changes.items():
            if name not in names:
                raise ModelFileError(
                    f"{adapter.file}: changes {name}, which the weights share with another tensor"
                )
            if f"{name}_scale" in names:
                raise ModelFileError(
                    f"{adapter.file}: changes {name}, whose weights are quantised; let [model] path name the"
                    " release in float16"
                )
            checkpoint.change(name, change)


def _changes(adapter: Adapter, shapes: Mapping[str, torch.Size]) -> dict[str, _Change]:
    changes: dict[str, _Change] = {}
    for name, tensor in adapter.tensors.items():
        ending = next((each for each in _ENDINGS if name.endswith(each)), None)
        if ending is None:
            _fitting(adapter, name, name, shapes)
            changes[name] = _whole(tensor, shapes[name], f"{adapter.file}: {name}")
        elif "_A" in ending:
            other = f"{name.removesuffix(ending)}{ending.replace('_A', '_B')}"
            if other not in adapter.tensors:
                raise ModelFileError(f"{adapter.file}: {other} is missing beside {name}")
            stem = name.removesuffix(ending)
            weight = f"{stem}.weight"
            _fitting(adapter, name, weight, shapes)
            transposed = adapter.transposed or "embedding" in ending
            changes[weight] = _low_rank(
                adapter, stem, tensor, adapter.tensors[other], shapes[weight], transposed=transposed
            )
        elif f"{name.removesuffix(ending)}{ending.replace('_B', '_A')}" not in adapter.tensors:
            raise ModelFileError(f"{adapter.file}: {name} stands alone")
    return changes


def _fitting(adapter: Adapter, stored: str, name: str, shapes: Mapping[str, torch.Size]) -> None:
    if name not in shapes:
        raise ModelFileError(
            f"{adapter.file}: the tensor {stored} is for a part that this model does not have; the adapter was"
            f" made for {adapter.base}"
        )


def _low_rank(
    adapter: Adapter, stem: str, down: StoredTensor, up: StoredTensor, shape: torch.Size, *, transposed: bool
) -> _Change:
    first, second = down.read(), up.read()
    where = f"{adapter.file}: {stem}"
    rank = first.shape[0] if first.dim() == 2 else 0
    wanted = (shape[1], shape[0]) if transposed else tuple(shape)
    if (
        not 0 < rank <= _HIGHEST_RANK
        or (second.shape[0], *first.shape[1:]) != wanted
        or second.shape[1:] != (rank,)
    ):
        raise ModelFileError(
            f"{where} has A {list(first.shape)} and B {list(second.shape)} for weights of {list(shape)}; the"
            f" adapter was made for {adapter.base}"
        )
    alpha = next(
        (value for pattern, value in adapter.alphas.items() if _means(pattern, stem, where)), adapter.alpha
    )
    scale = alpha / (math.sqrt(rank) if adapter.rank_stabilised else rank)

    def change(weight: Tensor) -> Tensor:
        delta = scale * (up.read().float() @ down.read().float())
        return weight.float() + (delta.t() if transposed else delta)

    return change


def _means(pattern: str, stem: str, where: str) -> bool:
    """As PEFT has it: the end of a module's name, dots first, or an expression for it."""
    if re.fullmatch(r"[\w.]+", pattern):
        return f".{stem}".endswith(f".{pattern}")
    raise ModelFileError(f"{where}: alpha_pattern {pattern[:80]!r} is an expression, which is not read here")


def _whole(tensor: StoredTensor, shape: torch.Size, where: str) -> _Change:
    found = tensor.read()
    if found.shape != shape:
        raise ModelFileError(f"{where} has shape {list(found.shape)}, the model needs {list(shape)}")
    return lambda _: tensor.read()


def _number(file: Path, key: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ModelFileError(f"{file}: {key} is {str(value)[:50]!r}, and must be a number")
    return float(value)
