"""Answers of a given form: nothing else can be said, whoever else is answered, and in whatever steps."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.guesses import Guesses
from form_schemas import SCHEMAS, is_valid
from glmbot.engine.answer import Answer
from glmbot.engine.base import Ability, FinishReason, Precision, Progress, Sampling
from glmbot.engine.grammars import grammar_of, json_rule
from glmbot.engine.local import LocalEngine, LocalEngineSettings
from glmbot.engine.masks import FormCompiler
from glmbot.engine.templated import TemplatedEngine
from glmbot.errors import EngineError, PromptInvalid
from glmbot.forms import Form, FormKind
from glmbot.native.library import kernels

WILD = Sampling(max_tokens=600, temperature=1.0, top_p=1.0)
CALLS = "\n".join(
    (
        "start: (TEXT call){2,4}",
        'call: <|im_start|> "look" ARGUMENTS <[0]>',
        "TEXT: /[a-z ]{0,6}/",
        "ARGUMENTS: /[0-9]{1,3}/",
    )
)


@pytest.fixture
async def holding(tiny_model: Path) -> AsyncGenerator[LocalEngine]:
    settings = LocalEngineSettings(tiny_model, precision=Precision.FP32, cache_tokens=16_384, threads=1)
    engine = await LocalEngine.start(settings)
    yield engine
    await engine.close()


def schema(name: str) -> Form:
    return Form(FormKind.SCHEMA, json.dumps(SCHEMAS[name], ensure_ascii=False))


async def answer(
    engine: LocalEngine, sampling: Sampling, question: str = "Hello?", user: str = "u"
) -> Progress:
    last = Progress()
    prompt = engine.chat_format.encode_chat("", (), question)
    async for progress in engine.generate(prompt, sampling, user=user):
        assert progress.text.startswith(last.text)
        last = progress
    return last


async def test_whatever_a_random_model_says_has_the_schema_that_was_asked_for(holding: LocalEngine) -> None:
    async def ask(name: str, seed: int) -> None:
        said = await answer(holding, replace(WILD, seed=seed, form=schema(name)), user=f"{name} {seed}")
        assert said.finish is FinishReason.STOP
        assert is_valid(SCHEMAS[name], said.text), said.text

    for seed in range(5):
        await asyncio.gather(*(ask(name, seed) for name in SCHEMAS))


async def test_a_regular_expression_a_grammar_and_any_object(holding: LocalEngine) -> None:
    regex = Form(FormKind.REGEX, "(红|蓝|a/b){2,5} [0-9]{2}")
    said = await answer(holding, replace(WILD, form=regex, seed=1))
    assert re.fullmatch(regex.source, said.text)
    grammar = Form(FormKind.GRAMMAR, f'start: "call " body\nbody: {json_rule(SCHEMAS["weather"])}')
    said = await answer(holding, replace(WILD, form=grammar, seed=1))
    assert is_valid(SCHEMAS["weather"], said.text.removeprefix("call "))
    said = await answer(holding, replace(WILD, form=Form(FormKind.JSON), seed=1))
    assert isinstance(json.loads(said.text), dict)


async def test_an_answer_that_has_no_room_for_its_form_is_cut_as_any_is(holding: LocalEngine) -> None:
    said = await answer(holding, replace(WILD, form=Form(FormKind.REGEX, "[a-z]{99}"), max_tokens=9))
    assert (said.finish, said.completion_tokens) == (FinishReason.LENGTH, 9)


async def test_control_tokens_stand_where_a_grammar_names_them_and_nowhere_else(
    holding: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[int] = []
    advance = holding.thread._advance

    def noted(each: Answer, token: int, *more: Any) -> Any:
        drawn.append(token)
        return advance(each, token, *more)

    monkeypatch.setattr(holding.thread, "_advance", noted)
    form = Form(FormKind.GRAMMAR, CALLS)
    said = await answer(holding, replace(WILD, form=form, seed=3, max_tokens=400))
    assert re.fullmatch("([a-z ]{0,6}look[0-9]{1,3}){2,4}", said.text)
    control = [token for token in drawn if token in (0, 1)]
    assert control == [1, 0] * (len(control) // 2)
    assert len(control) == 2 * said.text.count("look")


async def test_who_has_no_form_hears_what_they_hear_alone(holding: LocalEngine) -> None:
    free = [replace(WILD, max_tokens=40, seed=seed, top_p=0.9) for seed in range(3)]
    formed = [
        replace(WILD, max_tokens=200, seed=seed, form=schema(name))
        for seed, name in enumerate(list(SCHEMAS)[:6])
    ]
    alone = [await answer(holding, each) for each in (*free, *formed)]
    together = await asyncio.gather(
        *(answer(holding, each, user=str(number)) for number, each in enumerate((*free, *formed)))
    )
    assert [each.text for each in together] == [each.text for each in alone]
    assert holding.stats().largest_batch > 1


async def test_prompts_in_chunks_change_nothing(tiny_model: Path) -> None:
    wish = replace(WILD, form=schema("order"), seed=2)
    texts: list[str] = []
    for chunk in (7, 4096):
        settings = LocalEngineSettings(
            tiny_model, precision=Precision.FP32, cache_tokens=4096, threads=1, prefill_tokens=chunk
        )
        engine = await LocalEngine.start(settings)
        texts.append((await answer(engine, wish, "the lazy dog " * 20)).text)
        await engine.close()
    assert texts[0] == texts[1]


@pytest.mark.parametrize("name", ["order", "payment", "天气查询", "tree"])
async def test_guesses_change_nothing(
    holding: LocalEngine, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Right ones, wrong ones, and such as the form forbids."""
    if kernels() is None:
        pytest.skip("no C++ compiler here")
    guesses = Guesses(monkeypatch)
    wishes = [replace(WILD, form=schema(name), seed=seed, temperature=seed / 2) for seed in range(3)]
    without = [await answer(holding, wish) for wish in wishes]
    guesses.begin()
    assert [await answer(holding, wish) for wish in wishes] == without
    stats = holding.stats()
    assert 20 < stats.tokens_guessed_right < stats.tokens_guessed


