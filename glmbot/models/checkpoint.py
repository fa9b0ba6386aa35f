"""Reading a model folder's weights one tensor at a time, without running code from it.

Both published layouts: `model*.safetensors` and `pytorch_model*.bin`, whole or in shards with an index.
Tensors are memory-mapped, so that only what is being converted is ever in memory.
"""

from __future__ import annotations

import ctypes
import mmap
import pickle
import sys
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from glmbot.errors import ModelFileError
from glmbot.models.family import read_json

__all__ = ["Checkpoint"]

# Only Linux drops clean pages of a mapped file in this way; elsewhere they go when memory is short.
_libc: ctypes.CDLL | None = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None

_MOST_INDEX_BYTES = 64 << 20
_LAYOUTS = ("model.safetensors", "pytorch_model.bin")


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
        loaded: Any = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
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


class Checkpoint:
    """All tensors of a model folder by name. Every error names the file, and the tensor where there is one."""

    def __init__(self, folder: Path) -> None:
        """Raises ModelFileError when weights are missing, truncated, or not plain tensors."""
        self.folder = folder
        self._shards: dict[Path, _Shard] = {}
        self._file_of: dict[str, Path] = {}
        for file in _weight_files(folder):
            path = folder / file
            self._shards[path] = _open(path)
            self._file_of |= dict.fromkeys(self._shards[path].names(), path)
        self._check_index()

    def add(self, other: Checkpoint, part: str) -> None:
        """Take over the tensors of another checkpoint whose names hold `part`."""
        self._shards |= other._shards
        self._file_of |= {name: file for name, file in other._file_of.items() if part in name}

    def names(self) -> set[str]:
        return set(self._file_of)

    @property
    def bytes(self) -> int:
        """Of all files together."""
        return sum(path.stat().st_size for path in self._shards)

    def file_of(self, name: str) -> Path:
        return self._file_of[name]

    def read(self, name: str) -> Tensor:
        """The tensor as stored, on the CPU. Raises ModelFileError."""
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
        if _libc is None:
            return
        tensor = self.read(name)
        first = -(-tensor.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
        last = (tensor.data_ptr() + tensor.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
        if last > first:
            _libc.madvise(ctypes.c_void_p(first), ctypes.c_size_t(last - first), mmap.MADV_DONTNEED)

    def _check_index(self) -> None:
        for layout in _LAYOUTS:
            index = self.folder / f"{layout}.index.json"
            if index.exists() and any(file.suffix == Path(layout).suffix for file in self._shards):
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
    return files


def _open(path: Path) -> _Shard:
    try:
        return _SafetensorsShard(path) if path.suffix == ".safetensors" else _PickledShard(path)
    except SafetensorError as error:
        raise ModelFileError(f"{path}: not a whole safetensors file ({error}); download it again") from error
    except pickle.UnpicklingError as error:
        raise ModelFileError(f"{path}: holds other things than tensors and is refused: {error}") from error
    except (RuntimeError, OSError, EOFError, ValueError) as error:
        raise ModelFileError(f"{path}: not a whole weights file ({error}); download it again") from error
