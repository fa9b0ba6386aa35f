"""From a model folder to a module, a chat format and a checkpoint to read its weights from.

Architectures come from Transformers, without running code from the folder. The module starts without
weights (on the meta device); `glmbot.engine.precision` fills it at the wanted precision.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import init_empty_weights
from torch import nn
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    PreTrainedConfig,
)

from glmbot.errors import GlmbotError, ModelFileError
from glmbot.models.adapters import merge_adapters
from glmbot.models.base import ChatFormat, Speechless
from glmbot.models.causal_lm import GlmCausalLM
from glmbot.models.chatglm.family import register_chatglm, settle_generation
from glmbot.models.checkpoint import Checkpoint
from glmbot.models.conversion import conversions
from glmbot.models.family import (
    FamilyTokenizer,
    first_line,
    read_json,
    refuse_monsters,
    refuse_odd_files,
    shortened,
)
from glmbot.models.foreign import (
    refuse_foreign_folder,
    refuse_foreign_tensors,
    refuse_foreign_weights,
    unfit,
    unlike_heads,
)
from glmbot.models.gguf.architectures import read_fields
from glmbot.models.gguf.header import GgufFile
from glmbot.models.gguf.model import gguf_in
from glmbot.models.gguf.weights import gguf_checkpoint, gguf_conversions, turn_frequencies
from glmbot.models.glm.configuration import BlankInfillingConfig, is_blank_infilling
from glmbot.models.glm.family import register_glm
from glmbot.models.glm130b.configuration import GLM130BConfig
from glmbot.models.glm130b.family import register_glm130b
from glmbot.models.glm130b.ranks import has_ranks
from glmbot.models.long_rope import LongRopePositions
from glmbot.models.positions import CausalPositions, PositionScheme
from glmbot.models.quantised.join import join_quantised, quantised_by
from glmbot.models.talk import read_talk

__all__ = [
    "LoadedModel",
    "ModelShape",
    "check_folder",
    "empty_module",
    "load",
    "load_tokenizer",
    "model_name",
    "model_shape",
    "opening",
    "register_families",
]


_log = logging.getLogger(__name__)

_OWN_ATTENTION = "it brings its own attention, which can't share one batch and KV cache"
_LARGEST_BUFFERS = 1 << 30
# Those whose `prepare_inputs_for_generation` drops the cache at the boundary of LongRoPE.
_BEGINNING_ANEW = ("phi3", "phimoe", "phi4_multimodal")
# int4 puts two weights into a byte, tied weights are stored once, and a small model's files are mostly headers.
_MOST_WEIGHTS_PER_BYTE = 3
_FEW_WEIGHTS = 1 << 20
_PREFIX_EMBEDDING = "prefix_encoder.embedding.weight"


@dataclass(frozen=True, slots=True)
class ModelShape:
    """What the KV cache must know."""

    layers: int
    kv_heads: int
    head_dim: int
    positions: int
    vocabulary: int
    layer_names: tuple[str, ...]
    """Module names of the blocks, first to last."""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    name: str
    module: nn.Module
    checkpoint: Checkpoint
    chat_format: ChatFormat
    shape: ModelShape
    positions: PositionScheme
    stop_tokens: frozenset[int]
    generation_defaults: dict[str, Any]


def load(
    folder: Path,
    attention: str,
    prefix: Path | None = None,
    chat_format: str = "auto",
    *,
    thinks: bool = True,
    adapters: Sequence[Path] = (),
    speaks: bool = True,
) -> LoadedModel:
    """Open the model in `folder`, with `attention` as its Transformers attention implementation.

    `prefix` is the folder of a P-Tuning v2 checkpoint made for this model. `chat_format`: see `settle_generation`.
    `thinks`: False asks a model that can do without not to think before it answers. `adapters`: folders of LoRA
    adapters to merge. `speaks`: False leaves the tokenizer and the chat format out, for who computes only.
    Raises ModelFileError that names the file and what is wrong with it.
    """
    with opening(folder):
        gguf = gguf_in(folder)
        model = _load(folder, attention, prefix, chat_format, adapters, gguf)
        if not speaks:
            return model
        talk = read_talk(folder, cast(Any, model.module).config, thinks, gguf)
    positions = model.positions
    if talk.positions is not None:
        positions = talk.positions
        setattr(model.module, "position_scheme", positions)  # noqa: B010 - nn.Module's stubs know tensors only
    return replace(
        model,
        chat_format=talk.chat_format,
        positions=positions,
        stop_tokens=talk.stop_tokens,
        generation_defaults=talk.generation_defaults,
    )


@contextmanager
def opening(folder: Path) -> Generator[None]:
    """Whatever a library trips over that reads this folder is a fault of the folder: a ModelFileError."""
    try:
        yield
    except ModelFileError as error:
        # A file can hold names of any length.
        if (words := shortened(str(error))) != str(error):
            raise ModelFileError(words) from error
        raise
    except (GlmbotError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # a panic of the tokenizers' library is no Exception
        _log.debug("%s", folder, exc_info=True)
        words = first_line(error)
        raise ModelFileError(f"{folder}: can't be opened ({type(error).__name__}: {words})") from error


def _load(
    folder: Path,
    attention: str,
    prefix: Path | None,
    chat_format: str,
    adapters: Sequence[Path],
    gguf: GgufFile | None,
) -> LoadedModel:
    file = folder / "config.json" if gguf is None else gguf.path
    config = _read_config(folder, gguf)
    settle_generation(folder, config, chat_format)
    checkpoint = Checkpoint(folder) if gguf is None else gguf_checkpoint(gguf)
    join_quantised(file, quantised_by(config.to_dict()), checkpoint)
    refuse_foreign_tensors(folder, checkpoint.names())
    if prefix is not None:
        _add_prefix(config, checkpoint, Checkpoint(prefix))
    _refuse_absurd_sizes(config, attention, file, checkpoint)
    module = empty_module(config, attention, file)
    if gguf is not None:
        checkpoint.convert(gguf_conversions(gguf, module))
        turn_frequencies(gguf, module)
    elif not isinstance(module, GlmCausalLM):
        # Ours have the published names.
        checkpoint.convert(conversions(module, checkpoint.names()))
    merge_adapters(module, checkpoint, adapters)
    shape = model_shape(config, module)
    return LoadedModel(
        name=model_name(folder),
        module=module,
        checkpoint=checkpoint,
        chat_format=Speechless(),
        shape=shape,
        positions=getattr(module, "position_scheme", None) or _positions(config),
        stop_tokens=frozenset(),
        generation_defaults={},
    )


def _positions(config: PreTrainedConfig) -> PositionScheme:
    rope: Any = getattr(config.get_text_config(), "rope_parameters", None) or {}
    if rope.get("rope_type") != "longrope":
        return CausalPositions()
    boundary = int(rope["original_max_position_embeddings"])
    return LongRopePositions(boundary=boundary, begins_anew=config.model_type in _BEGINNING_ANEW)


def check_folder(folder: Path) -> None:
    """Raises ModelFileError for what its config.json alone shows."""
    with opening(folder):
        _read_config(folder, gguf_in(folder))


def load_tokenizer(folder: Path, chat_format: str = "auto", *, thinks: bool = True) -> FamilyTokenizer:
    """The tokenizer and chat format of a model that runs elsewhere; no weights need be in `folder`. thinks: see
    `load`.

    Raises ModelFileError.
    """
    with opening(folder):
        gguf = gguf_in(folder)
        config = _read_config(folder, gguf)
        settle_generation(folder, config, chat_format)
        return read_talk(folder, config, thinks, gguf)


def empty_module(config: PreTrainedConfig, attention: str, file: Path | str) -> nn.Module:
    """The model of `config` without weights. `file` is named in errors. Raises ModelFileError."""
    try:
        # Buffers (rotary frequencies) are computed, not stored, so they are made for real.
        with init_empty_weights(include_buffers=False):
            module: Any = AutoModelForCausalLM.from_config(
                config, attn_implementation=attention, dtype=torch.float32, trust_remote_code=False
            )
    except KeyError as error:
        if error.args == (attention,):
            raise unfit(f"{file}: {config.model_type}", _OWN_ATTENTION) from error
        raise ModelFileError(f"{file}: {first_line(error)} is missing") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise ModelFileError(f"{file}: {first_line(error)}") from error
    if not getattr(module, "_supports_attention_backend", False):
        raise unfit(f"{file}: {type(module).__name__}", _OWN_ATTENTION)
    return cast(nn.Module, module.eval())


def _refuse_absurd_sizes(
    config: PreTrainedConfig, attention: str, file: Path, checkpoint: Checkpoint
) -> None:
    """Compare what the configuration asks for with the weights that are there, before anything is allocated.

    Raises ModelFileError.
    """
    fields: Any = config.get_text_config()
    layers, tensors = int(fields.num_hidden_layers), len(checkpoint.names())
    if layers > tensors:
        raise ModelFileError(
            f"{file}: num_hidden_layers is {layers}, and the weight files hold {tensors} tensors"
        )
    # Without memory, so that any size can be looked at.
    with torch.device("meta"):
        outline = empty_module(config, attention, file)
    weights = sum(parameter.numel() for parameter in outline.parameters())
    if weights > _MOST_WEIGHTS_PER_BYTE * checkpoint.bytes + _FEW_WEIGHTS:
        raise ModelFileError(
            f"{file}: describes a model of {weights} weights, and the weight files have {checkpoint.bytes} bytes;"
            f" hidden_size is {fields.hidden_size}, vocab_size {fields.vocab_size}"
        )
    buffers = sum(buffer.nbytes for buffer in outline.buffers())
    if buffers > _LARGEST_BUFFERS:
        positions = getattr(fields, "max_position_embeddings", None)
        raise ModelFileError(
            f"{file}: needs tables of {buffers} bytes beside the weights; max_position_embeddings is {positions}"
        )


def _add_prefix(config: Any, checkpoint: Checkpoint, tuned: Checkpoint) -> None:
    """Make room in the configuration for the prefix that `tuned` holds. Its tensors say how large it is."""
    embedding = next((name for name in tuned.names() if name.endswith(_PREFIX_EMBEDDING)), None)
    if embedding is None:
        raise ModelFileError(
            f"{tuned.folder}: holds no tensor {_PREFIX_EMBEDDING}; it is no P-Tuning checkpoint"
        )
    if not hasattr(config, "pre_seq_len"):
        raise ModelFileError(f"{tuned.folder}: {type(config).__name__} takes no P-Tuning prefix")
    config.pre_seq_len = tuned.read(embedding).shape[0]
    config.prefix_projection = any(".prefix_encoder.trans." in f".{name}" for name in tuned.names())
    checkpoint.add(tuned, "prefix_encoder.")


def model_name(path: Path) -> str:
    """What a model is called that `path` is the folder or the GGUF file of."""
    whole = Path(os.path.realpath(path))
    return whole.stem if whole.suffix.lower() == ".gguf" else whole.name


def register_families() -> None:
    """Make our own models known to Transformers' Auto classes."""
    register_chatglm()
    register_glm()
    register_glm130b()


