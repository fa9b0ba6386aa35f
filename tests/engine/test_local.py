"""The shared engine with real torch: one batch for everybody, each answer as if they were alone."""

from __future__ import annotations

import asyncio
import gc
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from chatglm_folder import write_chatglm_folder
from conftest import until
from glmbot.engine import local, model_thread
from glmbot.engine import part as part_module
from glmbot.engine.base import FinishReason, Precision, Progress, Sampling
from glmbot.engine.local import LocalEngine, LocalEngineSettings
from glmbot.errors import EngineStopped, NumericalFault, PrecisionError, PromptTooLong, QueueFull
from glmbot.native.program import Program
from held import held

QUESTIONS = [
    "What is the capital of France?",
    "Tell me a joke.",
    "Why is the sky blue?",
    "Write a haiku about the sea.",
    "你好，你是谁？",
    "1+1?",
    "Name three colours.",
    "Explain gravity to a child in a few words.",
]


async def ask(engine: LocalEngine, question: str, *, user: str = "u", **sampling: object) -> Progress:
    wish = Sampling(**{"max_tokens": 40, "temperature": 0, **sampling})  # pyright: ignore[reportArgumentType]
    prompt = engine.chat_format.encode_chat("", [], question)
    last = Progress()
    async for last in engine.generate(prompt, wish, user=user):
        pass
    return last


async def test_eight_people_at_once_share_one_batch_and_get_the_answers_they_get_alone(
    engine: LocalEngine,
) -> None:
    alone = [await ask(engine, question) for question in QUESTIONS]
    with held(engine):
        asked = [asyncio.create_task(ask(engine, question, user=question)) for question in QUESTIONS]
        await until(lambda: engine.stats().running == len(QUESTIONS))
    together = await asyncio.gather(*asked)
    assert [answer.text for answer in together] == [answer.text for answer in alone]
    assert engine.stats().largest_batch == 8
    assert len({answer.text for answer in alone}) > 4


async def test_answers_equal_transformers_own_generation(engine: LocalEngine, tiny_model: Path) -> None:
    reference: Any = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    for question in QUESTIONS[:4]:
        prompt = engine.chat_format.encode_chat("Be brief.", [], question)
        generated = reference.generate(
            torch.tensor([prompt]), max_new_tokens=40, do_sample=False, pad_token_id=0
        )[0, len(prompt) :].tolist()
        last = Progress()
        async for last in engine.generate(prompt, Sampling(max_tokens=40, temperature=0), user="u"):
            pass
        assert last.text == engine.chat_format.finish_text(engine.chat_format.decode(generated))


async def test_a_long_prompt_read_in_chunks_gives_the_same_answer(
    engine_settings: LocalEngineSettings,
) -> None:
    texts: list[str] = []
    for chunk in (7, 4096):
        engine = await LocalEngine.start(replace(engine_settings, prefill_tokens=chunk))
        texts.append((await ask(engine, "the lazy dog " * 100)).text)
        await engine.close()
    assert texts[0] == texts[1]


