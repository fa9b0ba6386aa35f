"""GLM-130B's checkpoint as published: a part of each tensor in the file of each model-parallel rank.

A folder holds a file `latest` with the step's number, and in a folder of that name a file for each rank. How many
ranks there are is the files' number; the published converter makes any number that divides the heads.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from glmbot.errors import ModelFileError

__all__ = [
    "RANK_FILE",
    "columns_scaled_apart",
    "has_ranks",
    "join",
    "part_of",
    "rank_files",
    "split",
]

RANK_FILE = "mp_rank_{:02d}_model_states.pt"
_RANK_FILE = re.compile(r"mp_rank_(\d{2,4})_model_states\.pt")
_STEP = re.compile(r"[A-Za-z0-9_-]{1,64}")
_MOST_LATEST_BYTES = 256
# By the end of a tensor's name. What is not here is the same on each rank.
_ROWS = (
    "word_embeddings.weight",
    "query_key_value.weight",
    "query_key_value.bias",
    "query_key_value.weight_scale",
)
_HALVES = ("dense_h_to_4h.weight", "dense_h_to_4h.bias", "dense_h_to_4h.weight_scale")
_COLUMNS = ("attention.dense.weight", "dense_4h_to_h.weight")
_SCALES_OF_COLUMNS = ("attention.dense.weight_scale", "dense_4h_to_h.weight_scale")


def has_ranks(folder: Path) -> bool:
    return (folder / "latest").is_file()


def rank_files(folder: Path) -> list[Path]:
    """The file of each rank, in order. Raises ModelFileError when they are not whole."""
    latest = folder / "latest"
    try:
        with latest.open("rb") as opened:
            step = opened.read(_MOST_LATEST_BYTES).decode("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ModelFileError(f"{latest}: not readable: {error}") from error
    if not _STEP.fullmatch(step):
        raise ModelFileError(f"{latest}: names no step; it holds one number, such as 49300")
    if not (folder / step).is_dir():
        raise ModelFileError(f"{folder / step}: missing; {latest.name} names it")
    found = [file for file in (folder / step).iterdir() if _RANK_FILE.fullmatch(file.name)]
    if not found:
        raise ModelFileError(f"{folder / step}: holds no {RANK_FILE.format(0)}")
    files = [folder / step / RANK_FILE.format(rank) for rank in range(len(found))]
    for file in files:
        if not file.is_file():
            raise ModelFileError(f"{file}: missing; {len(found)} ranks are there, numbered from 00")
    return files


def split(name: str, tensor: Tensor, ranks: int) -> list[Tensor]:
    """What each rank holds of a tensor; of an int4 weight the bytes are split. Raises ValueError when it can't be
    cut so."""
    return [part_of(name, tensor, rank, ranks) for rank in range(ranks)]


def part_of(name: str, tensor: Tensor, rank: int, ranks: int) -> Tensor:
    if name.endswith(_COLUMNS):
        return _cut(name, tensor, 1, ranks)[rank]
    if name.endswith(_SCALES_OF_COLUMNS):
        if tensor.numel() != ranks * tensor.shape[0]:
            raise ValueError(f"{name} was quantised for another number of ranks than {ranks}")
        return tensor.view(-1, ranks)[:, rank]
    if name.endswith(_HALVES):
        plain, gated = _cut(name, tensor, 0, 2)
        return torch.cat((_cut(name, plain, 0, ranks)[rank], _cut(name, gated, 0, ranks)[rank]))
    return _cut(name, tensor, 0, ranks)[rank] if name.endswith(_ROWS) else tensor


def _cut(name: str, tensor: Tensor, dim: int, parts: int) -> tuple[Tensor, ...]:
    if tensor.dim() <= dim or tensor.shape[dim] % parts:
        raise ValueError(f"{name} {list(tensor.shape)} can't be cut into {parts} equal parts")
    return tensor.chunk(parts, dim)


def join(name: str, parts: Sequence[Tensor]) -> Tensor:
    """The whole tensor. Scales of a weight that was cut by columns become [rows, ranks]: each rank has its own."""
    if len(parts) == 1:
        return parts[0]
    if name.endswith(_COLUMNS):
        return torch.cat(list(parts), dim=1)
    if name.endswith(_SCALES_OF_COLUMNS):
        return torch.stack(list(parts), dim=1)
    if name.endswith(_HALVES):
        halves = [_cut(name, part, 0, 2) for part in parts]
        return torch.cat([half[0] for half in halves] + [half[1] for half in halves])
    return torch.cat(list(parts)) if name.endswith(_ROWS) else parts[0]


def columns_scaled_apart(name: str, ranks: int) -> int:
    """In how many runs of columns, each with scales of its own, the weight called `name` is quantised: rows are
    scaled after they were partitioned."""
    return ranks if name.endswith(_COLUMNS) else 1
