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

from glmbot.errors import ModelFileError

__all__ = ["Part", "by_itself", "cached_heads", "verify"]

_RECORDING = "glmbot_recording"

Part = tuple[int, int, int]
"""Which sequence, and from which of its tokens to which."""

_WHAT_TO_DO = (
    "the shared engine can't run it: choose another model, or let a server that knows it run it"
    " ([remote] servers)"
)

# Two sequences in turns of different sizes: beside each other, in chunks, and one token at a time.
_FIRST, _SECOND = 40, 11
_STEPS: Sequence[Sequence[Part]] = (
    [(0, 0, 17)],
    [(1, 0, 7), (0, 17, 38)],
    [(0, 38, 39), (1, 7, 10)],
    [(1, 10, 11), (0, 39, 40)],
)
# What float32 in another order of additions leaves, and what numbers of 8 to 11 bits do.
_LEAST_LIKENESS = {torch.float32: 0.9999, torch.float16: 0.999, torch.bfloat16: 0.998}


def verify(
    name: str,
    module: nn.Module,
    sample: Sequence[int],
    dtype: torch.dtype,
    compute: Callable[[Sequence[Sequence[int]], Sequence[Part]], Sequence[Tensor]],
) -> None:
    """Raises ModelFileError when the model computes something else in company than alone.

    sample: tokens as the model sees them, one or more. dtype: of its activations. compute: one step of the
    engine, by torch; given the sequences and the parts of them that are its turn, returns each part's last logits
    float [vocabulary].
    """
    endless = list(sample) * (_FIRST // len(sample) + 1)
    sequences = [endless[:_FIRST], endless[::-1][:_SECOND]]
    with _calling(name, module):
        drawn = [
            (part, logits)
            for step in _STEPS
            for part, logits in zip(step, compute(sequences, step), strict=True)
        ]
    with _calling(name, module):
        expected = [by_itself(module, sequence) for sequence in sequences]
    for (number, _, end), logits in drawn:
        reference = expected[number][end - 1]
        if not bool(torch.isfinite(reference).all()) or not bool(torch.isfinite(logits).all()):
            raise ModelFileError(f"{name}: the model computes NaN or infinity from its weights")
        likeness = float(torch.cosine_similarity(logits, reference, dim=0))
        if not likeness >= _LEAST_LIKENESS[dtype]:
            raise _unfit(
                name,
                module,
                f"beside other people's questions it would say something else (likeness {likeness:.4f})",
            )


@torch.inference_mode()
def cached_heads(name: str, module: nn.Module, layers: int) -> tuple[int, int]:
    """How many heads of keys and values a layer keeps, and their size. A configuration says it in many ways; the
    model itself says what is so.

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
    AttentionMaskInterface.register(_RECORDING, _no_mask)
    owner: Any = module
    device = next(parameter.device for parameter in module.parameters())
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
        sizes = " and ".join(f"{heads} × {size}" for heads, size, _ in sorted(kinds))
        reason = f"its layers have heads of different sizes ({sizes})"
    elif any(size != value for _, size, value in kinds):
        ((_, size, value),) = kinds
        reason = f"its keys have {size} numbers and its values {value} (multi-head latent attention)"
    if reason:
        raise _unfit(name, module, reason)
    ((heads, size, _),) = kinds
    return heads, size


def _unfit(name: str, module: nn.Module, reason: str) -> ModelFileError:
    return ModelFileError(f"{name}: {type(module).__name__}: {reason}; {_WHAT_TO_DO}")


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
        words = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        raise _unfit(
            name, module, f"its code can't be called as the shared engine does it ({words})"
        ) from error


def _layers(numbers: Sequence[int]) -> str:
    shown = ", ".join(map(str, numbers[:4]))
    return f"layer{'s' if len(numbers) > 1 else ''} {shown}{' …' if len(numbers) > 4 else ''}"


def _no_mask(*_args: Any, **_kwargs: Any) -> None:
    return None


def by_itself(module: nn.Module, tokens: Sequence[int]) -> Tensor:
    """Logits float [tokens, vocabulary] by the model's own code: no cache, no company, its own eager attention."""
    owner: Any = module
    device = next(parameter.device for parameter in module.parameters())
    with _attention(owner.config, "eager"):
        out = owner(input_ids=torch.tensor([list(tokens)], device=device), use_cache=False)
    return out.logits[0].float()


@contextmanager
def _attention(config: Any, name: str) -> Generator[None]:
    ours = config._attn_implementation
    config._attn_implementation = name
    try:
        yield
    finally:
        config._attn_implementation = ours