def _read_config(folder: Path, gguf: GgufFile | None) -> PreTrainedConfig:
    register_families()
    if gguf is not None:
        fields = read_fields(gguf)
        refuse_monsters(gguf.path, fields)
        return CONFIG_MAPPING[fields.pop("model_type")](**fields)
    path = folder / "config.json"
    refuse_foreign_folder(folder)
    if not folder.is_dir():
        raise ModelFileError(f"{folder}: there is no such model folder; `glmbot pull` gets the demo model")
    refuse_odd_files(folder)
    ranked = has_ranks(folder)
    if not path.is_file() and not ranked:
        raise ModelFileError(f"{path}: missing; this is not a Transformers model folder")
    fields = read_json(path)
    if ranked:
        # GLM-130B is published without a config.json; one may say what differs.
        fields = {"model_type": GLM130BConfig.model_type, **fields}
    if not isinstance(fields.get("model_type"), str):
        raise ModelFileError(f'{path}: "model_type" is missing')
    refuse_monsters(path, fields)
    refuse_foreign_weights(path, fields)
    if is_blank_infilling(fields) or fields["model_type"] == GLM130BConfig.model_type:
        kind = BlankInfillingConfig if is_blank_infilling(fields) else GLM130BConfig
        try:
            return kind.from_dict(fields)
        except (ValueError, TypeError) as error:
            raise ModelFileError(f"{path}: {first_line(error)}") from error
    if fields["model_type"] not in CONFIG_MAPPING:
        raise ModelFileError(
            f"{path}: the architecture {fields['model_type']!r} is not among those that Transformers and glmbot"
            " bring themselves, and code from a model folder is never run"
        )
    try:
        return cast(
            PreTrainedConfig,
            AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True),
        )
    except Exception as error:
        raise ModelFileError(f"{path}: {first_line(error)}") from error


