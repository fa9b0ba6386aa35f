"""Faults of one request, of a switch, of the whole model thread: who is told, and who never notices."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import until
from glmbot.engine import part as part_module
from glmbot.engine.base import FinishReason, Precision, Progress, Sampling
from glmbot.engine.detokenizer import Detokenizer
from glmbot.engine.local import LocalEngine, LocalEngineSettings
from glmbot.engine.part import ModelPart
from glmbot.errors import EngineError, EngineStopped, PrecisionError, PromptInvalid
from glmbot.native.library import kernels
from held import held

pytestmark = pytest.mark.asyncio(loop_scope="module")


class Panic(BaseException):
    """As a library in Rust raises it: no Exception."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tiny_model: Path) -> AsyncGenerator[LocalEngine]:
    """For tests that leave it as it was."""
    made = await started(tiny_model)
    yield made
    await made.close()


async def started(folder: Path) -> LocalEngine:
    return await LocalEngine.start(
        LocalEngineSettings(folder, precision=Precision.FP32, cache_tokens=8192, threads=1)
    )


async def ask(
    engine: LocalEngine, user: str = "u", *, deadline_s: float | None = None, **wish: Any
) -> Progress:
    prompt = engine.chat_format.encode_chat("", [], "hello")
    settings: dict[str, Any] = {"max_tokens": 30, "temperature": 0, **wish}
    sampling = Sampling(**settings)
    last = Progress()
    async for last in engine.generate(prompt, sampling, user=user, deadline_s=deadline_s):
        pass
    return last


@pytest.mark.parametrize("second", [MemoryError("none left"), Panic("unwrap on None")])
async def test_a_roll_back_that_fails_is_told_to_everybody(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, second: BaseException
) -> None:
    engine = await started(tiny_model)
    errors = iter([RuntimeError("can't convert"), second])

    def failing(*_: object, **__: object) -> None:
        raise next(errors)

    monkeypatch.setattr(part_module, "fill", failing)
    with held(engine):
        running = asyncio.create_task(ask(engine, max_tokens=1900))
        await until(lambda: engine.stats().running == 1)
        with pytest.raises(PrecisionError, match=r"can't convert.*fp32 failed too"):
            await engine.set_precision(Precision.INT8)
    with pytest.raises(EngineStopped, match="failed too"):
        await running
    assert not engine.stats().alive
    with pytest.raises(EngineStopped, match="restart"):
        await ask(engine)
    with pytest.raises(EngineStopped):
        await engine.set_precision(Precision.INT8)
    await engine.forget("u")
    await engine.close()


