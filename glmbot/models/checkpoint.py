"""Reading a model folder's weights one tensor at a time, without running code from it.

The published layouts: `model*.safetensors` and `pytorch_model*.bin`, whole or in shards with an index; and
GLM-130B's, a part of each tensor in the file of each model-parallel rank.
Tensors are memory-mapped, so that only what is being converted is ever in memory.
"""

from __future__ import annotations

import ctypes
import mmap
import pickle
import sys
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from glmbot.errors import ModelFileError
from glmbot.models.family import read_json
from glmbot.models.glm130b.ranks import columns_scaled_apart, has_ranks, joined, rank_files

__all__ = ["Checkpoint", "Conversion"]

# Only Linux drops clean pages of a mapped file in this way; elsewhere they go when memory is short.
_libc: ctypes.CDLL | None = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None

_MOST_INDEX_BYTES = 64 << 20
_LAYOUTS = ("model.safetensors", "pytorch_model.bin")
_SUFFIXES = (".safetensors", ".bin")


class _Shard(Protocol):
    def names(self) -> list[str]: ...

    def read(self, name: str) -> Tensor: ...


class _SafetensorsShard:
    def __init__(self, path: Path) -> None:
        self._file: Any = safe_open(path, framework="pt")

    def names(self) -> list[str]:
        return list(self._file.keys())

    def read(self, name: str) -> Tensor:
        return cast(Tensor, self._file.get_tensor(name))


class _PickledShard:
    """`weights_only` refuses every pickle that holds anything but tensors and plain containers."""

    def __init__(self, path: Path) -> None:
        self._tensors = _tensors_by_name(_unpickled(path))

    def names(self) -> list[str]:
        return list(self._tensors)

    def read(self, name: str) -> Tensor:
        return self._tensors[name]


class _RankShard:
    """One rank's file. Its tensors are known by the rank and their name, since each rank has a part of each."""

    def __init__(self, path: Path, rank: int) -> None:
        loaded = _unpickled(path)
        if not isinstance(loaded, dict) or "module" not in loaded:
            raise pickle.UnpicklingError('not a dictionary with the weights in "module"')
        self.parts = _tensors_by_name(cast(dict[str, object], loaded)["module"])
        self._rank = rank

    def stored(self, name: str) -> str:
        return f"{self._rank}/{name}"

    def names(self) -> list[str]:
        return [self.stored(name) for name in self.parts]

    def read(self, name: str) -> Tensor:
        return self.parts[name.partition("/")[2]]


def _unpickled(path: Path) -> object:
    # torch before 1.6 wrote no zip files, and only those can be mapped.
    mapped = zipfile.is_zipfile(path)
    return cast(object, torch.load(path, map_location="cpu", mmap=mapped, weights_only=True))


def _tensors_by_name(loaded: object) -> dict[str, Tensor]:
    if not isinstance(loaded, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor)
        for name, value in cast(dict[object, object], loaded).items()
    ):
        raise pickle.UnpicklingError("not a dictionary of tensors by name")
    return cast(dict[str, Tensor], loaded)


@dataclass(frozen=True, slots=True)
class Conversion:
    """A tensor that is made of stored ones, the `sources`. `make` is called with what reads one of those."""

    sources: tuple[str, ...]
    make: Callable[[Callable[[str], Tensor]], Tensor]


