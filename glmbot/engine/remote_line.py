"""What remote engines have in common: the model on OpenAI-compatible servers, behind a line.

A request that fails, also in the middle of its answer, goes on at another server, or at the same one when it is
back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import aiohttp

from glmbot.engine.base import EngineStats, Sampling
from glmbot.engine.line import Line, Request
from glmbot.engine.openai_client import FAILURES, OpenAIClient, RequestRefused, ServerBusy
from glmbot.engine.openai_stream import StreamBroken, chat_body, on_one_line, read_models
from glmbot.engine.openai_tools import probe_fields
from glmbot.engine.remote_answer import ChatAnswer
from glmbot.engine.servers import Server, Servers
from glmbot.errors import EngineError, ModelFileError, ServerUnavailable

__all__ = ["RemoteEngineSettings", "RemoteLine"]

_log = logging.getLogger(__name__)

_JUST_AFTER_S = 0.01
_LONGEST_WAIT_S = 1.0
# How servers say that they take no tools: llama.cpp's without --jinja, vLLM without --enable-auto-tool-choice,
# Ollama of a model whose template has none, OpenRouter where nobody has any.
_NO_TOOLS = (400, 404, 422, 500, 501)
_PROBE = ({"role": "user", "content": "Say pong."},)
_ONE_TOKEN = Sampling(max_tokens=1, temperature=0)


@dataclass(frozen=True, slots=True)
class RemoteEngineSettings:
    """`servers`: addresses such as http://10.0.0.5:8000/v1, of the same model. Sizes in tokens, times in seconds.

    `tokenizer` is a folder of the served model and means its completions interface; None is the chat interface.
    """

    servers: Sequence[str]
    tokenizer: Path | None = None
    model: str = ""
    """Its name at the servers; "" is the first that each lists."""
    api_key: str = field(default="", repr=False)
    context_length: int = 2048
    parallel: int = 16
    queue_limit: int = 64
    connect_s: float = 5.0
    first_token_s: float = 90.0
    next_token_s: float = 30.0
    patience_s: float = 60.0
    tools: Literal["auto", "words", "off"] = "auto"
    """Of the chat interface. auto: a server that refuses tools is told of them in words."""
    thinks: bool = True
    """False: a model that can do without is asked not to think before it answers."""


class RemoteLine(Line):
    """The servers, and whom they answer. What is asked of them, and how, subclasses say."""

    def __init__(self, settings: RemoteEngineSettings) -> None:
        super().__init__(settings.context_length, settings.parallel, settings.queue_limit)
        self.settings = settings
        self._servers = Servers(settings.servers, self.clock)
        self._learned = ""
        self.client = OpenAIClient(
            api_key=settings.api_key,
            connect_s=settings.connect_s,
            first_token_s=settings.first_token_s,
            next_token_s=settings.next_token_s,
        )

    async def look_for_servers(self) -> None:
        """Those that can't be reached yet are tried again when asked. Raises what `suits` raises."""
        await asyncio.gather(*(self._look_for(server) for server in self._servers.all))

    async def _look_for(self, server: Server) -> None:
        try:
            await self._greet(server)
        except FAILURES as error:
            trouble = _words(error)
            self._servers.failed(server, trouble)
            _log.warning("model server %s is not there yet: %s", server.label, trouble)

    @property
    def model_name(self) -> str:
        known = (server.model for server in self._servers.all if server.model)
        # It is called the same while no server answers.
        self._learned = next(known, self._learned)
        name = self.settings.model or self._learned or self._servers.all[0].label
        return name.rstrip("/").rpartition("/")[2] or name

    @property
    def reached(self) -> Sequence[tuple[str, str | None]]:
        """Each server, and the model that it serves, None when it has not answered yet."""
        return [(server.label, server.model or None) for server in self._servers.all]

    def stats(self) -> EngineStats:
        servers = tuple((server.label, server.works) for server in self._servers.all)
        return replace(super().stats(), servers=servers)

    async def close(self) -> None:
        await super().close()
        await self.client.close()

    # ---- one answer ------------------------------------------------------------------------------------------

    async def answer_it(self, request: Request) -> None:
        """Ask servers until one has said the end of the answer. Raises EngineError."""
        answer = request.answer
        request.heard = self.clock()
        while answer.finish is None:
            server = self._servers.choose()
            if server is None:
                if self.clock() - request.heard > self.settings.patience_s:
                    troubles = "; ".join(f"{each.label}: {each.trouble}" for each in self._servers.all)
                    raise ServerUnavailable(f"no model server works. {troubles}")
                await asyncio.sleep(min(self._servers.pause_s() + _JUST_AFTER_S, _LONGEST_WAIT_S))
                continue
            trouble, again_after_s = "the answer broke off", None
            try:
                if not server.model:
                    await self._greet(server)
                await self._hear(request, server)
            except ServerBusy as error:
                trouble, again_after_s = str(error), error.again_after_s
            except TimeoutError:
                trouble = "nothing came for too long"
            except EngineError:
                self._servers.works(server)
                raise
            except (*FAILURES, ModelFileError) as error:
                trouble = _words(error)
            finally:
                self._servers.leave(server)
            if answer.finish is None:
                _log.warning("model server %s failed: %s", server.label, trouble)
                self._servers.failed(server, trouble, again_after_s)
                # Encoding a long text takes its time.
                await asyncio.to_thread(answer.interrupt)
        self.counters.read += answer.tokens_read
        self.counters.reused += answer.tokens_reused
        request.show(answer.progress())

    async def _hear(self, request: Request, server: Server) -> None:
        """What this server says; in words of the tools, where it takes none."""
        tools = request.answer.has_tools and self._sends_tools(server)
        try:
            await self._stream(request, server, tools=tools)
        except (RequestRefused, ServerBusy) as error:
            if not tools or error.status not in _NO_TOOLS or await self._takes_a_tool(server):
                raise
            _log.warning(
                "model server %s takes no tools and is told of them in words: %s", server.label, error
            )
            await self._stream(request, server, tools=False)
            self._servers.refused_tools(server)

    async def _stream(self, request: Request, server: Server, *, tools: bool) -> None:
        answer = request.answer
        body = answer.body(server.model, tools=tools)
        async with aclosing(self.client.stream(f"{server.url}/{answer.path}", body)) as deltas:
            async for delta in deltas:
                self._servers.works(server)
                request.heard = self.clock()
                self.take(request, delta)
                if answer.cut:
                    _log.warning("model server %s went on past the end of an answer", server.label)
                    break

    async def _takes_a_tool(self, server: Server) -> bool:
        """Asked with one of our own, as it may be somebody's tools that were wrong. Raises one of FAILURES."""
        body = chat_body(server.model, _PROBE, _ONE_TOKEN, tools=probe_fields())
        try:
            async with aclosing(self.client.stream(f"{server.url}/{ChatAnswer.path}", body)) as deltas:
                async for _ in deltas:
                    break
        except (RequestRefused, ServerBusy) as error:
            return error.status not in _NO_TOOLS
        return True

    @property
    def takes_tools(self) -> bool:
        """As far as is known."""
        return any(self._sends_tools(server) for server in self._servers.all)

    def _sends_tools(self, server: Server) -> bool:
        return self.settings.tools == "auto" and self._servers.takes_tools(server)

    # ---- servers ---------------------------------------------------------------------------------------------

    async def _greet(self, server: Server) -> None:
        """Learn the model's name, and see that it suits us.

        Raises one of FAILURES when the server does not say, and what `suits` raises.
        """
        try:
            models = read_models(await self.client.ask("GET", f"{server.url}/models"))
            found = self.settings.model or next(iter(models))
        except (*FAILURES, ValueError, StopIteration) as error:
            if not self.settings.model:
                if isinstance(error, (aiohttp.ClientConnectionError, TimeoutError)):
                    raise
                raise StreamBroken(f"it does not list its models: {_words(error)}") from error
            # Not every service lists them.
            models, found = {}, self.settings.model
        if models and found not in models:
            _log.warning("model server %s lists no model %r", server.label, found)
        context = models.get(found)
        if context is not None and context < self.context_length:
            words = "model server %s has a context of %d tokens, and [model] context_length is %d"
            _log.warning(words, server.label, context, self.context_length)
        await self.suits(server, found)
        server.model = found

    async def suits(self, server: Server, model: str) -> None:
        """Whether that server's model is the one that is asked here. Raises ModelFileError."""


def _words(error: Exception) -> str:
    """Some of the libraries' errors say nothing."""
    return on_one_line(str(error)) or type(error).__name__
