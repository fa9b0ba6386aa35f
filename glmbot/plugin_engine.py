"""A plug-in's engine as the dialogue knows engines: what it raises, or never says, fails its own request alone."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing
from typing import Any, cast

from glmbot.config.models import NamedPluginModel
from glmbot.content import ToolCall
from glmbot.engine.base import Ability, Conversation, FinishReason, Prepared, Progress, Sampling
from glmbot.engine.chat_prompt import MessagePrompt, prepare_messages
from glmbot.engine.line import Line, Request
from glmbot.engine.openai_stream import Delta, valid_text
from glmbot.engine.openai_tools import CallPiece
from glmbot.engine.remote_answer import ChatAnswer
from glmbot.errors import EngineError, ModelUnavailable, PromptInvalid
from glmbot.host import ChatRequest
from glmbot.in_time import in_time
from glmbot.registered import RegisteredEngine

__all__ = ["PluginEngine", "start_plugin_engine"]

# What is awaited of a plug-in, other than an answer. It may load a model of its own.
_STARTS_S = 600.0
_CLOSES_S = 10.0
_LONGEST_REASON = 300


async def start_plugin_engine(
    name: str, section: NamedPluginModel, kind: RegisteredEngine, starts_s: float = _STARTS_S
) -> PluginEngine:
    """Raises ModelUnavailable."""
    try:
        engine = await in_time(lambda: kind.start(section.settings), starts_s)
        if not callable(getattr(engine, "generate", None)):
            raise TypeError(f"its start returned {type(engine).__name__}, which has no method generate")
    except TimeoutError:
        raise ModelUnavailable(name, f"its plug-in {kind.plugin} took too long") from None
    except Exception as error:
        kind.log.error("the engine of %s can't be started", name, exc_info=error)
        raise ModelUnavailable(name, _reason(error)) from error
    return PluginEngine(name, section, kind.log, engine)


class PluginEngine(Line):
    """See `glmbot.engine.base.Engine`. Its prompts are messages, counted in characters."""

    generation_defaults: Mapping[str, object] = {}

    def __init__(self, name: str, section: NamedPluginModel, log: logging.Logger, engine: Any) -> None:
        super().__init__(section.context_length, section.parallel, section.queue_limit)
        self._name = name
        self._log = log
        self._engine = engine
        self._tools = getattr(engine, "takes_tools", False) is True
        self._forms = getattr(engine, "takes_forms", False) is True

    @property
    def abilities(self) -> frozenset[Ability]:
        found = {Ability.THOUGHTS, Ability.TOOLS}
        found |= {Ability.TAUGHT_TOOLS} if self._tools else set()
        found |= {Ability.FORMS} if self._forms else set()
        return frozenset(found)

    @property
    def model_name(self) -> str:
        return self._name

    def prepare(self, conversation: Conversation, room: int) -> MessagePrompt:
        return prepare_messages(conversation, room)

    def generate(
        self, prepared: Prepared, sampling: Sampling, *, user: str, deadline_s: float | None = None
    ) -> AsyncGenerator[Progress, None]:
        if not isinstance(prepared, MessagePrompt):
            raise PromptInvalid("this prompt was made by an engine of another kind")
        answer = _Answer(prepared, sampling, user, tools=self._tools)
        return answer.read(self.ask(answer, user=user, deadline_s=deadline_s))

    async def answer_it(self, request: Request) -> None:
        answer = request.answer
        try:
            pieces: Any = self._engine.generate(cast(_Answer, answer).request)
            async with aclosing(pieces):
                calls = itertools.count()
                async for piece in pieces:
                    self.take(request, _delta(piece, calls))
                    if answer.finish is not None:
                        break
                    # It may have awaited nothing, and others have their turn.
                    await asyncio.sleep(0)
        except (Exception, SystemExit) as error:
            raise self._failed(error) from error
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # Nobody wanted that but the plug-in.
            raise self._failed(error) from error
        if answer.finish is None:
            answer.take(Delta(finish=FinishReason.STOP))
        self.counters.read += answer.tokens_read
        request.show(answer.progress())

    def _failed(self, error: BaseException) -> EngineError:
        self._log.error("the engine of %s failed", self._name, exc_info=error)
        return EngineError(f"{self._name}: {_reason(error)}")

    async def close(self) -> None:
        await super().close()
        close = getattr(self._engine, "close", None)
        if close is None:
            return
        try:
            await in_time(close, _CLOSES_S)
        except Exception as error:
            self._log.error("the engine of %s did not close: %s", self._name, _reason(error))


class _Answer(ChatAnswer):
    def __init__(self, prompt: MessagePrompt, sampling: Sampling, user: str, *, tools: bool) -> None:
        super().__init__(prompt, sampling)
        told = tools and prompt.has_tools
        self.request = ChatRequest(
            messages=[(message["role"], message["content"]) for message in prompt.in_words],
            user=user,
            max_tokens=sampling.max_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            repetition_penalty=sampling.repetition_penalty,
            seed=sampling.seed,
            stop=sampling.stop,
            tools={"messages": prompt.messages, **prompt.tools} if told else {},
            form=sampling.form,
        )


def _delta(piece: object, calls: Iterator[int]) -> Delta:
    """Raises TypeError."""
    if isinstance(piece, str):
        return Delta(valid_text(piece))
    if isinstance(piece, ToolCall):
        return Delta(calls=(CallPiece(next(calls), piece.id, piece.name, piece.arguments),))
    raise TypeError(f"it yielded {type(piece).__name__}, and neither text nor a call")


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:_LONGEST_REASON]
