"""What stands before the tensors of a GGUF file: its metadata, and where each tensor is.

The libraries that read GGUF believe its counts and lengths. Here each has a bound, and whatever points outside the
file is refused before it is followed.
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from numpy.typing import NDArray

from glmbot.errors import ModelFileError

__all__ = ["GgufFile", "TensorPlace", "Value", "open_gguf"]

Value = int | float | bool | str | list[int] | list[float] | list[bool] | list[str]

_MAGIC, _VERSIONS = b"GGUF", (2, 3)
_MOST_KEYS, _MOST_TENSORS = 4_096, 65_536
_LONGEST_NAME = 512
_LONGEST_STRING = 1 << 20
_MOST_ELEMENTS = 1 << 22
"""Of all arrays. Vocabularies have a quarter of a million words with a score and a type each, and twice as many
merges."""
_MOST_METADATA = 256 << 20
_MOST_DIMENSIONS = 4
_LARGEST_ALIGNMENT = 1 << 16
_STRING, _ARRAY = 8, 9
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_AGAIN = "download it again"


@dataclass(frozen=True, slots=True)
class TensorPlace:
    shape: tuple[int, ...]
    """As torch has it: the dimension whose elements are neighbours comes last."""
    kind: GGMLQuantizationType
    start: int
    """In bytes, from the beginning of the file."""
    bytes: int


@dataclass(frozen=True, slots=True)
class GgufFile:
    path: Path
    metadata: Mapping[str, Value]
    tensors: Mapping[str, TensorPlace]
    mapped: NDArray[np.uint8]
    """The whole file; read only, and read from disk where it is looked at."""

    @property
    def architecture(self) -> str:
        return str(self.metadata["general.architecture"])


def open_gguf(path: Path) -> GgufFile:
    """Raises ModelFileError for what is cut off, points outside the file, or is larger than any model's."""
    if not path.is_file():
        # Opening a pipe would wait for its other end.
        raise ModelFileError(f"{path}: not a regular file; put the model's file there")
    try:
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        raise ModelFileError(f"{path}: can't be read: {error}") from error
    reader = _Reader(path, mapped)
    try:
        metadata, tensors = _read(reader)
    except struct.error as error:
        raise ModelFileError(f"{path}: cut off at byte {reader.at}; {_AGAIN}") from error
    return GgufFile(path, metadata, tensors, np.frombuffer(mapped, np.uint8))


class _Reader:
    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self.path, self.data, self.at = path, data, 0
        self._elements = 0

    def numbers(self, form: str) -> tuple[int | float | bool, ...]:
        form = f"<{form}"
        found = struct.unpack_from(form, self.data, self.at)
        self.at += struct.calcsize(form)
        return found

    def whole(self, form: str, what: str, most: int) -> int:
        (found,) = self.numbers(form)
        if found > most:
            raise self.refused(f"{what} is {found}, at most {most} is read")
        return int(found)

    def string(self, what: str, longest: int = _LONGEST_STRING) -> str:
        length = self.whole("Q", f"the length of {what}", longest)
        if self.at + length > len(self.data):
            raise struct.error
        raw = self.data[self.at : self.at + length]
        self.at += length
        if self.at > _MOST_METADATA:
            raise self.refused(f"the metadata are longer than {_MOST_METADATA} bytes")
        # A word of a vocabulary may be a piece of a character.
        return raw.decode("utf-8", "replace")

    def value(self, key: str) -> Value:
        kind = self.whole("I", f"the type of {key}", max(_NUMBERS))
        if kind == _STRING:
            return self.string(key)
        if kind != _ARRAY:
            (found,) = self.numbers(_NUMBERS[kind])
            return found
        kind = self.whole("I", f"the type in {key}", max(_NUMBERS))
        if kind == _ARRAY:
            raise self.refused(f"{key} is an array of arrays")
        count = self.whole("Q", f"the length of {key}", _MOST_ELEMENTS - self._elements)
        self._elements += count
        if kind == _STRING:
            return [self.string(f"a text in {key}", _LONGEST_NAME * 8) for _ in range(count)]
        return list(self.numbers(f"{count}{_NUMBERS[kind]}"))

    def refused(self, reason: str) -> ModelFileError:
        return ModelFileError(f"{self.path}: {reason}; it is damaged or no model: {_AGAIN}")


def _read(reader: _Reader) -> tuple[dict[str, Value], dict[str, TensorPlace]]:
    if reader.data[:4] != _MAGIC:
        raise reader.refused("does not begin with GGUF")
    reader.at = 4
    (version,) = reader.numbers("I")
    if version not in _VERSIONS:
        raise ModelFileError(
            f"{reader.path}: GGUF version {version} (or written by a big-endian machine); versions 2 and 3 are"
            " read: convert the model anew with llama.cpp of today"
        )
    tensors = reader.whole("Q", "the number of tensors", _MOST_TENSORS)
    keys = reader.whole("Q", "the number of metadata keys", _MOST_KEYS)
    metadata: dict[str, Value] = {}
    for _ in range(keys):
        key = reader.string("a key", _LONGEST_NAME)
        if key in metadata:
            raise reader.refused(f"the key {key[:80]!r} is there twice")
        metadata[key] = reader.value(key)
    if not isinstance(metadata.get("general.architecture"), str):
        raise reader.refused("general.architecture is missing")
    alignment = metadata.get("general.alignment", 32)
    if (
        not isinstance(alignment, int)
        or not 0 < alignment <= _LARGEST_ALIGNMENT
        or alignment & (alignment - 1)
    ):
        raise reader.refused(f"general.alignment is {alignment}, and must be a power of two")
    described: dict[str, tuple[tuple[int, ...], int, int]] = {}
    for _ in range(tensors):
        name = reader.string("a tensor's name", _LONGEST_NAME)
        if name in described:
            raise reader.refused(f"the tensor {name[:80]!r} is there twice")
        dimensions = reader.whole("I", f"the number of dimensions of {name}", _MOST_DIMENSIONS)
        shape = tuple(int(size) for size in reversed(reader.numbers(f"{dimensions}Q")))
        kind, offset = reader.numbers("IQ")
        described[name] = shape, int(kind), int(offset)
    start = -(-reader.at // alignment) * alignment
    return metadata, _places(reader, described, start, alignment)


def _places(
    reader: _Reader, described: Mapping[str, tuple[tuple[int, ...], int, int]], start: int, alignment: int
) -> dict[str, TensorPlace]:
    places: dict[str, TensorPlace] = {}
    whole, size = 0, len(reader.data)
    for name, (shape, number, offset) in described.items():
        try:
            kind = GGMLQuantizationType(number)
        except ValueError as error:
            raise ModelFileError(
                f"{reader.path}: tensor {name} has the type {number}, which the gguf package does not know; take"
                " a file of Q4_K_M, Q8_0 or F16"
            ) from error
        columns, block_bytes = GGML_QUANT_SIZES[kind]
        # Not one of them may be 0, or a shape without end would take no bytes.
        if not shape or min(shape) < 1 or shape[-1] % columns:
            raise reader.refused(f"tensor {name} of type {kind.name} has the shape {list(shape)}")
        length = prod(shape) // columns * block_bytes
        if offset % alignment or start + offset + length > size:
            raise reader.refused(f"tensor {name} lies at {start + offset}, {length} bytes long, of {size}")
        whole += length
        places[name] = TensorPlace(shape, kind, start + offset, length)
    if whole > size:
        raise reader.refused(f"its tensors have {whole} bytes together, and the file {size}")
    return places
