"""A model's tensors by the names that its module knows, read one at a time.

Where they come from is another's business: the files of a folder, a GGUF file, or several tensors that somebody
quantised one into. What a module wants under another name, or made of several, is said by conversions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from torch import Tensor

from glmbot.errors import ModelFileError
from glmbot.models.glm130b.ranks import columns_scaled_apart, has_ranks
from glmbot.models.weight_files import StoredTensor, open_ranks, open_weights
from glmbot.quantization.formats import Groups

__all__ = ["Checkpoint", "Conversion"]


@dataclass(frozen=True, slots=True)
class Conversion:
    """A tensor that is made of stored ones, the `sources`. `make` is called with what reads one of those."""

    sources: tuple[str, ...]
    make: Callable[[Callable[[str], Tensor]], Tensor]
    codes: Callable[[Groups], Groups] | None = None
    """What becomes of the codes of its only source, where they stay codes."""


def _unchanged(groups: Groups) -> Groups:
    return groups


class Checkpoint:
    """All tensors of a model by name. Every error names the file, and the tensor where there is one."""

    def __init__(self, folder: Path, tensors: Mapping[str, StoredTensor] | None = None) -> None:
        """tensors: those of the folder's own files when None is given.

        Raises ModelFileError when weights are missing, truncated, or not plain tensors.
        """
        self.folder = folder
        self._ranks = 1
        if tensors is None and has_ranks(folder):
            tensors, self._ranks = open_ranks(folder)
        self._tensors = dict(open_weights(folder) if tensors is None else tensors)
        self._conversions: dict[str, Conversion] = {}
        self._changes: dict[str, list[Callable[[Tensor], Tensor]]] = {}

    def add(self, other: Checkpoint, part: str) -> None:
        """Take over the tensors of another checkpoint whose names hold `part`."""
        self._tensors |= {name: tensor for name, tensor in other._tensors.items() if part in name}

    def replace(self, gone: Set[str], made: Mapping[str, StoredTensor]) -> None:
        """Some tensors are parts of others, which stand in their place from now on."""
        self._tensors = {name: tensor for name, tensor in self._tensors.items() if name not in gone} | dict(
            made
        )

    def convert(self, conversions: Mapping[str, Conversion]) -> None:
        """From now on these tensors have names, too."""
        self._conversions |= conversions

    def change(self, name: str, change: Callable[[Tensor], Tensor]) -> None:
        """From now on the tensor is read so changed."""
        self._changes.setdefault(name, []).append(change)

    def scaled_apart(self, name: str) -> int:
        """In how many runs of columns a weight of this checkpoint is quantised, each with scales of its own: its
        published int8 and int4 scale what each model-parallel rank has."""
        return columns_scaled_apart(name, self._ranks)

    def names(self) -> set[str]:
        return {*self._tensors, *self._conversions}

    def stored(self, name: str) -> StoredTensor:
        """Raises ModelFileError."""
        if (tensor := self._tensors.get(name)) is None:
            raise ModelFileError(f"{self.folder}: no file holds the tensor {name}")
        return tensor

    @property
    def bytes(self) -> int:
        """Of all files together."""
        files = {file for tensor in self._tensors.values() for file in tensor.files}
        return sum(file.stat().st_size for file in files)

    def file_of(self, name: str) -> Path:
        return self.stored(self._sources(name)[0]).files[0]

    def bits(self, name: str) -> int | None:
        """4 or 8 where others quantised it."""
        return self.stored(self._sources(name)[0]).bits

    def read(self, name: str) -> Tensor:
        """The tensor as stored, or as it is made of stored ones, on the CPU. Raises ModelFileError."""
        conversion = self._conversions.get(name)
        changes = self._changes.get(name, ())
        if conversion is None and not changes:
            return self._read_stored(name)
        try:
            made = self._read_stored(name) if conversion is None else conversion.make(self._read_stored)
            for change in changes:
                made = change(made)
            return made
        except ModelFileError:
            raise
        except Exception as error:  # whatever Transformers' operations trip over in tensors of odd shapes
            raise ModelFileError(
                f"{self.file_of(name)}: {name} can't be made of {', '.join(self._sources(name)[:3])}: {error}"
            ) from error

    def groups(self, name: str) -> Groups | None:
        """The tensor's codes, where others quantised it in a form that ours reads. Raises ModelFileError."""
        conversion = self._conversions.get(name)
        codes = _unchanged if conversion is None else conversion.codes
        if name in self._changes or codes is None:
            return None
        stored = self.stored(self._sources(name)[0])
        try:
            found = stored.groups()
            if found is not None and not found.finite():
                raise ValueError("scales hold NaN or infinity (in float16)")
            return None if found is None else codes(found)
        except (ValueError, RuntimeError, OSError) as error:
            raise ModelFileError(f"{stored.files[0]}: tensor {name} can't be read: {error}") from error

    def _sources(self, name: str) -> tuple[str, ...]:
        conversion = self._conversions.get(name)
        return (name,) if conversion is None else conversion.sources

    def _read_stored(self, name: str) -> Tensor:
        tensor = self.stored(name)
        try:
            return tensor.read()
        except (SafetensorError, RuntimeError, OSError, KeyError, ValueError) as error:
            raise ModelFileError(f"{tensor.files[0]}: tensor {name} can't be read: {error}") from error

    def release(self, name: str) -> None:
        """Let go of the memory that the tensor `name` is mapped into; a later `read` finds it on disk again.

        Without this the pages of all shards stay with the process while a model is loaded. Nobody may still
        use what `read` returned for it.
        """
        for source in self._sources(name):
            self.stored(source).release()
