"""The OpenAI-compatible interface beyond plain chats, with the real `openai` client."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
import torch
from openai import AsyncOpenAI
from transformers import AutoModelForCausalLM

from adapters.scripted import ScriptedEngine
from adapters.test_web import web
from dialogue.moderators import moderated
from glmbot.completions import Completion, TokenScore
from glmbot.engine.local import LocalEngine
from glmbot.messages import Reply, ReplyState, Usage
from glmbot.store.base import Store
from glmbot_web.adapter import WebAdapter
from glmbot_web.choices import growing
from glmbot_web.responses_form import ResponsesForm
from glmbot_web.responses_request import ResponsesRequest

CHAT: Any = {
    "model": "m",
    "messages": [{"role": "user", "content": "hello"}],
    "max_tokens": 12,
    "temperature": 0,
}


def changed(ask: Any, **fields: Any) -> Any:
    return {**ask, **fields}


TEXT = "The quick brown fox jumps over"


@asynccontextmanager
async def client_of(site: WebAdapter) -> AsyncGenerator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{site.url}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture
async def client(engine: LocalEngine, sqlite_store: Store) -> AsyncGenerator[AsyncOpenAI]:
    async with web(engine, sqlite_store) as site, client_of(site) as made:
        yield made


async def test_chats_tell_how_likely_their_tokens_were(client: AsyncOpenAI) -> None:
    whole = await client.chat.completions.create(**CHAT, logprobs=True, top_logprobs=3)
    choice = whole.choices[0]
    assert choice.logprobs is not None
    assert choice.logprobs.content is not None
    assert len(choice.logprobs.content) == 12
    for each in choice.logprobs.content:
        assert each.token == each.top_logprobs[0].token, "greedy"
        assert [top.logprob for top in each.top_logprobs] == sorted(
            (top.logprob for top in each.top_logprobs), reverse=True
        )
        if each.bytes is None:
            assert each.token.startswith("token_id:"), "a part of a character"
        else:
            assert bytes(each.bytes).decode() == each.token
            assert each.token.strip() in (choice.message.content or "")
    streamed: list[Any] = []
    async for chunk in await client.chat.completions.create(
        **CHAT, logprobs=True, top_logprobs=3, stream=True
    ):
        logprobs = chunk.choices[0].logprobs
        streamed += (logprobs.content or []) if logprobs is not None else []
    assert streamed == choice.logprobs.content
    with pytest.raises(openai.BadRequestError, match="top_logprobs"):
        await client.chat.completions.create(**CHAT, top_logprobs=3)


async def test_several_answers_have_seeds_of_their_own(client: AsyncOpenAI, engine: LocalEngine) -> None:
    ask: Any = changed(CHAT, temperature=1.5, seed=7)
    whole = await client.chat.completions.create(**ask, n=3)
    said = [choice.message.content for choice in whole.choices]
    assert [choice.index for choice in whole.choices] == [0, 1, 2]
    assert len(set(said)) == 3
    assert whole.usage is not None
    assert whole.usage.completion_tokens == 36
    one = await client.chat.completions.create(**changed(ask, seed=8))
    assert one.choices[0].message.content == said[1]
    assert one.usage is not None
    assert one.usage.prompt_tokens == whole.usage.prompt_tokens
    streamed = ["", "", ""]
    ends: list[int] = []
    async for chunk in await client.chat.completions.create(**ask, n=3, stream=True):
        for choice in chunk.choices:
            streamed[choice.index] += choice.delta.content or ""
            ends += [choice.index] if choice.finish_reason else []
    assert streamed == said
    assert sorted(ends) == [0, 1, 2]
    with pytest.raises(openai.BadRequestError, match="n: "):
        await client.chat.completions.create(**CHAT, n=9)


async def test_penalties_and_biases_change_what_is_drawn(client: AsyncOpenAI, engine: LocalEngine) -> None:
    (token,) = engine.chat_format.encode_text("o")
    biased = await client.chat.completions.create(**CHAT, logit_bias={str(token): 100})
    assert biased.choices[0].message.content == "o" * 12
    varied = await client.chat.completions.create(
        **CHAT, logit_bias={str(token): 12}, presence_penalty=2, frequency_penalty=2
    )
    assert varied.choices[0].message.content != biased.choices[0].message.content
    likeliest = await client.chat.completions.create(**CHAT)
    hot = await client.chat.completions.create(**changed(CHAT, temperature=2), extra_body={"min_p": 1})
    assert hot.choices[0].message.content == likeliest.choices[0].message.content
    for wrong in ({"logit_bias": {"99999": 1}}, {"logit_bias": {"1": 101}}, {"presence_penalty": 3}):
        with pytest.raises(openai.BadRequestError, match=next(iter(wrong))):
            await client.chat.completions.create(**changed(CHAT, **wrong))


async def test_texts_go_on_and_are_scored(client: AsyncOpenAI, engine: LocalEngine, tiny_model: Path) -> None:
    ask: Any = {"model": "m", "max_tokens": 5, "temperature": 0}
    whole = await client.completions.create(**ask, prompt=TEXT)
    text = ""
    async for chunk in await client.completions.create(**ask, prompt=TEXT, stream=True):
        text += chunk.choices[0].text
    assert text == whole.choices[0].text
    tokens = engine.chat_format.encode_text(TEXT)
    scored = await client.completions.create(**ask, prompt=[tokens, tokens[:4]], echo=True, logprobs=1)
    first, second = scored.choices
    assert first.text == TEXT + whole.choices[0].text
    assert scored.usage is not None
    assert scored.usage.prompt_tokens == len(tokens) + 4
    logprobs = first.logprobs
    assert logprobs is not None
    assert logprobs.tokens is not None
    assert logprobs.text_offset is not None
    for at, each in zip(logprobs.text_offset, logprobs.tokens, strict=True):
        assert first.text[at:].startswith(each) or each.startswith("token_id:"), "a part of a character"
    assert "".join(logprobs.tokens[: len(tokens)]) == TEXT
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    with torch.inference_mode():
        expected = torch.log_softmax(model(torch.tensor([tokens])).logits[0].float(), -1)
    told = logprobs.token_logprobs
    assert told is not None
    assert told[0] is None
    for at, token in enumerate(tokens[1:], 1):
        assert told[at] == pytest.approx(float(expected[at - 1, token]), abs=1e-3)
    assert second.logprobs is not None
    assert second.logprobs.token_logprobs is not None
    assert second.logprobs.token_logprobs[1:4] == pytest.approx(told[1:4], abs=1e-4)
    only = await client.completions.create(**changed(ask, max_tokens=0), prompt=TEXT, echo=True, logprobs=0)
    assert only.choices[0].text == TEXT
    assert only.choices[0].logprobs is not None
    assert len(only.choices[0].logprobs.tokens or []) == len(tokens)
    # An answer that ends at once has that one token, which whoever scores texts counts.
    (end, *_) = sorted(engine._model.stop_tokens)
    ended = await client.completions.create(**ask, prompt=TEXT, logprobs=1, logit_bias={str(end): 100})
    assert ended.choices[0].text == ""
    assert ended.choices[0].finish_reason == "stop"
    assert ended.choices[0].logprobs is not None
    assert ended.choices[0].logprobs.tokens == [f"token_id:{end}"]
    for wrong, name in (
        ({"prompt": TEXT, "suffix": "x"}, "suffix"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": [10**6]}, "prompt"),
        ({"prompt": TEXT, "best_of": 2}, "best_of"),
        ({"prompt": TEXT, "max_tokens": 0}, "max_tokens"),
        ({"prompt": [[1]] * 65}, "prompt"),
    ):
        with pytest.raises(openai.BadRequestError, match=name):
            await client.completions.create(**changed(ask, **wrong))
    with pytest.raises(openai.BadRequestError) as long:
        await client.completions.create(**ask, prompt="word " * 5000)
    assert long.value.code == "context_length_exceeded"


async def test_what_moderation_refuses_is_not_told_by_scores(
    engine: LocalEngine, sqlite_store: Store
) -> None:
    async with web(engine, sqlite_store) as site, client_of(site) as client:
        whole = await client.chat.completions.create(**changed(CHAT, max_tokens=30))
    said = whole.choices[0].message.content or ""
    word = re.findall(r"[a-z]{3,}", said)[-1]
    async with (
        web(engine, sqlite_store, moderation=moderated([word])) as site,
        client_of(site) as client,
    ):
        cut = await client.chat.completions.create(**changed(CHAT, max_tokens=30), logprobs=True)
        assert cut.choices[0].finish_reason == "content_filter"
        logprobs = cut.choices[0].logprobs
        assert logprobs is not None
        assert word not in "".join(each.token for each in logprobs.content or [])
        with pytest.raises(openai.BadRequestError, match="does not allow"):
            await client.completions.create(model="m", prompt=f"a {word}")
        tokens = engine.chat_format.encode_text(f"a {word}")
        with pytest.raises(openai.BadRequestError, match="does not allow"):
            await client.completions.create(model="m", prompt=tokens)


async def test_nor_by_what_might_have_been_said(engine: LocalEngine, sqlite_store: Store) -> None:
    wish: Any = {"logprobs": True, "top_logprobs": 20}
    async with web(engine, sqlite_store) as site, client_of(site) as client:
        whole = await client.chat.completions.create(**changed(CHAT, max_tokens=30), **wish)
    said, word, place = "", "", -1
    logprobs = whole.choices[0].logprobs
    assert logprobs is not None
    for number, each in enumerate(logprobs.content or []):
        for other in each.top_logprobs:
            found = re.search(r"[a-z]{3,}$", said + other.token)
            if not word and found and found[0] not in (whole.choices[0].message.content or ""):
                word, place = found[0], number
        said += each.token
    assert word
    moderation = moderated([word])
    async with web(engine, sqlite_store, moderation=moderation) as site, client_of(site) as client:
        told = await client.chat.completions.create(**changed(CHAT, max_tokens=30), **wish)
    assert told.choices[0].message.content == whole.choices[0].message.content
    logprobs = told.choices[0].logprobs
    assert logprobs is not None
    content = logprobs.content or []
    before = "".join(each.token for each in content[:place])
    assert 0 < len(content[place].top_logprobs) < 20
    assert not [other for other in content[place].top_logprobs if (before + other.token).endswith(word)]


async def test_offsets_of_texts_do_not_drift_behind_parts_of_characters(client: AsyncOpenAI) -> None:
    text = "🙂 a 你🙂 b"
    ask: Any = {"model": "m", "max_tokens": 8, "logprobs": 0, "echo": True}
    scored = await client.completions.create(**ask, prompt=text)
    logprobs = scored.choices[0].logprobs
    assert logprobs is not None
    offsets, tokens = logprobs.text_offset or [], logprobs.tokens or []
    assert offsets == sorted(offsets)
    read = {token.strip(): scored.choices[0].text[at:] for at, token in zip(offsets, tokens, strict=True)}
    assert read["a"].lstrip().startswith("a 你")
    assert read["b"].lstrip().startswith("b")


async def test_an_engine_that_can_not_score_says_so(sqlite_store: Store) -> None:
    async with web(ScriptedEngine(), sqlite_store) as site, client_of(site) as client:  # type: ignore[arg-type]
        for wish in ({"logprobs": True}, {"presence_penalty": 1}, {"logit_bias": {"5": 1}}):
            with pytest.raises(openai.BadRequestError, match=next(iter(wish))):
                await client.chat.completions.create(**changed(CHAT, **wish))


async def test_responses_are_whole_or_streamed_in_typed_events(client: AsyncOpenAI) -> None:
    chat = await client.chat.completions.create(
        **changed(CHAT, messages=[{"role": "system", "content": "Be brief."}, *CHAT["messages"]])
    )
    ask: Any = {"model": "m", "instructions": "Be brief.", "max_output_tokens": 12, "temperature": 0}
    whole = await client.responses.create(**ask, input="hello", store=False)
    assert whole.output_text == chat.choices[0].message.content
    assert whole.status == "incomplete"
    assert whole.incomplete_details is not None
    assert whole.incomplete_details.reason == "max_output_tokens"
    assert whole.usage is not None
    assert whole.usage.output_tokens == 12
    items: Any = [{"role": "user", "content": [{"type": "input_text", "text": "hello"}]}]
    text, kinds, last = "", list[str](), whole
    async with client.responses.stream(
        **ask, input=items, top_logprobs=2, include=["message.output_text.logprobs"]
    ) as stream:
        async for event in stream:
            kinds.append(event.type)
            text += event.delta if event.type == "response.output_text.delta" else ""
            last = event.response if event.type == "response.incomplete" else last
    assert (text, last.output_text) == (whole.output_text, whole.output_text)
    assert kinds[:4] == [
        "response.created", "response.in_progress", "response.output_item.added", "response.content_part.added",
    ]  # fmt: skip
    assert kinds[-4:] == [
        "response.output_text.done", "response.content_part.done", "response.output_item.done", "response.incomplete",
    ]  # fmt: skip
    part: Any = last.output[0].content[0]  # type: ignore[union-attr,index]
    assert [len(each.top_logprobs) for each in part.logprobs] == [2] * 12
    again: Any = [*items, *(item.model_dump() for item in last.output), *items]
    assert (await client.responses.create(**ask, input=again)).output_text
    for wrong in ({"store": True}, {"previous_response_id": "resp_1"}, {"background": True},
                  {"truncation": "auto"}, {"include": ["x"]}):  # fmt: skip
        with pytest.raises(openai.BadRequestError, match=rf"{next(iter(wrong))}: not supported"):
            await client.responses.create(**changed(ask, input="hello", **wrong))


async def test_a_response_keeps_thoughts_apart() -> None:
    (thought, answer), asked = ("Let me see.", "Yes."), Completion((), user=None)  # type: ignore[arg-type]
    form = ResponsesForm(ResponsesRequest(input="?", stream=True), asked, "m")
    thinks = Reply("", ReplyState.STREAMING, thought=thought)
    ended = Reply(answer, ReplyState.FINAL, thought=thought, finish_reason="stop")
    sent = [*form.opening(), *form.grown(0, thinks), *form.grown(0, ended), *form.closing([ended])]
    events = [json.loads(event.partition(b"data: ")[2]) for event in sent]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert [event["delta"] for event in events if "delta" in event] == [thought, answer]
    assert events[-1]["type"] == "response.completed"
    first, second = events[-1]["response"]["output"]
    assert (first["content"][0]["text"], second["content"][0]["text"]) == (thought, answer)
    done = [event["item"]["id"] for event in events if event["type"] == "response.output_item.done"]
    assert done == [first["id"], second["id"]]


async def test_embeddings_are_refused_with_what_to_do(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="embedding model"):
        await client.embeddings.create(model="m", input="hello")


class Dialogue:
    """Answers that go on until they are closed, but for one that fails."""

    def __init__(self) -> None:
        self.begun: list[int | None] = []
        self.open = 0

    def models(self) -> list[str]:
        return ["m"]

    async def complete(self, request: Completion) -> AsyncGenerator[Reply, None]:
        self.begun.append(request.seed)
        self.open += 1
        try:
            yield Reply("", ReplyState.QUEUED)
            await asyncio.sleep(0)
            yield Reply("a", ReplyState.STREAMING, usage=Usage(3, 1))
            if request.seed == 3:
                raise ValueError("no")
            await asyncio.Event().wait()
        finally:
            self.open -= 1


async def test_one_answer_that_fails_ends_all_and_few_run_at_once() -> None:
    dialogue = Dialogue()
    asked = [Completion((), user=None, seed=seed) for seed in range(9)]  # type: ignore[arg-type]
    most = 0

    async def read() -> None:
        nonlocal most
        async for replies in growing(dialogue, asked):
            most = max(most, dialogue.open)
            assert any(reply.text for reply in replies) or dialogue.begun == [0], "the first begins alone"

    with pytest.raises(ValueError, match="no"):
        await read()
    assert most == 4
    assert dialogue.open == 0


class Scoring:
    """Each prompt has a hundred thousand likelihoods."""

    async def complete(self, request: Completion) -> AsyncGenerator[Reply, None]:
        scores = (TokenScore(1, "a", -1.0, (TokenScore(1, "a", -1.0),)),) * 50_000
        yield Reply("a", ReplyState.FINAL, "stop", usage=Usage(1, 1), prompt_scores=scores)


async def test_the_scores_of_all_prompts_of_one_request_have_a_bound() -> None:
    async def read(prompts: int) -> None:
        async for _ in growing(Scoring(), [Completion((), user=None)] * prompts):  # type: ignore[arg-type]
            pass

    await read(5)
    with pytest.raises(ValueError, match="logprobs"):
        await read(6)
