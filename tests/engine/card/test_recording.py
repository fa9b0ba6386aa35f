"""What is recorded is held against what is not, made anew with each precision, and given up alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from chatglm_folder import write_chatglm_folder
from engine.card.decoded import Request, said
from engine.card.each_time import EachTime
from glmbot.cuda.target import Card
from glmbot.engine import part as parts
from glmbot.engine.attention import ATTENTION_NAME, register_attention
from glmbot.engine.base import FinishReason, Precision, Progress, Sampling
from glmbot.engine.card.decoding import CardDecoding
from glmbot.engine.card.recording import Again, Recorder
from glmbot.engine.card.trust import GRAPHS, FastParts
from glmbot.engine.model_thread import ModelThread
from glmbot.engine.part import ModelPart
from glmbot.engine.placement import Placement
from glmbot.engine.runner import ModelRunner
from glmbot.models.lowering import lower_for
from glmbot.models.registry import load

CPU = torch.device("cpu")
PEOPLE = [
    Request("the fox", Sampling(max_tokens=9, seed=4)),
    Request("one", Sampling(max_tokens=6, temperature=0.0), round=2),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    register_attention()
    return write_chatglm_folder(tmp_path_factory.mktemp("recording") / "m", "chatglm-6b")


@pytest.fixture(autouse=True)
def like_a_card(monkeypatch: pytest.MonkeyPatch) -> None:
    def lowered(part: ModelPart, precision: Precision) -> Any:
        part.fast = part._fast_at.setdefault(precision, FastParts("m"))
        return lower_for(Card(CPU, torch.float32, None), part.model.module)

    monkeypatch.setattr(ModelPart, "_lower", lowered)
    # Without kernels torch's modules would compute alone.
    monkeypatch.setattr(parts, "settle", lambda *_: True)
    by(monkeypatch, EachTime())


def by(monkeypatch: pytest.MonkeyPatch, recorder: Recorder) -> None:
    monkeypatch.setattr(parts, "recorder_of", lambda _: recorder)


def runner(folder: Path, **on_host: torch.device) -> ModelRunner:
    placement = Placement(CPU, activations=torch.float32, parts=on_host)
    return ModelRunner(
        load(folder, ATTENTION_NAME), placement=placement, precision=Precision.FP32, cache_tokens=512
    )


def tokens(made: ModelRunner, monkeypatch: pytest.MonkeyPatch) -> Sequence[list[int]]:
    return [each for each, _ in said(made, PEOPLE, monkeypatch)]


def test_it_is_recorded_while_loading_and_anew_with_each_precision(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = runner(folder)
    before, fp32 = made.decoding, tokens(made, monkeypatch)
    assert before is not None
    made.set_precision(Precision.INT8)
    assert made.decoding is not None
    assert made.decoding is not before
    recorded = tokens(made, monkeypatch)
    made.part.decoding = None
    assert recorded == tokens(made, monkeypatch), "the weights of now are read"
    made.set_precision(Precision.FP32)
    assert tokens(made, monkeypatch) == fp32


def test_a_switch_that_fails_leaves_what_was_recorded_before(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = runner(folder)
    expected = tokens(made, monkeypatch)
    settle = ModelPart.settle

    def failing(*_: Any) -> None:
        raise RuntimeError("the card is too warm")

    monkeypatch.setattr(ModelPart, "settle", failing)
    with pytest.raises(Exception, match="too warm"):
        made.set_precision(Precision.INT8)
    monkeypatch.setattr(ModelPart, "settle", settle)
    assert made.decoding is not None
    assert tokens(made, monkeypatch) == expected


def test_people_are_served_on_through_a_switch_in_the_middle_of_a_step_begun_ahead(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = runner(folder)
    people = [Request("the fox", Sampling(max_tokens=20, temperature=0.0)) for _ in range(3)]
    before = made.decoding

    def switch(thread: ModelThread) -> None:
        assert thread._computing._ahead is not None
        thread.set_precision(Precision.INT8, lambda _: None)

    found = said(made, people, monkeypatch, {6: switch})
    assert made.decoding is not before
    for answer, told in found:
        assert len(answer) == 20
        assert isinstance(told, Progress)
        assert told.finish is FinishReason.LENGTH
    assert len({tuple(answer) for answer, _ in found}) == 1, "all read what they have said themselves"


class _Broken(EachTime):
    def record(self, compute: Again) -> Again:
        raise RuntimeError("operation not permitted when stream is capturing\nand more")


class _Forgetful(EachTime):
    """What it does again is not what it recorded."""

    def record(self, compute: Again) -> Again:
        compute()
        return lambda: None


@pytest.mark.parametrize(
    ("recorder", "why"),
    [(_Broken(), "not permitted"), (_Forgetful(), "something else")],
    ids=["broken", "wrong"],
)
def test_what_can_not_be_recorded_is_given_up_alone(
    recorder: Recorder, why: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = tokens(runner(folder), monkeypatch)
    by(monkeypatch, recorder)
    made = runner(folder)
    assert made.decoding is None
    assert made.native, "the program itself serves on"
    assert made.part.fast is not None
    assert list(made.part.fast.given_up) == [GRAPHS]
    assert why in made.part.fast.given_up[GRAPHS]
    assert "\n" not in made.part.fast.given_up[GRAPHS]
    assert tokens(made, monkeypatch) == expected


def test_a_table_of_embeddings_on_the_host_is_read_before_each_step(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its tokens are known then, so no step is begun ahead of another's end."""
    expected = tokens(runner(folder), monkeypatch)
    made = runner(folder, **{"transformer.word_embeddings": CPU})
    begin, ahead = CardDecoding.begin, list[bool]()

    def counted(self: CardDecoding, *given: Any) -> Any:
        found = begin(self, *given)
        ahead.append(found is not None and len(given) > 3 and given[3] is not None)
        return found

    monkeypatch.setattr(CardDecoding, "begin", counted)
    assert tokens(made, monkeypatch) == expected
    assert ahead
    assert not any(ahead)
