"""Whether a model says in the shared engine what its authors' code says alone.

The engine lays the tokens of many sequences end to end, gives attention its own cache and cuts prompts into
chunks. A layer that keeps a state of its own, or attention with arguments that ours does not know, computes
something else then, without any error. So each model is held against its own plain forward pass when it is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface

from glmbot.engine.mask_kinds import window_of
from glmbot.engine.placement import Placement, ending_with
from glmbot.errors import ModelFileError, in_one_line
from glmbot.models.foreign import unfit, unlike_heads

__all__ = ["Part", "by_itself", "cached_heads", "first_layers", "verify"]

_RECORDING = "glmbot_recording"

Part = tuple[int, int, int]
"""Which sequence, and from which of its tokens to which."""

# Two sequences in turns of different sizes: beside each other, in chunks, and one token at a time.
_FIRST, _SECOND = 40, 11
_STEPS: Sequence[Sequence[Part]] = (
    [(0, 0, 17)],
    [(1, 0, 7), (0, 17, 38)],
    [(0, 38, 39), (1, 7, 10)],
    [(1, 10, 11), (0, 39, 40)],
)
# What remains of other orders of additions: in float32, and for each layer where activations are rounded to 8 or
# 11 bits, or weights to 4 and 8. Few layers are looked at: the rounding of many would hide a real difference.
_FLOAT32_LEFT, _ROUNDING_LEFT = 1e-4, 1e-3
_LEAST_LAYERS, _MOST_LAYERS = 2, 12
# A mixture of experts may send a token elsewhere for the last bit of its router.
_MOST_APART = 0.25


def verify(
    name: str,
    module: nn.Module,
    sample: Sequence[int],
    layer_names: Sequence[str],
    *,
    placement: Placement,
    exact: bool,
    compute: Callable[[Sequence[Sequence[int]], Sequence[Part]], Sequence[Tensor]],
) -> None:
    """Raises ModelFileError when the model computes something else in company than alone.

    sample: tokens as the model sees them, one or more. layer_names: its layers, of which the first are computed
    that show every kind there is. placement: tokens go in at its device, and logits come out there. exact: whether
    weights and activations are float32. compute: one step of the engine, by torch; given the sequences and the
    parts of them that are its turn, returns each part's logits float [tokens, vocabulary].
    """
    endless = list(sample) * (_FIRST // len(sample) + 1)
    sequences = [endless[:_FIRST], endless[::-1][:_SECOND]]
    with _calling(name, module), first_layers(module, layer_names, placement) as layers:
        drawn = [
            (part, logits)
            for step in _STEPS
            for part, logits in zip(step, compute(sequences, step), strict=True)
        ]
        expected = [by_itself(module, sequence, placement.device) for sequence in sequences]
    allowed = _FLOAT32_LEFT if exact else _ROUNDING_LEFT * layers
    likenesses: list[float] = []
    for (number, start, end), logits in drawn:
        reference = expected[number][start:end]
        if not bool(torch.isfinite(reference).all()) or not bool(torch.isfinite(logits).all()):
            raise ModelFileError(f"{name}: the model computes NaN or infinity from its weights")
        likenesses += torch.cosine_similarity(logits, reference, dim=-1).tolist()
    apart = [likeness for likeness in likenesses if not likeness >= 1 - allowed]
    if len(apart) > _MOST_APART * len(likenesses):
        raise _unfit(
            name,
            module,
            f"beside other people's questions it would say something else (likeness {min(apart):.4f})",
        )


@contextmanager
def first_layers(module: nn.Module, names: Sequence[str], placement: Placement) -> Generator[int]:
    """As few layers as show every kind, on however many devices. Yields how many."""
    where, _, _ = names[0].rpartition(".")
    parent, _, leaf = where.rpartition(".")
    owner: Any = module.get_submodule(parent)
    layers: Any = getattr(owner, leaf)
    kinds = [_kind(module, layer, number) for number, layer in enumerate(layers)]
    enough = max(_LEAST_LAYERS, *(kinds.index(kind) + 1 for kind in set(kinds)))
    few = list(layers)[: min(enough, _MOST_LAYERS)]
    setattr(owner, leaf, nn.ModuleList(few))
    try:
        with ending_with(module, names[len(few) - 1], placement):
            yield len(few)
    finally:
        setattr(owner, leaf, layers)


def _kind(module: Any, layer: nn.Module, number: int) -> tuple[str, ...]:
    types = getattr(module.config.get_text_config(), "layer_types", None) or ()
    parts = sorted({f"{name} {type(part).__name__}" for name, part in layer.named_modules()})
    return (*parts, str(types[number]) if number < len(types) else "")


@torch.inference_mode()
def cached_heads(name: str, module: nn.Module, layers: int, device: torch.device) -> tuple[int, int]:
    """How many heads of keys and values a layer keeps, and their size. A configuration says it in many ways; the
    model itself says what is so. device: where tokens go in.

    Raises ModelFileError when the shared cache can't hold them.
    """
    seen: list[tuple[int, tuple[int, int, int]]] = []

    def record(
        part: nn.Module, query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any
    ) -> tuple[Tensor, None]:
        owner: Any = part
        seen.append((int(owner.layer_idx), (key.shape[1], key.shape[-1], value.shape[-1])))
        return query.new_zeros(1, query.shape[2], query.shape[1], value.shape[-1]), None

    AttentionInterface.register(_RECORDING, record)
    AttentionMaskInterface.register(_RECORDING, window_of)
    owner: Any = module
    with _calling(name, module), _attention(owner.config, _RECORDING):
        owner(input_ids=torch.zeros(1, 1, dtype=torch.int64, device=device), use_cache=False)
    without = sorted(set(range(layers)) - {layer for layer, _ in seen})
    kinds = {kind for _, kind in seen}
    reason = ""
    if without:
        reason = f"{_layers(without)} of {layers} keep a state of their own instead of keys and values"
    elif len(seen) != layers:
        reason = f"its {layers} layers call attention {len(seen)} times"
    elif len(kinds) > 1:
        reason = unlike_heads({(heads, size) for heads, size, _ in kinds})
    elif any(size != value for _, size, value in kinds):
        ((_, size, value),) = kinds
        reason = f"its keys have {size} numbers and its values {value} (multi-head latent attention)"
    if reason:
        raise _unfit(name, module, reason)
    ((heads, size, _),) = kinds
    return heads, size


def _unfit(name: str, module: nn.Module, reason: str) -> ModelFileError:
    return unfit(f"{name}: {type(module).__name__}", reason)


@contextmanager
def _calling(name: str, module: nn.Module) -> Generator[None]:
    """Models expect many things of their callers."""
    try:
        yield
    except NotImplementedError as error:
        raise _unfit(name, module, str(error)) from error
    except (ModelFileError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        words = in_one_line(error, 200)
        raise _unfit(
            name, module, f"its code can't be called as the shared engine does it ({words})"
        ) from error


def _layers(numbers: Sequence[int]) -> str:
    shown = ", ".join(map(str, numbers[:4]))
    return f"layer{'s' if len(numbers) > 1 else ''} {shown}{' …' if len(numbers) > 4 else ''}"


def by_itself(module: nn.Module, tokens: Sequence[int], device: torch.device) -> Tensor:
    """Logits float [tokens, vocabulary] by the model's own code: no cache, no company, its own eager attention.
    device: where tokens go in, which is not where the table of embeddings must be."""
    owner: Any = module
    with _attention(owner.config, "eager"):
        out = owner(input_ids=torch.tensor([list(tokens)]).to(device), use_cache=False)
    return out.logits[0].float()


@contextmanager
def _attention(config: Any, name: str) -> Generator[None]:
    ours = config._attn_implementation
    config._attn_implementation = name
    try:
        yield
    finally:
        config._attn_implementation = ours