class Checkpoint:
    """All tensors of a model folder by name. Every error names the file, and the tensor where there is one."""

    def __init__(self, folder: Path) -> None:
        """Raises ModelFileError when weights are missing, truncated, or not plain tensors."""
        self.folder = folder
        self._shards: dict[Path, _Shard] = {}
        self._file_of: dict[str, Path] = {}
        self._conversions: dict[str, Conversion] = {}
        self._ranks = 1
        if has_ranks(folder):
            self._open_ranks()
            return
        for file in _weight_files(folder):
            path = folder / file
            self._shards[path] = _open(path)
            self._file_of |= dict.fromkeys(self._shards[path].names(), path)
        self._check_index()

    def _open_ranks(self) -> None:
        shards: list[_RankShard] = []
        for rank, path in enumerate(rank_files(self.folder)):
            shard = cast(_RankShard, _open(path, rank))
            if shards and shard.parts.keys() != shards[0].parts.keys():
                unlike = min(shard.parts.keys() ^ shards[0].parts.keys())
                raise ModelFileError(f"{path}: holds other tensors than rank 0, such as {unlike}")
            shards.append(shard)
            self._shards[path] = shard
            self._file_of |= dict.fromkeys(shard.names(), path)
        self._ranks = len(shards)
        for name in shards[0].parts:
            stored = tuple(shard.stored(name) for shard in shards)
            self._conversions[name] = Conversion(stored, partial(joined, name, stored))

    def scaled_apart(self, name: str) -> int:
        """In how many runs of columns a weight of this checkpoint is quantised, each with scales of its own: its
        published int8 and int4 scale what each model-parallel rank has."""
        return columns_scaled_apart(name, self._ranks)

    def add(self, other: Checkpoint, part: str) -> None:
        """Take over the tensors of another checkpoint whose names hold `part`."""
        self._shards |= other._shards
        self._file_of |= {name: file for name, file in other._file_of.items() if part in name}

    def convert(self, conversions: Mapping[str, Conversion]) -> None:
        """From now on these tensors have names, too."""
        self._conversions |= conversions

    def names(self) -> set[str]:
        return {*self._file_of, *self._conversions}

    @property
    def bytes(self) -> int:
        """Of all files together."""
        return sum(path.stat().st_size for path in self._shards)

    def file_of(self, name: str) -> Path:
        return self._file_of[self._sources(name)[0]]

    def read(self, name: str) -> Tensor:
        """The tensor as stored, or as it is made of stored ones, on the CPU. Raises ModelFileError."""
        conversion = self._conversions.get(name)
        if conversion is None:
            return self._read_stored(name)
        try:
            return conversion.make(self._read_stored)
        except ModelFileError:
            raise
        except Exception as error:  # whatever Transformers' operations trip over in tensors of odd shapes
            raise ModelFileError(
                f"{self.file_of(name)}: {name} can't be made of {', '.join(conversion.sources[:3])}: {error}"
            ) from error

    def _sources(self, name: str) -> tuple[str, ...]:
        conversion = self._conversions.get(name)
        return (name,) if conversion is None else conversion.sources

    def _read_stored(self, name: str) -> Tensor:
        file = self._file_of.get(name)
        if file is None:
            raise ModelFileError(f"{self.folder}: no file holds the tensor {name}")
        try:
            return self._shards[file].read(name)
        except (SafetensorError, RuntimeError, OSError, KeyError) as error:
            raise ModelFileError(f"{file}: tensor {name} can't be read: {error}") from error

    def release(self, name: str) -> None:
        """Let go of the memory that the tensor `name` is mapped into; a later `read` finds it on disk again.

        Without this the pages of all shards stay with the process while a model is loaded. Nobody may still
        use what `read` returned for it.
        """
        for source in self._sources(name):
            self._release_stored(source)

    def _release_stored(self, name: str) -> None:
        if _libc is None:
            return
        tensor = self._read_stored(name)
        first = -(-tensor.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
        last = (tensor.data_ptr() + tensor.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
        if last > first:
            _libc.madvise(ctypes.c_void_p(first), ctypes.c_size_t(last - first), mmap.MADV_DONTNEED)

    def _check_index(self) -> None:
        for layout in _LAYOUTS:
            index = self.folder / f"{layout}.index.json"
            if index.exists() and any(
                file.suffix == Path(layout).suffix and file.name != layout for file in self._shards
            ):
                promised = _read_index(index)
                for name, file in promised.items():
                    if name not in self._file_of:
                        raise ModelFileError(f"{self.folder / file}: the tensor {name} is missing from it")


def _weight_files(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise ModelFileError(f"{folder}: there is no such model folder")
    for layout in _LAYOUTS:
        index = folder / f"{layout}.index.json"
        if index.exists():
            files = sorted(set(_read_index(index).values()))
            if (folder / layout).is_file() and not all((folder / file).is_file() for file in files):
                # The shards were merged, and their index was left beside.
                return [layout]
            for file in files:
                if not (folder / file).is_file():
                    raise ModelFileError(f"{folder / file}: this shard is missing; {index.name} names it")
            return files
        if (folder / layout).is_file():
            return [layout]
    raise ModelFileError(
        f"{folder}: no weights here; expected {_LAYOUTS[0]} or {_LAYOUTS[1]}, whole or with an index"
    )


def _read_index(index: Path) -> dict[str, str]:
    try:
        weight_map = read_json(index, _MOST_INDEX_BYTES)["weight_map"]
        files = {str(name): str(file) for name, file in weight_map.items()}
    except (KeyError, AttributeError) as error:
        raise ModelFileError(f"{index}: not a readable weight index: {error}") from error
    for file in files.values():
        if Path(file).name != file:
            raise ModelFileError(f"{index}: {file!r} points outside the folder")
        if Path(file).suffix not in _SUFFIXES:
            raise ModelFileError(f"{index}: {file!r} is no weights file")
    return files


def _open(path: Path, rank: int | None = None) -> _Shard:
    """rank: of a file that is one rank's."""
    try:
        if rank is not None:
            return _RankShard(path, rank)
        return _SafetensorsShard(path) if path.suffix == ".safetensors" else _PickledShard(path)
    except SafetensorError as error:
        raise ModelFileError(f"{path}: not a whole safetensors file ({error}); download it again") from error
    except pickle.UnpicklingError as error:
        raise ModelFileError(f"{path}: holds other things than tensors and is refused: {error}") from error
    except (RuntimeError, OSError, EOFError, ValueError) as error:
        raise ModelFileError(f"{path}: not a whole weights file ({error}); download it again") from error
