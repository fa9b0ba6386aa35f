"""Whole decoding steps of a model on a card, drawing included, on tensors that hold no numbers.

    python on_fake_card.py MODEL_FOLDER ...

Prints a line for each model. torch's fake tensors refuse, as a capture on a real card does, whatever has the host
read a number or makes the size of something depend on one; what would be copied between host and card is refused
here.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from engine.card.each_time import EachTime
from glmbot.cuda.target import Card
from glmbot.engine.attention import ATTENTION_NAME, register_attention
from glmbot.engine.card.buckets import SPARE
from glmbot.engine.card.recording import Again
from glmbot.engine.card.steps import CardSteps
from glmbot.engine.kv_cache import Arena
from glmbot.models.lowering import lower_for
from glmbot.models.registry import LoadedModel, load

# torch has no way to name a device of a backend that it was not built with, but this one.
backend_registration._setup_privateuseone_for_python_backend("card")
CARD = torch.device("card", 0)


class _NothingCrosses(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        given = (each for each in tree_leaves((args, kwargs, made)) if isinstance(each, Tensor))
        homes = {each.device for each in given if each.dim()}
        assert len(homes) < 2, f"{func} is between {homes}"
        return made


class _Capturing(EachTime):
    """What is recorded crosses nothing; what is sent before it may."""

    def record(self, compute: Again) -> Again:
        def again() -> None:
            with _NothingCrosses():
                compute()

        return again


def onto(model: LoadedModel, dtype: torch.dtype) -> None:
    module: Any = model.module
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        owner, _, leaf = name.rpartition(".")
        parameter = isinstance(tensor, torch.nn.Parameter)
        fake: Tensor = torch.empty(tensor.shape, dtype=dtype if parameter else tensor.dtype, device=CARD)
        setattr(
            module.get_submodule(owner),
            leaf,
            torch.nn.Parameter(fake, requires_grad=False) if parameter else fake,
        )


def decode(folder: Path) -> None:
    model = load(folder, ATTENTION_NAME)
    shape = model.shape
    with FakeTensorMode(allow_non_fake_inputs=False), torch.inference_mode():
        onto(model, torch.float16)
        lowered = lower_for(Card(CARD, torch.float16, None), model.module)
        assert lowered is not None
        arena = Arena(
            kv_heads=shape.kv_heads, head_dim=shape.head_dim, capacity=64 + SPARE, dtype=torch.float16,
            devices=[CARD] * shape.layers,
        )  # fmt: skip
        steps = CardSteps(
            lowered, arena, _Capturing(), position_rows=model.positions.rows, vocabulary=shape.vocabulary,
            device=CARD, spare=64,
        )  # fmt: skip
        for way in (None, "likeliest", "narrow", "wide"):
            steps.ready(4, way)
    try:
        with FakeTensorMode():
            int(torch.zeros(1, device=CARD))
    except Exception:
        sys.stdout.write(f"{folder.name} decodes\n")


if __name__ == "__main__":
    register_attention()
    for each in sys.argv[1:]:
        decode(Path(each))
