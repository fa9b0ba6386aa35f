"""Programs for a card in their plain form, on the CPU, against each architecture's own modules."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cuda.host_kernels import HostKernels
from glmbot.cuda.kernels import Kernels
from glmbot.cuda.target import Card
from glmbot.engine.attention import ATTENTION_NAME, register_attention
from glmbot.engine.base import Precision
from glmbot.engine.placement import Placement
from glmbot.engine.runner import ModelRunner
from glmbot.engine.scheduler import Chunk
from glmbot.models.lowering import lower_for
from glmbot.models.registry import load
from native.test_lowering import KINDS, advance, sequences, write_folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    register_attention()
    root = tmp_path_factory.mktemp("carded")
    for kind in KINDS:
        write_folder(root / kind, kind)
    return root


@pytest.mark.parametrize("kind", KINDS)
def test_a_program_computes_what_its_modules_do(kind: str, folders: Path) -> None:
    """In float32 to rounding: prompts beside others, then two steps of decoding."""
    made = runner(folders / kind, Precision.FP32)
    mine = sequences(made, 3)
    for _ in range(3):
        chunks = [Chunk(sequence, len(sequence.tokens) - sequence.computed) for sequence in mine]
        expected = made.step(chunks).clone()
        program(made, torch.float32, None)
        torch.testing.assert_close(advance(made, chunks), expected, atol=2e-4, rtol=1e-4)
        made.part.lowered = None


@pytest.mark.parametrize("precision", [Precision.INT8, Precision.INT4])
@pytest.mark.parametrize("kind", ["llama", "chatglm-6b"])
def test_packed_weights_are_read_as_their_layers_read_them(
    kind: str, precision: Precision, folders: Path
) -> None:
    made = runner(folders / kind, precision)
    mine = sequences(made, 2)
    chunks = [Chunk(sequence, len(sequence.tokens)) for sequence in mine]
    expected = made.step(chunks).clone()
    program(made, torch.float32, None)
    torch.testing.assert_close(advance(made, chunks), expected, atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize(
    ("kind", "precision"),
    [
        ("llama", Precision.INT8), ("chatglm-6b", Precision.INT8), ("chatglm-6b", Precision.INT4),
        ("chatglm2-6b", Precision.INT4), ("glm-10b", Precision.INT4), ("glm4", Precision.INT4),
        ("gemma2", Precision.INT4), ("cohere2", Precision.INT4), ("starcoder2", Precision.INT4),
    ],
)  # fmt: skip
def test_kernels_are_as_exact_as_torch(kind: str, precision: Precision, folders: Path) -> None:
    """Compiled for the CPU: prompts beside others, then two steps of decoding, with the activations of a card. Both
    are held against activations in float32."""
    made = runner(folders / kind, precision, torch.float16)
    mine = sequences(made, 3)
    for _ in range(3):
        chunks = [Chunk(sequence, len(sequence.tokens) - sequence.computed) for sequence in mine]
        program(made, torch.float32, None)
        exact = made.step(chunks).clone()
        program(made, torch.float16, None)
        by_torch = made.step(chunks).clone()
        program(made, torch.float16, HostKernels(torch.float16))
        by_kernels = advance(made, chunks)
        assert (by_kernels - exact).norm() <= 1.5 * (by_torch - exact).norm()
        assert (by_torch - exact).norm() < 2.0**-8 * exact.norm()


def program(made: ModelRunner, dtype: torch.dtype, kernels: Kernels | None) -> None:
    made.part.lowered = lower_for(Card(torch.device("cpu"), dtype, kernels), made.model.module)
    assert made.part.lowered is not None, "this architecture is lowered"


def runner(folder: Path, precision: Precision, activations: torch.dtype = torch.float32) -> ModelRunner:
    """With activations of its own the CPU has the layers that a card has."""
    placement = Placement(torch.device("cpu"), activations=activations)
    return ModelRunner(
        load(folder, ATTENTION_NAME), placement=placement, precision=precision, cache_tokens=2048
    )