def model_shape(config: PreTrainedConfig, module: nn.Module) -> ModelShape:
    """Raises ModelFileError when its layers are not alike."""
    fields: Any = config.get_text_config()
    layers = int(fields.num_hidden_layers)
    # Gemma 4 has larger heads in those layers that see the whole text.
    described = fields.per_layer_config if getattr(fields, "is_heterogeneous", False) else [fields] * layers
    kinds = {_cached(described[layer]) for layer in range(layers)}
    if len(kinds) > 1:
        raise unfit(type(module).__name__, unlike_heads(kinds))
    ((kv_heads, head_dim),) = kinds
    return ModelShape(
        layers=layers,
        kv_heads=kv_heads,
        head_dim=head_dim,
        positions=int(getattr(fields, "max_position_embeddings", 2048)),
        vocabulary=int(fields.vocab_size),
        layer_names=_layer_names(module, layers),
    )


def _cached(fields: Any) -> tuple[int, int]:
    """How many heads of keys and values a layer has, and their size."""
    heads = int(fields.num_attention_heads)
    kv_heads = int(getattr(fields, "num_key_value_heads", None) or heads)
    return kv_heads, int(getattr(fields, "head_dim", None) or fields.hidden_size // heads)


def _layer_names(module: nn.Module, layers: int) -> tuple[str, ...]:
    for name, part in module.named_modules():
        if isinstance(part, nn.ModuleList) and len(part) == layers:
            return tuple(f"{name}.{index}" for index in range(layers))
    raise unfit(type(module).__name__, f"it has no list of {layers} layers that follow each other")
