"""A stateless request, whose caller brings the history: into the terms of the dialogue, and its answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from math import ceil

from glmbot.completions import Completion, TokenScore
from glmbot.content import ToolCall
from glmbot.dialogue.completion_turns import check_calls, conversation_of, words_of_turns
from glmbot.dialogue.fitting import Fitting
from glmbot.dialogue.models import Talk
from glmbot.dialogue.moderation import Moderation
from glmbot.dialogue.pending import Pending
from glmbot.dialogue.quotas import Quotas, check_pending, most_pending, program_of
from glmbot.dialogue.replies import snapshot
from glmbot.dialogue.settings import InForce
from glmbot.dialogue.spelling import Spelling, sayable, spelled_prompt
from glmbot.engine.base import Ability, Conversation, Engine, FinishReason, Prepared, Progress, Sampling
from glmbot.engine.fit import longest_text
from glmbot.engine.pool import Engines
from glmbot.engine.texts import texts
from glmbot.errors import ContentRefused, PromptInvalid, PromptTooLong
from glmbot.host import Direction, Finding
from glmbot.messages import Reply, ReplyState
from glmbot.tools import Choice

__all__ = ["complete", "completed", "sampling_for"]

# As many as the HTTP interfaces take: 1024 pairs of ChatGLM's and the question.
_MOST_MESSAGES = 2049
_ANSWERS_SHARE = 4
# A template's work for a message, in the time that tokenising takes for so many characters.
_MESSAGE_CHARACTERS = 100
_CHARACTERS_A_TOKEN = 4
_CHARACTERS_A_SCORE = 10


async def complete(
    request: Completion,
    engines: Engines,
    in_force: InForce,
    fitting: Fitting,
    quotas: Quotas,
    pending: Pending,
) -> AsyncGenerator[Reply, None]:
    """See `glmbot.ports.Dialogue.complete`."""
    # As other servers of one model do, whatever it is called there.
    model = engines.find(request.model) or engines.default
    settings = in_force.settings
    check_pending(pending, request, most_pending(settings, engines.queue_limit(model)))
    with pending.hold(program_of(request), request.source):
        _check_size(request)
        asked = None if request.prompt is not None else conversation_of(request)
        # Before a model is loaded for whoever may ask no more.
        await quotas.admit(request, settings)
        async with engines.use(model) as engine:
            _check_abilities(request, engine)
            talk = Talk(engine, settings.sampling_of(model, engine))
            async with aclosing(completed(request, asked, talk, in_force, fitting)) as replies:
                async for reply in replies:
                    yield reply


async def completed(
    request: Completion,
    asked: Conversation | None,
    talk: Talk,
    in_force: InForce,
    fitting: Fitting,
) -> AsyncGenerator[Reply, None]:
    """By who has been admitted. asked: None for a text without a template."""
    settings, moderation, engine = in_force.settings, in_force.moderation, talk.engine
    sampling = sampling_for(request, talk.sampling, engine.context_length)
    total = min(engine.context_length, request.max_total_tokens or engine.context_length)
    if asked is None:
        prompt, echo = await _read_text(request, talk, moderation, fitting, total - 1)
    else:
        # Whose history may be cut has a part of the context kept for the answer, which gets what is left.
        kept = min(sampling.max_tokens, total // _ANSWERS_SHARE) if request.trim else 1
        prompt = await _read_turns(request, asked, talk, in_force, fitting, max(1, total - kept))
        echo = ""
    sampling = replace(sampling, max_tokens=min(sampling.max_tokens, total - prompt.prompt_tokens))
    generation = engine.generate(prompt, sampling, user=program_of(request), deadline_s=settings.deadline_s)
    replies = _scored(request, generation, talk, fitting, moderation, echo)
    async with aclosing(replies), aclosing(_watched(request, replies, moderation)) as watched:
        async for reply in watched:
            yield reply


async def _scored(
    request: Completion,
    generation: AsyncGenerator[Progress, None],
    talk: Talk,
    fitting: Fitting,
    moderation: Moderation,
    echo: str,
) -> AsyncGenerator[Reply, None]:
    """The snapshots of an answer, with its tokens' scores where they were asked for."""
    engine = texts(talk.engine)
    finds = moderation.finds if moderation.watches else None
    spelling = None if engine is None or request.logprobs is None else Spelling(engine, finds)
    of_prompt: Sequence[TokenScore] = ()
    async with aclosing(generation):
        async for progress in generation:
            reply = snapshot(progress)
            if engine is not None and spelling is not None:
                if progress.prompt_scores and not of_prompt and reply.state.ended:
                    told = progress.prompt_scores
                    read = await fitting.off_loop.run(
                        program_of(request),
                        _CHARACTERS_A_SCORE * len(told) * (1 + len(told[-1].top)),
                        partial(spelled_prompt, engine, told),
                    )
                    of_prompt = await sayable(read, finds)
                reply = replace(reply, scores=spelling.of(progress.scores), prompt_scores=of_prompt)
            if reply.state.ended and request.offer.tools:
                reply = await asyncio.to_thread(_with_calls, reply, progress, request)
            yield replace(reply, echo=echo)


