"""A conversation that is decoded and drawn on a card says what it says when the host draws every token."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from chatglm_folder import write_chatglm_folder
from engine.card.decoded import Request, carded, recorded, said
from engine.card.each_time import EachTime
from engine.guesses import Guesses
from glmbot.engine.attention import register_attention
from glmbot.engine.base import Progress, Sampling
from glmbot.engine.card import drawing
from glmbot.engine.card.buckets import BUCKETS
from glmbot.engine.card.decoding import CardDecoding
from glmbot.engine.card.recording import Again
from glmbot.engine.runner import ModelRunner
from glmbot.errors import NumericalFault
from tiny_model import write_tiny_model

GREEDY = Sampling(max_tokens=12, temperature=0.0)

samplings = st.builds(
    lambda temperature, top_k, top_p, penalty, most, seed, presence: Sampling(
        max_tokens=most,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        repetition_penalty=penalty,
        presence_penalty=presence,
        seed=seed,
        stop=("a",) if seed % 3 == 0 else (),
        logprobs=1 if seed % 7 == 0 else None,
    ),
    st.sampled_from([0.0, 0.7, 1.5]),
    st.sampled_from([0, 5, 300]),
    st.sampled_from([0.5, 0.9, 1.0]),
    st.sampled_from([1.0, 1.3]),
    st.integers(1, 14),
    st.integers(0, 1000),
    st.sampled_from([0.0, 0.0, 0.0, 0.5]),
)
requests = st.builds(
    Request,
    st.sampled_from(["the fox", "北京 the capital?", "one two three one two three one two", "你好"]),
    samplings,
    st.integers(0, 12),
    st.sampled_from([None, None, None, 4]),
)


@pytest.fixture(scope="module", params=["llama", "chatglm-6b"])
def runner(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ModelRunner:
    register_attention()
    folder = tmp_path_factory.mktemp("decoded")
    if request.param == "llama":
        return carded(write_tiny_model(folder))
    return carded(write_chatglm_folder(folder, request.param))


@pytest.fixture
def patch() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(people=st.lists(requests, min_size=1, max_size=5))
def test_what_is_said_is_what_the_host_would_draw(
    people: list[Request], runner: ModelRunner, patch: pytest.MonkeyPatch
) -> None:
    decoding, runner.part.decoding = runner.part.decoding, None
    expected = said(runner, people, patch)
    runner.part.decoding = decoding
    found = said(runner if decoding else recorded(runner), people, patch)
    for one, other, request in zip(expected, found, people, strict=True):
        if request.leaves is None:
            assert _heard(other) == _heard(one)


def _heard(one: tuple[list[int], object]) -> tuple[list[int], object]:
    tokens, told = one
    return tokens, (told.text, told.finish) if isinstance(told, Progress) else told


def test_the_next_step_is_begun_before_this_one_is_read(
    runner: ModelRunner, patch: pytest.MonkeyPatch
) -> None:
    """While the same people decode; a stop text ends one of them in the middle of it."""
    begun = _counted(patch)
    people = [
        Request("the fox", GREEDY),
        Request("你好 the", Sampling(max_tokens=7, seed=3)),
        Request("one", GREEDY),
    ]
    recorded(runner)
    said(runner, people, patch)
    ahead = [after is not None for after in begun]
    assert sum(ahead) >= 8, "most steps are begun ahead"


def test_guesses_are_drawn_on_the_card_too(runner: ModelRunner, patch: pytest.MonkeyPatch) -> None:
    people = [Request("the fox", Sampling(max_tokens=30, seed=5, top_p=0.6)), Request("one", GREEDY)]
    guesses = Guesses(patch)
    runner.part.decoding = None
    expected = [tokens for tokens, _ in said(runner, people, patch)]
    guesses.begin()
    assert [tokens for tokens, _ in said(recorded(runner), people, patch)] == expected


def test_what_the_card_can_not_draw_is_drawn_here(runner: ModelRunner, patch: pytest.MonkeyPatch) -> None:
    """A nucleus of nearly the whole vocabulary, where few of the likeliest are looked at."""
    patch.setattr(drawing, "WIDTHS", (2, 4))
    people = [
        Request("the fox", Sampling(max_tokens=15, temperature=3.0, top_p=0.94, seed=9)),
        Request("one", GREEDY),
    ]
    runner.part.decoding = None
    expected = said(runner, people, patch)
    assert said(recorded(runner), people, patch) == expected


def test_nan_is_the_fault_of_one_conversation(runner: ModelRunner, patch: pytest.MonkeyPatch) -> None:
    people = [Request("the fox", GREEDY), Request("one two", GREEDY)]
    runner.part.decoding = None
    expected = said(runner, people, patch)
    decoding = recorded(runner).decoding
    assert decoding is not None
    run, steps = decoding.steps.drawing.draw, 0

    def spoilt(kind: Any, logits: Tensor) -> None:
        nonlocal steps
        steps += 1
        if steps == 3:
            logits[0] = float("nan")
        run(kind, logits)

    patch.setattr(decoding.steps.drawing, "draw", spoilt)
    (_, fault), other = said(runner, people, patch)
    assert isinstance(fault, NumericalFault)
    assert other == expected[1]


def test_the_host_draws_by_forms_and_scores_beside_what_the_card_computes(
    runner: ModelRunner, patch: pytest.MonkeyPatch
) -> None:
    people = [Request("the fox", Sampling(max_tokens=5, temperature=0.0, logprobs=2))]
    runner.part.decoding = None
    ((tokens, expected),) = said(runner, people, patch)
    ((same, found),) = said(recorded(runner), people, patch)
    assert tokens == same
    assert isinstance(expected, Progress)
    assert isinstance(found, Progress)
    assert [score.token for score in found.scores] == [score.token for score in expected.scores]


class _Watch(TorchDispatchMode):
    """Refuses what the host would read, and notes the memory that was there before."""

    def __init__(self) -> None:
        super().__init__()
        self.touched: set[int] = set()
        self._made: set[int] = set()
        self._alive: list[Tensor] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        assert name not in ("_local_scalar_dense", "nonzero", "item", "unique", "masked_select"), name
        made = func(*args, **(kwargs or {}))
        given = {_memory(each) for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)}
        self.touched |= given - self._made
        for each in tree_leaves(made):
            if isinstance(each, Tensor):
                if _memory(each) not in given | self.touched:
                    self._made.add(_memory(each))
                # Freed memory would be given to others, and be taken for theirs.
                self._alive.append(each)
        return made


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


class _Watching(EachTime):
    """Holds that each time the same memory is read and written, and that the host reads none of it."""

    def record(self, compute: Again) -> Again:
        first: set[int] = set()

        def again() -> None:
            with _Watch() as watch:
                compute()
            assert watch.touched, "a step has weights"
            if first:
                assert watch.touched == first
            first.update(watch.touched)

        compute()
        again()
        return again


def test_a_recorded_step_touches_the_same_memory_each_time_and_the_host_reads_none(
    runner: ModelRunner, patch: pytest.MonkeyPatch
) -> None:
    recorded(runner, _Watching())
    people = [
        Request("the fox", GREEDY),
        Request("one", Sampling(max_tokens=9, top_p=1.0, seed=1, repetition_penalty=1.2)),
        Request("a long prompt " * 20, GREEDY, round=4),
    ]
    said(runner, people, patch)


def test_what_is_usual_is_recorded_at_once(runner: ModelRunner) -> None:
    recorder = _Counting()
    recorded(runner, recorder)
    assert recorder.recorded >= 2 * len(BUCKETS)


class _Counting(EachTime):
    recorded = 0

    def record(self, compute: Again) -> Again:
        self.recorded += 1
        return super().record(compute)


def _counted(patch: pytest.MonkeyPatch) -> list[object]:
    """Of each step that was begun, the one before it where that was under way."""
    found: list[object] = []
    begin = CardDecoding.begin

    def counted(
        self: CardDecoding, step: Any, owners: Any, draws: Any, after: Any = None, sources: Sequence[int] = ()
    ) -> Any:
        made = begin(self, step, owners, draws, after, sources)
        if made is not None:
            found.append(after)
        return made

    patch.setattr(CardDecoding, "begin", counted)
    return found