@pytest.mark.parametrize(
    ("form", "reason"),
    [
        (Form(FormKind.SCHEMA, '{"type": "object", "if": {}}'), "if"),
        (Form(FormKind.SCHEMA, '{"enum": []}'), "Unsatisfiable"),
        (Form(FormKind.SCHEMA, '{"$ref": "https://example.com/schema"}'), "does not fetch"),
        (Form(FormKind.SCHEMA, '["a"]'), "no JSON object"),
        (Form(FormKind.SCHEMA, '{"type": '), "no JSON"),
        (Form(FormKind.SCHEMA, '{"not":' * 5000 + "{}" + "}" * 5000), "nested"),
        (Form(FormKind.REGEX, "("), "unclosed group"),
        (Form(FormKind.REGEX, "(?=a)b"), "look-around"),
        (Form(FormKind.GRAMMAR, 'start: "a" nothing'), "nothing"),
        (Form(FormKind.GRAMMAR, "start: <|no_such_token|>"), "unknown special token"),
        (Form(FormKind.GRAMMAR, "start: <[4000000]>"), "4000000"),
    ],
)
async def test_what_no_answer_can_be_held_to_is_refused_with_the_reason(
    holding: LocalEngine, form: Form, reason: str
) -> None:
    with pytest.raises(PromptInvalid, match="the form of the answer: .*" + re.escape(reason)):
        await answer(holding, replace(WILD, form=form))


MANY = {f"p{number}": {} for number in range(4000)}