def _with_calls(reply: Reply, progress: Progress, request: Completion) -> Reply:
    """Raises CallMissing."""
    calls = tuple(ToolCall(call.id, call.name, call.arguments) for call in progress.calls)
    if progress.finish in (FinishReason.STOP, FinishReason.TOOL_CALLS):
        check_calls(calls, request.offer)
    return replace(reply, calls=calls)


async def _watched(
    request: Completion, replies: AsyncGenerator[Reply, None], moderation: Moderation
) -> AsyncGenerator[Reply, None]:
    """What moderation lets through. Scores tell what a text says, so they go with it."""
    shown, watch = Reply("", ReplyState.STREAMING), moderation.watch()
    thought, thoughts = "", moderation.watch()
    async for reply in replies:
        if reply.state.ended:
            said = "\n\n".join([reply.text, *(call.arguments for call in reply.calls)])
            allowed = await _allows(
                moderation, Direction.ANSWER, said if reply.calls else reply.text, request
            )
            if reply.thought and not await _allows(moderation, Direction.ANSWER, reply.thought, request):
                reply = replace(reply, thought=thought)
            if allowed and moderation.holds_answers and not await _allows_likely(moderation, reply, request):
                reply = replace(reply, scores=_bare(reply.scores), prompt_scores=_bare(reply.prompt_scores))
            yield reply if allowed else _filtered(reply, shown)
            return
        if not moderation.holds_answers and thoughts.look(reply.thought) is Finding.NOTHING:
            thought = reply.thought
        reply = replace(reply, thought=thought)
        finding = watch.look(reply.text)
        if finding is Finding.WORD:
            yield _filtered(reply, shown)
            return
        if finding is Finding.NOTHING and not moderation.holds_answers:
            shown = reply
        yield replace(reply, text=shown.text, scores=shown.scores)


async def _allows_likely(moderation: Moderation, reply: Reply, request: Completion) -> bool:
    """Whether those who look at nothing but whole texts allow what the answer's tokens might have been."""
    scores = (*reply.prompt_scores, *reply.scores)
    likely = {each.text for score in scores for each in score.top}
    return await _allows(moderation, Direction.ANSWER, " ".join(sorted(likely)), request)


def _bare(scores: Sequence[TokenScore]) -> Sequence[TokenScore]:
    return [replace(score, top=()) for score in scores]


async def _read_turns(
    request: Completion,
    asked: Conversation,
    talk: Talk,
    in_force: InForce,
    fitting: Fitting,
    room: int,
) -> Prepared:
    engine, limit = talk.engine, talk.engine.context_length
    words = words_of_turns(request)
    characters = len(words)
    if not request.trim and characters > longest_text(room):
        raise PromptTooLong(ceil(characters / longest_text(1)), limit)
    await _check_words(words, in_force.moderation, request)
    conversation = replace(asked, system=asked.system or in_force.settings.system_prompt)
    try:
        prompt = await fitting.off_loop.run(
            program_of(request),
            characters + _MESSAGE_CHARACTERS * len(request.turns),
            lambda: engine.prepare(conversation, room),
        )
    except ValueError as error:
        # Not even an empty question fits.
        if not request.trim:
            raise PromptTooLong(limit + 1, limit) from error
        total = min(limit, request.max_total_tokens or limit)
        raise ValueError(f"{error}: max_length is {total}, prompt and answer together") from error
    if prompt.tools_dropped:
        raise ValueError(
            f"tools: their descriptions take more than half of the {limit:,} tokens of the context"
        )
    if not request.trim and (prompt.dropped or prompt.question_cut):
        raise PromptTooLong(limit + 1, limit)
    return prompt