async def test_a_switch_that_panics_is_rolled_back(
    shared: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (await ask(shared)).text
    real = part_module.fill

    def failing(*args: Any, **kwargs: Any) -> None:
        real(*args, **kwargs)
        if args[2] is Precision.INT8:
            raise Panic("unwrap on None")

    monkeypatch.setattr(part_module, "fill", failing)
    with pytest.raises(PrecisionError, match="unwrap on None"):
        await shared.set_precision(Precision.INT8)
    assert (await ask(shared)).text == before
    assert shared.stats().alive


@pytest.mark.parametrize("fails", [False, True], ids=["on its way", "on its way back"])
async def test_a_switch_does_not_keep_the_process_from_its_end(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, *, fails: bool
) -> None:
    engine = await started(tiny_model)
    begun, closing = threading.Event(), threading.Event()
    layers: list[float] = []

    def endless(*given: Any) -> None:
        report = given[4]
        if fails and given[2] is Precision.INT8:
            raise RuntimeError("can't convert")
        for layer in range(1000):
            layers.append(layer)
            report(layer / 1000)
            begun.set()
            assert closing.wait(30)

    monkeypatch.setattr(part_module, "fill", endless)
    switch = asyncio.create_task(engine.set_precision(Precision.INT8))
    await asyncio.to_thread(begun.wait, 30)
    ends = asyncio.create_task(engine.close())
    await until(lambda: engine.thread._stopping)
    closing.set()
    await ends
    assert not engine.thread.alive
    assert len(layers) <= 2
    with pytest.raises(EngineStopped):
        await switch


async def test_a_thread_that_ends_fails_streams_waiting_requests_and_promises(tiny_model: Path) -> None:
    engine = await started(tiny_model)

    all_asked = threading.Event()

    def hold() -> None:
        all_asked.wait(30)

    def broken() -> None:
        raise Panic("out of range")

    with held(engine):
        running = [asyncio.create_task(ask(engine, str(n), max_tokens=400)) for n in range(20)]
        await until(lambda: engine.stats().waiting > 0)
        engine.thread.do(hold)
        engine.thread.do(broken)
        switch = asyncio.create_task(engine.set_precision(Precision.INT8))
        forget = asyncio.create_task(engine.forget("3"))
        await asyncio.sleep(0)
        all_asked.set()
    tasks: list[asyncio.Task[Any]] = [*running, switch, forget]
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    *told, forgotten = ends
    assert all(isinstance(end, EngineStopped) for end in told)
    assert forgotten is None
    assert not engine.stats().alive
    await engine.close()


async def test_a_request_that_cannot_be_begun_fails_alone(
    shared: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = await ask(shared)
    real = shared.thread.runner.begin

    def begin(sequence: Any) -> None:
        if sequence.user == "bad":
            raise RuntimeError("not enough memory")
        real(sequence)

    monkeypatch.setattr(shared.thread.runner, "begin", begin)
    good, bad, other = await asyncio.gather(
        ask(shared, "good"), ask(shared, "bad"), ask(shared, "other"), return_exceptions=True
    )
    assert good == other == alone
    assert isinstance(bad, EngineError)
    assert "not enough memory" in str(bad)
    assert shared.stats().cache_tokens_used == 0


@pytest.mark.parametrize("error", [IndexError("index out of range"), Panic("regex")])
async def test_whoever_makes_a_step_fail_is_found_and_fails_alone(
    shared: LocalEngine, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    alone = await ask(shared)
    real = shared.thread.runner.step

    def step(chunks: list[Any]) -> Any:
        if any(chunk.sequence.user == "bad" and chunk.sequence.drawn > 5 for chunk in chunks):
            raise error
        return real(chunks)

    monkeypatch.setattr(shared.thread.runner, "step", step)
    good, bad, other = await asyncio.gather(
        ask(shared, "good"), ask(shared, "bad"), ask(shared, "other"), return_exceptions=True
    )
    assert good == other == alone
    assert isinstance(bad, EngineError)
    assert shared.stats().alive


async def test_a_model_that_computes_nothing_any_more_ends_the_thread(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = await started(tiny_model)

    def forward(_: object) -> None:
        raise RuntimeError("device-side assert triggered")

    monkeypatch.setattr(engine.thread.runner, "_forward", forward)
    with pytest.raises(EngineError, match="device-side"):
        await ask(engine)
    await until(lambda: not engine.stats().alive)
    await engine.close()


async def test_a_panic_while_text_is_made_fails_that_answer_alone(
    shared: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = await ask(shared)
    push, finish = Detokenizer.push, Detokenizer.finish

    def panics(self: Detokenizer, token: int) -> None:
        if self._stop._stops == ("push",):
            raise Panic("decode")
        push(self, token)

    def ends(self: Detokenizer) -> str:
        if self._stop._stops == ("finish",):
            raise Panic("decode")
        return finish(self)

    monkeypatch.setattr(Detokenizer, "push", panics)
    monkeypatch.setattr(Detokenizer, "finish", ends)
    good, *bad = await asyncio.gather(
        ask(shared, "good"),
        ask(shared, "bad", stop=("push",)),
        ask(shared, "worse", stop=("finish",)),
        return_exceptions=True,
    )
    assert good == alone
    assert all(isinstance(each, EngineError) for each in bad)


async def test_a_deadline_holds_while_the_model_stands_still(
    shared: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()
    real = shared.thread.runner.step

    def stuck(chunks: list[Any]) -> Any:
        if chunks[0].sequence.drawn == 3:
            released.wait(60)
        return real(chunks)

    monkeypatch.setattr(shared.thread.runner, "step", stuck)
    last = await ask(shared, deadline_s=0.05)
    assert last.finish is FinishReason.DEADLINE
    assert last.completion_tokens <= 3
    assert shared.stats().step_s > 0.5, "the thread is seen to stand"
    released.set()
    monkeypatch.undo()
    assert (await ask(shared)).completion_tokens == 30
    await until(lambda: shared.stats().step_s == 0)


@pytest.mark.parametrize("prompt", [[10**6], [-1], [10**30], [5, 6, 500_000]])
async def test_a_token_outside_the_vocabulary_is_refused(shared: LocalEngine, prompt: list[int]) -> None:
    with pytest.raises(PromptInvalid, match="the model's tokens are 0 to"):
        await anext(shared.generate(prompt, Sampling(max_tokens=4), user="u"))


_numbers = st.sampled_from([0, 1, 2, 499, 2**31 - 1, 2**31, 2**63, 10**30, -1])
_floats = st.sampled_from(
    [0.0, 1e-300, 1e-6, 0.01, 0.5, 1.0, 5.0, 10.0, 1e300, float("inf"), float("nan"), -1.0]
)
_hostile = st.fixed_dictionaries(
    {
        "temperature": _floats,
        "top_p": _floats,
        "top_k": _numbers,
        "repetition_penalty": _floats,
        "seed": st.none() | _numbers,
        "stop": st.lists(st.sampled_from(["", "a", "\ud800", "ab" * 500, "x" * 1001, "\0"]), max_size=3).map(
            tuple
        ),
    }
)
_prompts = st.lists(st.sampled_from([0, 5, 9, 300, 4]), min_size=1, max_size=6) | st.lists(
    st.sampled_from([5, -1, 503, 10**6, 10**30]), min_size=1, max_size=3
)


@settings(max_examples=12)
@given(st.lists(st.tuples(_hostile, _prompts, st.sampled_from([0, 0, 1, -1, 10**9])), min_size=1, max_size=5))
async def test_whatever_others_ask_for_a_running_answer_is_what_it_is_alone(
    shared: LocalEngine, others: list[tuple[dict[str, Any], list[int], int]]
) -> None:
    async def hostile(wish: dict[str, Any], prompt: list[int], begun: int) -> None:
        try:
            sampling = Sampling(max_tokens=6, **wish)
        except ValueError:
            return
        try:
            async for _ in shared.generate(prompt, sampling, user="hostile", begun=begun):
                pass
        except EngineError:
            pass

    running, *_ = await asyncio.gather(
        ask(shared, seed=7, temperature=1.0), *(hostile(*each) for each in others)
    )
    if not hasattr(shared, "expected"):
        shared.expected = await ask(shared, seed=7, temperature=1.0)  # pyright: ignore[reportAttributeAccessIssue]
    assert running == shared.expected  # pyright: ignore[reportAttributeAccessIssue]
    assert shared.stats().alive


@pytest.mark.parametrize("factor", [-1.0, float("nan")])
async def test_a_native_program_that_was_given_up_is_no_measure_for_later_switches(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, factor: float
) -> None:
    if kernels() is None:
        pytest.skip("no C++ compiler here")
    sound = await started(tiny_model)
    expected = (await ask(sound)).text
    await sound.close()
    real = ModelPart._by_program
    monkeypatch.setattr(ModelPart, "_by_program", lambda *arguments: real(*arguments) * factor)
    engine = await started(tiny_model)
    assert not engine.thread.runner.native
    for precision in (Precision.BF16, Precision.INT8, Precision.FP32):
        assert (await engine.set_precision(precision)).after is precision
        assert not engine.thread.runner.native
    assert (await ask(engine)).text == expected
    await engine.close()