@pytest.mark.parametrize(
    "source",
    [
        json.dumps({"type": "integer", "multipleOf": 999_983}),
        json.dumps({"allOf": [{"type": "integer", "multipleOf": number} for number in (991, 997)]}),
        '{"type": "integer", "multiple\\u004ff": 1e12}',
        '{"type": "number", "multipleOf": 1e-300}',
        json.dumps({"type": "object", "properties": MANY}),
        '{"$ref": "#"}',
        '{"items":' * 400 + "{}" + "}" * 400,
    ],
)
@pytest.mark.parametrize("inline", [False, True])
async def test_a_schema_that_would_take_minutes_or_gigabytes_is_refused(
    holding: LocalEngine, source: str, inline: bool
) -> None:
    form = Form(FormKind.GRAMMAR, f"start: %json {source}") if inline else Form(FormKind.SCHEMA, source)
    began = time.process_time()
    with pytest.raises(PromptInvalid):
        await answer(holding, replace(WILD, form=form))
    assert time.process_time() - began < 5


def test_looking_for_costly_numbers_takes_no_time_whatever_the_source() -> None:
    began = time.process_time()
    grammar_of(Form(FormKind.GRAMMAR, 'start: "' + '\\"' * 20_000))
    assert time.process_time() - began < 3


async def test_nobody_waits_for_another_ones_form(holding: LocalEngine) -> None:
    """Grammars that can be read in more ways the longer the answer gets, and expressions with as many states."""
    bombs = (
        Form(FormKind.GRAMMAR, 'start: e\ne: e e | e e e | "a" | ""'),
        Form(FormKind.GRAMMAR, 'start: e\ne: e e | e e e e | /[a-z]/ | /[a-z0-9]+/ | ""'),
        Form(FormKind.REGEX, "(?s:.)*a(?s:.){300}"),
        Form(FormKind.REGEX, "((a{0,100}){0,100}){0,100}"),
    )
    waits: list[float] = []

    async def attack(form: Form, user: str) -> None:
        with suppress(EngineError):
            await answer(holding, replace(WILD, form=form, max_tokens=150), user=user)

    async def listen() -> None:
        before, process = time.monotonic(), time.process_time()
        prompt = holding.chat_format.encode_chat("", (), "Hello?")
        async for _ in holding.generate(prompt, replace(WILD, max_tokens=150), user="listener"):
            # Less what this process had no processor for.
            waits.append(min(time.monotonic() - before, time.process_time() - process))
            before, process = time.monotonic(), time.process_time()

    await asyncio.gather(listen(), *(attack(form, str(number)) for number, form in enumerate(bombs)))
    assert max(waits) < 0.5


async def test_waiting_for_a_form_is_a_part_of_the_time_that_an_answer_has(
    holding: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    monkeypatch.setattr(FormCompiler, "compile", lambda *_, **__: go_on.wait(20))
    prompt = holding.chat_format.encode_chat("", (), "Hello?")
    wish = replace(WILD, form=Form(FormKind.JSON))
    said = [each async for each in holding.generate(prompt, wish, user="u", deadline_s=0.05)]
    go_on.set()
    assert [each.finish for each in said] == [FinishReason.DEADLINE]
    assert said[0].prompt_tokens == len(prompt)


async def test_likelihoods_are_those_of_the_model_whatever_its_form_forbids(holding: LocalEngine) -> None:
    """Beside somebody who has none of both."""
    wish = Sampling(max_tokens=6, temperature=0.0, logprobs=20)
    form = replace(wish, form=Form(FormKind.REGEX, "[0-9]{9}"))
    free, held, _ = await asyncio.gather(
        answer(holding, wish, user="a"),
        answer(holding, form, user="b"),
        answer(holding, replace(WILD, max_tokens=6)),
    )
    first, forced = free.scores[0], held.scores[0]
    assert forced.top == first.top
    assert forced.logprob is not None
    assert first.logprob is not None
    assert forced.logprob < first.logprob


async def test_an_engine_says_whether_it_holds_forms(holding: LocalEngine) -> None:
    assert Ability.FORMS in TemplatedEngine(holding).abilities
    holding.thread.forms = None
    assert Ability.FORMS not in TemplatedEngine(holding).abilities
    with pytest.raises(PromptInvalid, match="can't be held"):
        await answer(holding, replace(WILD, form=Form(FormKind.JSON)))