async def _read_text(
    request: Completion, talk: Talk, moderation: Moderation, fitting: Fitting, room: int
) -> tuple[Prepared, str]:
    """A prompt without a template, and what is to be echoed of it."""
    engine, given = texts(talk.engine), request.prompt
    if engine is None or given is None:
        raise ValueError("prompt: the engine of this model takes chats only; ask /v1/chat/completions")

    def read() -> tuple[Prepared, str]:
        prompt = engine.prepare_text(given, room)
        return prompt, given if isinstance(given, str) else engine.text_of(prompt)

    try:
        size = len(given) * (1 if isinstance(given, str) else _CHARACTERS_A_TOKEN)
        prompt, text = await fitting.off_loop.run(program_of(request), size, read)
    except PromptTooLong as error:
        raise PromptTooLong(error.tokens, talk.engine.context_length) from error
    if not prompt.prompt_tokens:
        raise ValueError("prompt: has no token")
    await _check_words(text, moderation, request)
    return prompt, text if request.echo else ""


async def _check_words(text: str, moderation: Moderation, request: Completion) -> None:
    """Raises ContentRefused."""
    if not await _allows(moderation, Direction.QUESTION, text, request):
        raise ContentRefused("the operator of this server does not allow what stands in these messages")


def _check_abilities(request: Completion, engine: Engine) -> None:
    """What an engine would leave aside is refused by name. Raises ValueError and PromptInvalid."""
    if request.form is not None and Ability.FORMS not in engine.abilities:
        raise PromptInvalid(f"response_format: {engine.model_name} can't be held to a form")
    if request.form is not None and request.offer.choice is Choice.REQUIRED:
        raise ValueError("response_format: not together with a tool_choice that has to call")
    wishes = {
        "tools": (Ability.TOOLS, bool(request.offer.tools or request.calls)),
        "logprobs": (Ability.SCORES, request.logprobs is not None),
        "min_p": (Ability.DRAWING, bool(request.min_p)),
        "presence_penalty": (Ability.DRAWING, bool(request.presence_penalty)),
        "frequency_penalty": (Ability.DRAWING, bool(request.frequency_penalty)),
        "logit_bias": (Ability.DRAWING, bool(request.logit_bias)),
    }
    for name, (ability, wished) in wishes.items():
        if wished and ability not in engine.abilities:
            raise ValueError(f"{name}: not supported by the engine of {engine.model_name}")


def _check_size(request: Completion) -> None:
    """Raises ValueError."""
    if len(request.turns) > _MOST_MESSAGES:
        raise ValueError(f"messages: {len(request.turns):,} came, and at most {_MOST_MESSAGES:,} are read")


def _filtered(reply: Reply, shown: Reply) -> Reply:
    """The end of an answer that may not go on: what its reader has seen already stands."""
    return replace(
        reply,
        text=shown.text,
        calls=(),
        scores=shown.scores,
        state=ReplyState.FINAL,
        finish_reason="content_filter",
    )


async def _allows(moderation: Moderation, direction: Direction, text: str, request: Completion) -> bool:
    return await moderation.allows(direction, text, user=str(request.user), conversation="")


def sampling_for(request: Completion, defaults: Sampling, context_length: int) -> Sampling:
    """The operator's defaults with what the request sets. Raises ValueError for a value out of range."""
    wishes = {
        name: value
        for name in (
            "temperature",
            "top_p",
            "top_k",
            "min_p",
            "repetition_penalty",
            "presence_penalty",
            "frequency_penalty",
            "seed",
            "max_tokens",
        )
        if (value := getattr(request, name)) is not None
    }
    sampling = replace(
        defaults,
        stop=(*defaults.stop, *request.stop),
        form=request.form,
        logit_bias=request.logit_bias,
        logprobs=request.logprobs,
        prompt_logprobs=request.logprobs if request.echo else None,
        as_written=request.prompt is not None,
        **wishes,
    )
    longest = max(1, min(context_length, request.max_total_tokens or context_length) - 1)
    return replace(sampling, max_tokens=min(sampling.max_tokens, longest))
