"""A GGUF file's tensors under the names of the module that they belong to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from gguf import get_tensor_name_map
from torch import Tensor, nn

from glmbot.errors import ModelFileError
from glmbot.models.checkpoint import Checkpoint, Conversion
from glmbot.models.conversion import renamed
from glmbot.models.gguf.architectures import architecture_of
from glmbot.models.gguf.blocks import bits_of, groups_of, widened
from glmbot.models.gguf.header import GgufFile, TensorPlace
from glmbot.models.weight_files import StoredTensor, drop_pages
from glmbot.quantization.formats import Groups

__all__ = ["gguf_checkpoint", "gguf_conversions", "turn_frequencies"]

_FREQUENCIES = "rope_freqs.weight"
# Tables that older files hold and every reader computes.
_COMPUTED = ("attn_rot_embd", "rotary_emb.inv_freq")


@dataclass(frozen=True, slots=True)
class _GgufTensor:
    gguf: GgufFile
    place: TensorPlace

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.gguf.path,)

    @property
    def bits(self) -> int | None:
        return bits_of(self.place.kind)

    def read(self) -> Tensor:
        try:
            return widened(self.gguf, self.place)
        except NotImplementedError as error:
            raise ModelFileError(
                f"{self.gguf.path}: the type {self.place.kind.name} can't be unpacked here; take a file of Q4_K_M,"
                " Q8_0 or F16"
            ) from error

    def groups(self) -> Groups | None:
        return groups_of(self.gguf, self.place)

    def release(self) -> None:
        drop_pages(self.gguf.mapped.ctypes.data + self.place.start, self.place.bytes)


def gguf_checkpoint(file: GgufFile) -> Checkpoint:
    tensors: dict[str, StoredTensor] = {
        name: _GgufTensor(file, place) for name, place in file.tensors.items()
    }
    return Checkpoint(file.path, tensors)


def gguf_conversions(file: GgufFile, module: nn.Module) -> dict[str, Conversion]:
    """What each parameter of `module` is made of. Raises ModelFileError for a tensor that none is made of."""
    owner: Any = module
    kind = architecture_of(file)
    config = owner.config.get_text_config()
    names = get_tensor_name_map(kind.names, int(config.num_hidden_layers))
    made: dict[str, Conversion] = {}
    for name in module.state_dict():
        sources = _sources(name, names, file)
        if sources is not None:
            made[name] = _conversion(name, sources, config, file)
    used = {source for conversion in made.values() for source in conversion.sources}
    for name in file.tensors:
        if name not in used and name != _FREQUENCIES and not name.endswith(_COMPUTED):
            raise ModelFileError(
                f"{file.path}: the tensor {name} has no place in {type(module).__name__}; take the same model as a"
                " folder of safetensors files"
            )
    return made


def _sources(name: str, names: Any, file: GgufFile) -> tuple[str, ...] | None:
    """The file's tensors that the parameter `name` is made of."""
    if name.endswith(".mlp.experts.gate_up_proj"):
        prefix = f"blk.{name.split('.')[2]}"
        found = (f"{prefix}.ffn_gate_exps.weight", f"{prefix}.ffn_up_exps.weight")
    elif name.endswith(".mlp.experts.down_proj"):
        found = (f"blk.{name.split('.')[2]}.ffn_down_exps.weight",)
    else:
        stem, _, leaf = name.rpartition(".")
        known = names.get_name(stem)
        if known is None:
            return None
        found = (f"{known}.{leaf}",)
        if found[0] not in file.tensors and (fused := _fused(found[0])) in file.tensors:
            found = (fused,)
    return found if all(each in file.tensors for each in found) else None


def _fused(name: str) -> str:
    """Where queries, keys and values are one tensor."""
    for part in ("attn_q.", "attn_k.", "attn_v."):
        name = name.replace(part, "attn_qkv.")
    return name


def _conversion(name: str, sources: tuple[str, ...], config: Any, file: GgufFile) -> Conversion:
    kind = architecture_of(file)
    if len(sources) > 1:
        return Conversion(sources, lambda read: torch.cat([read(source) for source in sources], dim=1))
    source = next(iter(sources))
    rows, where = file.tensors[source].shape[0], f"{file.path}: tensor {source}"
    heads, kv_heads = int(config.num_attention_heads), int(config.num_key_value_heads)
    order: Tensor | None = None
    if kind.turned and (".attn_q." in source or ".attn_k." in source):
        order = _turned_back(rows, heads if ".attn_q." in source else kv_heads, where)
    elif ".attn_qkv." in source:
        order = _one_of_three(name, rows, heads, kv_heads, where)
    if order is not None:
        kept = order
        return Conversion(sources, lambda read: read(source)[kept], lambda codes: codes.rows(kept))
    if kind.lifted and source.endswith("norm.weight"):
        return Conversion(sources, lambda read: read(source) - 1)
    return renamed(source)


def _one_of_three(name: str, rows: int, heads: int, kv_heads: int, where: str) -> Tensor:
    """The rows of queries, keys or values where they are one tensor."""
    if rows % (heads + 2 * kv_heads):
        raise ModelFileError(f"{where} has {rows} rows, which are no {heads} and {kv_heads} heads")
    size = rows // (heads + 2 * kv_heads)
    parts = torch.arange(rows).split([heads * size, kv_heads * size, kv_heads * size])
    return parts[0 if ".q_proj." in name else 1 if ".k_proj." in name else 2]


def _turned_back(rows: int, heads: int, where: str) -> Tensor:
    """llama.cpp's llama turns neighbouring rows by one angle; Transformers' turns those half a head apart."""
    if rows % (2 * heads):
        raise ModelFileError(f"{where} has {rows} rows, which are no {heads} heads")
    return torch.arange(rows).reshape(heads, -1, 2).transpose(1, 2).flatten()


def turn_frequencies(file: GgufFile, module: nn.Module) -> None:
    """Divide the rotary frequencies as the file says it (Llama 3.1 and its like). Raises ModelFileError."""
    place = file.tensors.get(_FREQUENCIES)
    if place is None:
        return
    factors = widened(file, place).to(torch.float32)
    for name, buffer in list(module.named_buffers()):
        if name.endswith("inv_freq"):
            if buffer.shape != factors.shape or not bool((factors > 0).all()):
                raise ModelFileError(
                    f"{file.path}: tensor {_FREQUENCIES} does not fit {list(buffer.shape)} angles"
                )
            prefix, _, leaf = name.rpartition(".")
            module.get_submodule(prefix).register_buffer(leaf, buffer / factors, persistent=False)