async def test_beside_a_program_of_our_own_threads_torch_has_one(
    engine_settings: LocalEngineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Torch's threads go on spinning after each small operation, on the cores that the program needs."""
    given: list[int] = []
    run = Program.run

    def watched(self: Program, *arguments: Any) -> torch.Tensor:
        given.append(arguments[3])
        return run(self, *arguments)

    monkeypatch.setattr(Program, "run", watched)
    engine = await LocalEngine.start(replace(engine_settings, threads=2))
    try:
        if not engine.thread.runner.native:
            pytest.skip("no kernels here")
        given.clear()
        await ask(engine, QUESTIONS[0])
        assert set(given) == {2}
        loop = asyncio.get_running_loop()
        counted: asyncio.Future[int] = loop.create_future()

        def count() -> None:
            loop.call_soon_threadsafe(counted.set_result, torch.get_num_threads())

        engine.thread.do(count)
        assert await counted == 1
    finally:
        await engine.close()


async def test_a_seed_repeats_an_answer_in_whatever_company(engine: LocalEngine) -> None:
    alone = await ask(engine, "hello", temperature=1.0, top_p=1.0, seed=42)
    crowd = await asyncio.gather(
        ask(engine, "hello", temperature=1.0, top_p=1.0, seed=42),
        *(ask(engine, f"other {n}", temperature=1.0, user=str(n)) for n in range(5)),
    )
    assert crowd[0].text == alone.text
    assert (await ask(engine, "hello", temperature=1.0, top_p=1.0, seed=43)).text != alone.text


async def test_a_stop_text_ends_an_answer(engine: LocalEngine) -> None:
    whole = (await ask(engine, "hello")).text
    stop = whole[10:13]
    stopped = await ask(engine, "hello", stop=(stop,))
    assert stopped.finish is FinishReason.STOP
    assert stopped.text == whole[: whole.index(stop)].strip()


async def test_closing_a_stream_frees_its_cache_at_the_next_step(engine: LocalEngine) -> None:
    prompt = engine.chat_format.encode_chat("", [], "hello")
    async with aclosing(engine.generate(prompt, Sampling(max_tokens=1500), user="u")) as stream:
        async for progress in stream:
            if progress.completion_tokens > 3:
                break
        assert engine.stats().cache_tokens_used > 0
    await until(lambda: engine.stats().cache_tokens_used == 0)
    assert engine.stats().running == 0


async def test_the_queue_tells_places_and_refuses_at_once_when_full(
    engine_settings: LocalEngineSettings,
) -> None:
    engine = await LocalEngine.start(replace(engine_settings, max_batch=1, queue_limit=2))
    places: dict[int, list[int]] = {1: [], 2: []}

    async def wait_in_line(number: int) -> None:
        prompt = engine.chat_format.encode_chat("", [], "hello")
        stream = engine.generate(prompt, Sampling(max_tokens=60, temperature=0), user=f"u{number}")
        async for progress in stream:
            if progress.place is not None:
                places[number].append(progress.place)

    with held(engine):
        long = asyncio.create_task(ask(engine, "hello", max_tokens=60, user="first"))
        await until(lambda: engine.stats().running == 1)
        waiting = []
        for number in (1, 2):
            waiting.append(asyncio.create_task(wait_in_line(number)))
            await until(lambda number=number: engine.stats().waiting == number)
        with pytest.raises(QueueFull) as full:
            await ask(engine, "hello", user="late")
    assert full.value.waiting == 2
    assert full.value.expected_wait_s is None, "nobody's answer has ended yet"
    await asyncio.gather(long, *waiting)
    assert places[1][0] == 1
    assert places[2][0] == 2
    assert places[2][-1] == 1
    await engine.close()


async def test_cache_memory_bounds_how_many_run_and_the_rest_wait(
    engine_settings: LocalEngineSettings,
) -> None:
    engine = await LocalEngine.start(replace(engine_settings, cache_tokens=300))
    answers = await asyncio.gather(*(ask(engine, "hello", max_tokens=100, user=str(n)) for n in range(6)))
    assert len({answer.text for answer in answers}) == 1
    assert engine.stats().largest_batch <= 2
    await engine.close()


async def test_what_cannot_fit_is_refused_before_it_waits(engine: LocalEngine) -> None:
    with pytest.raises(PromptTooLong):
        await anext(engine.generate([5] * 2040, Sampling(max_tokens=100), user="u"))
    with pytest.raises(PromptTooLong):
        await anext(engine.generate([], Sampling(max_tokens=100), user="u"))


async def test_a_deadline_ends_an_answer_with_what_there_is(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    for module in (local, model_thread):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    prompt = engine.chat_format.encode_chat("", [], "hello")
    last = Progress()
    with held(engine, after=3) as goes_on:
        async for last in engine.generate(prompt, Sampling(max_tokens=1900), user="u", deadline_s=600):
            if last.completion_tokens:
                now[0] = 601
                goes_on.set()
    assert last.finish is FinishReason.DEADLINE
    assert 0 < last.completion_tokens < 1900


async def test_switching_precision_lets_running_streams_go_on(engine: LocalEngine) -> None:
    shares: list[float] = []
    with held(engine):
        streams = [asyncio.create_task(ask(engine, f"q{n}", max_tokens=400, user=str(n))) for n in range(4)]
        await until(lambda: engine.stats().running == 4)
        await engine.set_precision(Precision.INT8, shares.append)
        assert engine.stats().running == 4
    for precision in (Precision.BF16, Precision.FP32, Precision.INT8):
        change = await engine.set_precision(precision, shares.append)
        assert change.after is precision is engine.precision
    answers = await asyncio.gather(*streams)
    assert all(answer.completion_tokens == 400 for answer in answers)
    assert shares[-1] == 1.0
    assert change.weight_bytes_after < 0.6 * (await engine.set_precision(Precision.FP32)).weight_bytes_after


async def test_after_a_round_trip_the_answers_are_the_old_ones(engine: LocalEngine) -> None:
    before = (await ask(engine, "hello")).text
    await engine.set_precision(Precision.INT8)
    await engine.set_precision(Precision.FP32)
    assert (await ask(engine, "hello")).text == before


async def test_a_failed_switch_is_rolled_back_and_streams_go_on(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (await ask(engine, "hello")).text
    real = part_module.fill
    calls: list[Precision] = []

    def failing(*args: object, **kwargs: object) -> None:
        calls.append(args[2])  # pyright: ignore[reportArgumentType]
        if args[2] is Precision.INT8:
            # Half the layers are converted already when the memory runs out.
            real(*args, **kwargs)  # pyright: ignore[reportArgumentType]
            raise MemoryError("no memory left")
        real(*args, **kwargs)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(part_module, "fill", failing)
    with held(engine):
        stream = asyncio.create_task(ask(engine, "hello", max_tokens=300))
        await until(lambda: engine.stats().running == 1)
        with pytest.raises(PrecisionError, match="no memory left"):
            await engine.set_precision(Precision.INT8)
    assert calls == [Precision.INT8, Precision.FP32]
    assert engine.precision is Precision.FP32
    assert (await stream).text.startswith(before[:20])
    assert (await ask(engine, "hello")).text == before


async def test_a_precision_that_this_machine_lacks_is_refused(engine: LocalEngine) -> None:
    with pytest.raises(PrecisionError, match="choose one of"):
        await engine.set_precision(Precision.FP16)
    assert engine.precision is Precision.FP32


async def test_nan_is_a_fault_of_one_conversation_and_is_not_hidden(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = engine.thread.runner.step

    def poisoned(chunks: list[object]) -> torch.Tensor:
        logits = real(chunks).clone()  # pyright: ignore[reportArgumentType]
        for row, chunk in enumerate(chunk for chunk in chunks if chunk.draws):  # pyright: ignore
            if chunk.sequence.user == "sick":  # pyright: ignore
                logits[row] = float("nan")
        return logits

    monkeypatch.setattr(engine.thread.runner, "step", poisoned)
    healthy = asyncio.create_task(ask(engine, "hello", user="healthy"))
    with pytest.raises(NumericalFault):
        await ask(engine, "hello", user="sick")
    assert (await healthy).completion_tokens == 40
    assert engine.stats().cache_tokens_used == 0


async def test_closing_the_engine_ends_running_streams_clearly(engine_settings: LocalEngineSettings) -> None:
    engine = await LocalEngine.start(engine_settings)
    with held(engine):
        stream = asyncio.create_task(ask(engine, "hello", max_tokens=1900))
        await until(lambda: engine.stats().running == 1)
        await engine.close()
    with pytest.raises(EngineStopped):
        await stream
    with pytest.raises(EngineStopped):
        await ask(engine, "hello")
    gc.collect()


@pytest.mark.parametrize(
    ("asked", "cache_tokens", "served", "reason"),
    [
        (20_000, 0, 20_000, ""),
        (40_000, 0, 32_768, "the model has no more positions"),
        (4096, 3000, 3000, "cache_tokens allows no more"),
    ],
)
async def test_a_context_is_served_as_it_was_asked_for_or_the_reason_is_said(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    asked: int,
    cache_tokens: int,
    served: int,
    reason: str,
) -> None:
    folder = write_chatglm_folder(tmp_path / "chatglm3-6b-32k", "chatglm3-6b", seq_length=32_768)
    settings = LocalEngineSettings(folder, device="cpu", context_length=asked, cache_tokens=cache_tokens)
    engine = await LocalEngine.start(settings)
    assert engine.context_length == served
    await engine.close()
    assert (reason in caplog.text) if reason else ("are served" not in caplog.text)
