"""Remote engines: the same protocols as the local one, with the model on OpenAI-compatible servers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing

from glmbot.engine.base import Ability, ChatFormat, Conversation, Prepared, Progress, Sampling
from glmbot.engine.chat_prompt import MessagePrompt, prepare_messages
from glmbot.engine.openai_client import FAILURES
from glmbot.engine.remote_answer import ChatAnswer, CompletionAnswer
from glmbot.engine.remote_line import RemoteEngineSettings, RemoteLine
from glmbot.engine.servers import Server
from glmbot.errors import ModelFileError, PromptInvalid
from glmbot.models.family import FamilyTokenizer
from glmbot.models.registry import load_tokenizer

__all__ = ["RemoteChat", "RemoteCompletions", "RemoteEngineSettings", "start_remote"]

_PROBE = "Hello, 你好! 1 + 2 = 3"


async def start_remote(settings: RemoteEngineSettings) -> RemoteCompletions | RemoteChat:
    """Read the tokenizer and look for the servers; those that can't be reached yet are tried again when asked.

    Raises ModelFileError for a tokenizer that can't be read, or is not that of the served model.
    """
    if settings.tokenizer is None:
        engine = RemoteChat(settings)
    else:
        talk = await asyncio.to_thread(load_tokenizer, settings.tokenizer, thinks=settings.thinks)
        engine = RemoteCompletions(settings, talk)
    try:
        await engine.look_for_servers()
    except BaseException:
        await engine.close()
        raise
    return engine


class RemoteCompletions(RemoteLine):
    """Over the completions interface, with the model's tokenizer here. See `glmbot.engine.base.TokenEngine`."""

    def __init__(self, settings: RemoteEngineSettings, talk: FamilyTokenizer) -> None:
        super().__init__(settings)
        self._talk = talk
        self._stop_tokens = sorted(talk.stop_tokens)

    @property
    def chat_format(self) -> ChatFormat:
        return self._talk.chat_format

    @property
    def abilities(self) -> frozenset[Ability]:
        """See `glmbot.engine.texts.Able`."""
        return frozenset({Ability.DRAWING})

    @property
    def generation_defaults(self) -> Mapping[str, object]:
        return self._talk.generation_defaults

    async def generate(
        self,
        prompt: Sequence[int],
        sampling: Sampling,
        *,
        user: str,
        deadline_s: float | None = None,
        begun: int = 0,
    ) -> AsyncGenerator[Progress, None]:
        try:
            answer = CompletionAnswer(self.chat_format, prompt, begun, sampling, self._stop_tokens)
        except (ValueError, LookupError, OverflowError, TypeError) as error:
            raise PromptInvalid("the beginning of the answer holds what is no token of the model") from error
        async with aclosing(self.ask(answer, user=user, deadline_s=deadline_s)) as snapshots:
            async for progress in snapshots:
                yield progress

    async def suits(self, server: Server, model: str) -> None:
        """Where the server turns tokens into text, it must read ours as we wrote them. Raises ModelFileError."""
        tokens = self.chat_format.encode_text(_PROBE)
        root = server.url.rpartition("/v")[0] or server.url
        try:
            told = await self.client.ask("POST", f"{root}/detokenize", {"model": model, "tokens": tokens})
            text = told.get("content", told.get("prompt"))
        except (*FAILURES, ValueError, AttributeError):
            # Not every server has it.
            return
        if isinstance(text, str) and text.strip() != _PROBE:
            raise ModelFileError(
                f"{self.settings.tokenizer}: is not the tokenizer of {model} at {server.label}, which reads our"
                f" tokens for {_PROBE!r} as {text[:80]!r}; set [remote] tokenizer to a folder of the served model"
            )


class RemoteChat(RemoteLine):
    """Over the chat interface, whose servers bring template and tokenizer. See `glmbot.engine.base.Engine`."""

    @property
    def abilities(self) -> frozenset[Ability]:
        found = {Ability.THOUGHTS, Ability.FORMS, Ability.DRAWING}
        found |= {Ability.TOOLS} if self.settings.tools != "off" else set()
        found |= {Ability.TAUGHT_TOOLS} if self.takes_tools else set()
        return frozenset(found)

    @property
    def generation_defaults(self) -> Mapping[str, object]:
        return {}

    def prepare(self, conversation: Conversation, room: int) -> MessagePrompt:
        return prepare_messages(conversation, room, tools=self.settings.tools != "off")

    def generate(
        self, prepared: Prepared, sampling: Sampling, *, user: str, deadline_s: float | None = None
    ) -> AsyncGenerator[Progress, None]:
        if not isinstance(prepared, MessagePrompt):
            raise PromptInvalid("this prompt was made by an engine of another kind")
        # Not every server takes thoughts and calls out of the text itself.
        answer = ChatAnswer(prepared, sampling, thinks=self.settings.thinks)
        return answer.read(self.ask(answer, user=user, deadline_s=deadline_s))
