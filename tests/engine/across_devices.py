"""A step of two sequences, one that reads its prompt and one in mid-decode, on a model spread over two devices.

    python across_devices.py MODEL_FOLDER ...

Prints a line for each model that came home.

There are no GPUs here, so torch's fake tensors stand for them: they hold no numbers and refuse, as real ones do,
every operation whose tensors are on different devices.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import backend_registration

from glmbot.engine.attention import ATTENTION_NAME, Segment, StepLayout, register_attention
from glmbot.engine.base import Precision
from glmbot.engine.kv_cache import Arena
from glmbot.engine.part import ModelPart
from glmbot.engine.placement import Placement, align, free_memory, host_parts, parse_devices
from glmbot.engine.precision import available_precisions, default_precision
from glmbot.engine.verification import by_itself, cached_heads, first_layers
from glmbot.models.causal_lm import GlmCausalLM
from glmbot.models.registry import load

# torch has no way to name a device of a backend that it was not built with, but this one.
backend_registration._setup_privateuseone_for_python_backend("card")
FIRST, SECOND = torch.device("card", 0), torch.device("card", 1)


def cross(folder: Path) -> None:
    model = load(folder, ATTENTION_NAME)
    shape = model.shape
    parts = host_parts(model.module, shape, FIRST)
    parts |= dict.fromkeys(shape.layer_names[1:], SECOND)
    placement = Placement(FIRST, parts=parts)
    module: Any = model.module
    with FakeTensorMode(allow_non_fake_inputs=False):
        tensors = [*module.named_parameters(), *module.named_buffers()]
        for name, tensor in tensors:
            owner, _, leaf = name.rpartition(".")
            dtype = torch.float16 if isinstance(tensor, torch.nn.Parameter) else tensor.dtype
            fake = torch.empty(tensor.shape, dtype=dtype, device=placement.device_of(name))
            if isinstance(tensor, torch.nn.Parameter):
                fake = torch.nn.Parameter(fake, requires_grad=False)
            setattr(module.get_submodule(owner), leaf, fake)
        align(module, shape, placement)
        homes = [placement.device_of(name) for name in shape.layer_names]
        arena = Arena(
            kv_heads=shape.kv_heads, head_dim=shape.head_dim, capacity=64, dtype=torch.float16, devices=homes
        )
        whole = model.positions.context_length([1, 2, 3, 4, 5]) > 0
        segments = (Segment(0, 5, 0, 0, causal=not whole), Segment(5, 1, 32, 7))
        layout = StepLayout(arena, segments, torch.zeros(6, dtype=torch.int64, device=FIRST))
        rows = model.positions.rows
        shape_of_positions = (1, rows, 6) if rows > 1 else (1, 6)
        out = module(
            input_ids=torch.zeros(1, 6, dtype=torch.int64, device=FIRST),
            position_ids=torch.zeros(shape_of_positions, dtype=torch.int64, device=FIRST),
            use_cache=False,
            logits_to_keep=torch.zeros(2, dtype=torch.int64, device=FIRST),
            layout=layout,
        )
        if not isinstance(module, GlmCausalLM):
            # What loading asks of others' models.
            assert cached_heads(model.name, module, shape.layers, FIRST) == (shape.kv_heads, shape.head_dim)
            before = by_itself(module, [1, 2, 3], FIRST)
            with first_layers(module, shape.layer_names, placement) as few:
                assert homes[0] == FIRST
                assert homes[few - 1] == SECOND
                assert few < shape.layers, "the layer that everything comes back from is not among them"
                meanwhile = by_itself(module, [1, 2, 3], FIRST)
            after = by_itself(module, [1, 2, 3], FIRST)
            for logits in (before, meanwhile, after):
                assert logits.shape == (3, shape.vocabulary)
                assert logits.device == FIRST
        assert out.logits.shape == (1, 2, shape.vocabulary)
        assert out.logits.device == FIRST
        assert {tensor.device for tensor in arena.keys} == {FIRST, SECOND}
        assert ModelPart(model, Placement(FIRST))._lower(Precision.FP16) is None
        try:
            torch.add(torch.zeros(1, device=FIRST), torch.zeros(1, device=SECOND))
        except RuntimeError:
            sys.stdout.write(f"{folder.name} is home again\n")


if __name__ == "__main__":
    register_attention()
    assert parse_devices("card:1") == [SECOND]
    assert available_precisions(FIRST) == (Precision.FP16, Precision.INT8, Precision.INT4)
    assert default_precision(FIRST) is Precision.FP16
    assert free_memory(FIRST) > 0
    for each in sys.argv[1:]:
        cross(Path(each))
