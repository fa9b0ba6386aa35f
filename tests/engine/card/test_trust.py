"""Which fast parts of a card serve, and that each is given up by itself."""

from __future__ import annotations

import logging
from collections.abc import Collection
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from chatglm_folder import write_chatglm_folder
from glmbot.cuda.kernels import KernelsError
from glmbot.cuda.program import Part
from glmbot.cuda.target import Card
from glmbot.engine.attention import ATTENTION_NAME, register_attention
from glmbot.engine.base import Precision
from glmbot.engine.card.trust import PROGRAM, FastParts, most_that_agree, probe_steps, probed_tokens, settle
from glmbot.engine.part import ModelPart
from glmbot.engine.placement import Placement
from glmbot.engine.runner import ModelRunner
from glmbot.errors import PrecisionError
from glmbot.models.lowering import lower_for
from glmbot.models.positions import BlockPositions, CausalPositions, MaskPositions, PositionScheme
from glmbot.models.registry import load

NAMES = ("a", "b", "c", "d")


@given(bad=st.sets(st.frozensets(st.sampled_from(NAMES)), max_size=8))
def test_the_fewest_parts_are_given_up(bad: set[frozenset[str]]) -> None:
    """bad: sets of parts that disagree, any of them, and nothing follows from one for another."""
    kept = most_that_agree(NAMES, lambda parts: frozenset(parts) not in bad)
    good = [
        set(each) for size in range(5) for each in combinations(NAMES, size) if frozenset(each) not in bad
    ]
    if kept is None:
        assert not good
    else:
        assert set(kept) in good
        assert len(kept) == max(map(len, good))


@given(guilty=st.sets(st.sampled_from(NAMES)))
def test_only_the_guilty_are_given_up(guilty: set[str]) -> None:
    kept = most_that_agree(NAMES, guilty.isdisjoint)
    assert kept is not None
    assert set(kept) == set(NAMES) - guilty


class _Program:
    """A program whose kernels of some parts are wrong, or can't be compiled."""

    def __init__(
        self, wrong: Collection[Part], broken: Collection[Part] = (), *, itself: bool = True
    ) -> None:
        self.parts = set(Part)
        self._wrong, self._broken, self._itself = wrong, broken, itself

    def compute(self, plainly: bool) -> torch.Tensor:
        logits = torch.arange(6.0).view(2, 3)
        if plainly:
            return logits
        if self.parts & set(self._broken):
            raise KernelsError("products.cuh: no such instruction")
        if self.parts & set(self._wrong) or not self._itself:
            return logits.flip(-1) * torch.tensor([[1.0], [-1.0]])
        return logits + 0.001


@given(
    wrong=st.sets(st.sampled_from(list(Part))),
    broken=st.sets(st.sampled_from(list(Part))),
    before=st.sets(st.sampled_from(list(Part))),
)
def test_what_disagrees_or_does_not_compile_is_left_to_torch(
    wrong: set[Part], broken: set[Part], before: set[Part]
) -> None:
    fast = FastParts("m", dict.fromkeys(before, "earlier"))
    program: Any = _Program(wrong, broken)
    program.parts -= before
    left = set(Part) - wrong - broken - before
    serves = settle(fast, program, program.compute)
    assert program.parts == left
    assert serves is (Part.ATTENTION in left), "without it torch's modules are faster"
    assert fast.given_up.keys() - {PROGRAM} == wrong | broken | before
    assert fast.serves(PROGRAM) is serves


def test_each_is_told_once_with_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    fast, program = FastParts("ChatGLM"), _Program((), [Part.PRODUCTS])
    model: Any = program
    with caplog.at_level(logging.WARNING):
        assert settle(fast, model, program.compute)
        assert settle(fast, model, program.compute)
    assert [record.getMessage() for record in caplog.records] == [
        "ChatGLM: from now on without this card's fast products: KernelsError: products.cuh: no such instruction"
    ]


def test_a_program_that_is_wrong_by_itself_serves_nobody() -> None:
    fast, program = FastParts("m"), _Program((), itself=False)
    model: Any = program
    assert not settle(fast, model, program.compute)
    assert not fast.serves(PROGRAM)


def test_a_model_that_computes_no_numbers_is_no_fault_of_the_card() -> None:
    model: Any = _Program(())
    with pytest.raises(PrecisionError, match="NaN"):
        settle(FastParts("m"), model, lambda _: torch.full((2, 3), torch.nan))


@pytest.mark.parametrize("scheme", [CausalPositions(), BlockPositions(9, (8,)), MaskPositions(9, (8,), 8)])
def test_a_probe_has_steps_for_every_kind_of_kernel(scheme: PositionScheme) -> None:
    prompt = [1, 2, 3, 8, 9]
    steps = probe_steps(scheme, prompt, 2, 100)
    assert [len(step.tokens) for step in steps] == [65, 40, 12, 1]
    assert [len(step.drawing) for step in steps] == [1, 33, 12, 1]
    assert max(max(step.places) for step in steps) == 100 + 2 + probed_tokens(scheme, prompt) - 1


class _Absent:
    """As on a machine where nothing can be compiled."""

    def launch(
        self, name: str, grid: tuple[int, int, int], threads: int, *arguments: torch.Tensor | float
    ) -> None:
        raise KernelsError(f"there is no kernel {name}")


def test_a_model_serves_on_by_torch_where_no_kernel_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loaded, and switched."""
    register_attention()
    folder = write_chatglm_folder(tmp_path / "m", "chatglm-6b")
    placement = Placement(torch.device("cpu"), activations=torch.float32)

    given: list[FastParts] = []

    def lowered(part: ModelPart, precision: Precision) -> Any:
        if not part.trusted:
            return None
        part.fast = FastParts("m")
        given.append(part.fast)
        return lower_for(Card(torch.device("cpu"), torch.float32, _Absent()), part.model.module)

    monkeypatch.setattr(ModelPart, "_lower", lowered)
    runner = ModelRunner(
        load(folder, ATTENTION_NAME), placement=placement, precision=Precision.FP32, cache_tokens=64
    )
    for precision in (Precision.FP32, Precision.INT8):
        if precision is not runner.precision:
            runner.set_precision(precision)
        assert runner.lowered is None
        assert runner.part.fast_parts == ()
    assert set(Part) <= given[0].given_up.keys()
