"""The weights files of a model folder, opened without running code from them.

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
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from glmbot.errors import ModelFileError
from glmbot.models.family import read_json
from glmbot.models.glm130b.ranks import join, rank_files
from glmbot.quantization.formats import Groups

__all__ = ["StoredTensor", "drop_pages", "open_ranks", "open_weights", "open_weights_file"]

# Only Linux drops clean pages of a mapped file in this way; elsewhere they go when memory is short.
_libc: ctypes.CDLL | None = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None

_MOST_INDEX_BYTES = 64 << 20
_LAYOUTS = ("model.safetensors", "pytorch_model.bin")
_SUFFIXES = (".safetensors", ".bin")


class StoredTensor(Protocol):
    """A tensor of a file, or of several tensors that were made of one."""

    @property
    def files(self) -> tuple[Path, ...]: ...

    @property
    def bits(self) -> int | None:
        """4 or 8 where others quantised it, else None."""
        ...

    def read(self) -> Tensor:
        """On the CPU, as floats where others quantised it."""
        ...

    def groups(self) -> Groups | None:
        """Its codes, where others quantised it in a form that kernels of ours read."""
        ...

    def release(self) -> None:
        """Let go of the memory that it is mapped into."""
        ...


class _Shard(ABC):
    """One file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @abstractmethod
    def names(self) -> list[str]: ...

    @abstractmethod
    def read(self, name: str) -> Tensor: ...

    def tensor(self, name: str) -> StoredTensor:
        return _FloatTensor(self, name)


@dataclass(frozen=True, slots=True)
class _FloatTensor:
    """As it is in a shard. ChatGLM's own int8 and int4 are such, too."""

    shard: _Shard
    name: str
    bits: int | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.shard.path,)

    def read(self) -> Tensor:
        return self.shard.read(self.name)

    def groups(self) -> Groups | None:
        return None

    def release(self) -> None:
        tensor = self.read()
        drop_pages(tensor.data_ptr(), tensor.nbytes)


@dataclass(frozen=True, slots=True)
class _JoinedTensor:
    """A part of it is in the file of each rank."""

    name: str
    parts: tuple[StoredTensor, ...]
    bits: int | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        return tuple(file for part in self.parts for file in part.files)

    def read(self) -> Tensor:
        return join(self.name, [part.read() for part in self.parts])

    def groups(self) -> Groups | None:
        return None

    def release(self) -> None:
        for part in self.parts:
            part.release()


class _SafetensorsShard(_Shard):
    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._file: Any = safe_open(path, framework="pt")

    def names(self) -> list[str]:
        return list(self._file.keys())

    def read(self, name: str) -> Tensor:
        return cast(Tensor, self._file.get_tensor(name))


class _PickledShard(_Shard):
    """`weights_only` refuses every pickle that holds anything but tensors and plain containers."""

    def __init__(self, path: Path, key: str | None = None) -> None:
        """key: what the tensors are under, where they are not the whole file."""
        super().__init__(path)
        # torch before 1.6 wrote no zip files, and only those can be mapped.
        mapped = zipfile.is_zipfile(path)
        loaded: Any = torch.load(path, map_location="cpu", mmap=mapped, weights_only=True)
        if key is not None:
            if not isinstance(loaded, dict) or key not in loaded:
                raise pickle.UnpicklingError(f'not a dictionary with the weights in "{key}"')
            loaded = cast(dict[str, object], loaded)[key]
        if not isinstance(loaded, dict) or not all(
            isinstance(name, str) and isinstance(value, Tensor)
            for name, value in cast(dict[object, object], loaded).items()
        ):
            raise pickle.UnpicklingError("not a dictionary of tensors by name")
        self._tensors = cast(dict[str, Tensor], loaded)

    def names(self) -> list[str]:
        return list(self._tensors)

    def read(self, name: str) -> Tensor:
        return self._tensors[name]


def drop_pages(address: int, length: int) -> None:
    """Let go of the whole pages of a mapped file within this memory; who looks again has them read from disk."""
    first = -(-address // mmap.PAGESIZE) * mmap.PAGESIZE
    last = (address + length) // mmap.PAGESIZE * mmap.PAGESIZE
    if _libc is not None and last > first:
        _libc.madvise(ctypes.c_void_p(first), ctypes.c_size_t(last - first), mmap.MADV_DONTNEED)


def open_weights(folder: Path) -> dict[str, StoredTensor]:
    """All tensors of the folder's files. Raises ModelFileError when they are missing, truncated, or no plain
    tensors."""
    tensors: dict[str, StoredTensor] = {}
    files = [folder / name for name in _weight_files(folder)]
    for file in files:
        shard = open_weights_file(file)
        tensors |= {name: shard.tensor(name) for name in shard.names()}
    _check_index(folder, files, tensors)
    return tensors


def open_ranks(folder: Path) -> tuple[dict[str, StoredTensor], int]:
    """All tensors of GLM-130B's checkpoint as published, and how many ranks hold parts of them. Raises
    ModelFileError."""
    shards: list[_Shard] = []
    for path in rank_files(folder):
        shard = open_weights_file(path, ranked=True)
        if shards and (unlike := {*shard.names()} ^ {*shards[0].names()}):
            raise ModelFileError(f"{path}: holds other tensors than rank 0, such as {min(unlike)}")
        shards.append(shard)
    return {
        name: _JoinedTensor(name, tuple(shard.tensor(name) for shard in shards)) for name in shards[0].names()
    }, len(shards)


def _check_index(folder: Path, files: list[Path], tensors: dict[str, StoredTensor]) -> None:
    for layout in _LAYOUTS:
        index = folder / f"{layout}.index.json"
        if index.exists() and any(
            file.suffix == Path(layout).suffix and file.name != layout for file in files
        ):
            for name, file in _read_index(index).items():
                if name not in tensors:
                    raise ModelFileError(f"{folder / file}: the tensor {name} is missing from it")


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


def open_weights_file(path: Path, *, ranked: bool = False) -> _Shard:
    """One file, by its suffix; or that of one model-parallel rank. Raises ModelFileError."""
    try:
        if ranked:
            return _PickledShard(path, "module")
        return _SafetensorsShard(path) if path.suffix == ".safetensors" else _PickledShard(path)
    except SafetensorError as error:
        raise ModelFileError(f"{path}: not a whole safetensors file ({error}); download it again") from error
    except pickle.UnpicklingError as error:
        raise ModelFileError(f"{path}: holds other things than tensors and is refused: {error}") from error
    except (RuntimeError, OSError, EOFError, ValueError) as error:
        raise ModelFileError(f"{path}: not a whole weights file ({error}); download it again") from error
