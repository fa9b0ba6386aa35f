"""What each command does. None of them waits behind a generation, save /retry, which is one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import replace

from glmbot import i18n
from glmbot.dialogue import commands
from glmbot.dialogue.administration import Administration, bad_user, echo, user_from
from glmbot.dialogue.commands import Command
from glmbot.dialogue.export import export_of
from glmbot.dialogue.fitting import Fitting
from glmbot.dialogue.lanes import Lanes
from glmbot.dialogue.replies import failed
from glmbot.engine.base import Engine, Tunable
from glmbot.errors import EngineError, PrecisionError
from glmbot.messages import Message, Reply, ReplyState, Role
from glmbot.store.base import Store

__all__ = ["CommandActions"]

_log = logging.getLogger(__name__)

_MB = 1_000_000


class CommandActions:
    def __init__(
        self,
        *,
        store: Store,
        engine: Engine,
        lanes: Lanes,
        fitting: Fitting,
        administration: Administration,
    ) -> None:
        self._store = store
        self._engine = engine
        self._lanes = lanes
        self._fitting = fitting
        self._administration = administration.commands

    async def run(
        self, command: Command, message: Message, role: Role, language: str, system: str
    ) -> AsyncGenerator[Reply, None]:
        """Snapshots of the command's outcome. Raises StoreError."""
        if command.name in self._administration:
            yield await self._administration[command.name](command, message, language)
            return
        if command.name == "precision":
            async for reply in self._precision(command.argument, language):
                yield reply
            return
        actions: dict[str, Callable[[], Awaitable[Reply]]] = {
            "start": lambda: self._say(language, "start.welcome", model=self._engine.model_name),
            "help": lambda: self._help(role, language),
            "new": lambda: self._reset(message, language),
            "reset": lambda: (
                self._reset_user(command.argument, message, language)
                if command.argument
                else self._reset(message, language)
            ),
            "stop": lambda: self._stop(message, language),
            "context": lambda: self._context(message, language, system),
            "lang": lambda: self._lang(command.argument, message, language),
            "status": lambda: self._status(language),
            "whoami": lambda: self._whoami(message, role, language),
            "export": lambda: self._export(message, language),
            "forget": lambda: self._forget(command.argument, message, language),
            "queue": lambda: self._queue(language),
        }
        yield await actions[command.name]()

    async def _say(self, language: str, key: str, **values: object) -> Reply:
        return Reply("", ReplyState.FINAL, i18n.text(language, key, **values))

    async def _help(self, role: Role, language: str) -> Reply:
        lines = [i18n.text(language, "help.title")]
        for info in commands.listing(language, role):
            lines.append(f"/{info.name} {info.argument}".rstrip() + f" – {info.description}")
        if role is Role.ADMIN:
            lines.append(i18n.text(language, "help.admin_reset"))
        return Reply("", ReplyState.FINAL, "\n".join(lines))

    async def _reset(self, message: Message, language: str) -> Reply:
        self._lanes.stop(message.conversation)
        turns = await self._store.reset(message.conversation)
        return await self._say(language, "reset.done", turns=turns)

    async def _reset_user(self, argument: str, message: Message, language: str) -> Reply:
        user = user_from(argument, message)
        if user is None:
            return bad_user(argument, message, language)
        self._lanes.stop_user(user)
        conversations = await self._store.conversations(user)
        for conversation in conversations:
            await self._store.reset(conversation)
        return await self._say(language, "reset.user_done", conversations=len(conversations), user=user)

    async def _stop(self, message: Message, language: str) -> Reply:
        stopped = self._lanes.stop(message.conversation)
        return await self._say(language, "stop.done" if stopped else "stop.nothing")

    async def _context(self, message: Message, language: str, system: str) -> Reply:
        try:
            prompt, answer = await self._fitting.measure(message, system)
        except (EngineError, ValueError) as error:
            _log.error("%s: no prompt can be made: %s", message.conversation, str(error)[:500])
            return failed(language, "answer.failed")
        return await self._say(
            language,
            "context.report",
            used=prompt.prompt_tokens,
            budget=prompt.room,
            answer=answer,
            length=self._engine.context_length,
            turns=prompt.turns,
            dropped=prompt.dropped,
        )

    async def _lang(self, argument: str, message: Message, language: str) -> Reply:
        choice = argument.lower()
        if choice == "auto":
            await self._store.set_setting(message.user, "language", "")
            return await self._say(i18n.choose_language(message.language), "lang.auto")
        if choice not in i18n.LANGUAGES:
            return await self._say(language, "lang.usage")
        await self._store.set_setting(message.user, "language", choice)
        return await self._say(choice, "lang.set")

    async def _status(self, language: str) -> Reply:
        stats = self._engine.stats()
        return await self._say(
            language,
            "status.report",
            model=stats.model,
            precision=stats.precision,
            running=stats.running,
            waiting=stats.waiting,
            speed=stats.tokens_per_second,
            cache=stats.cache_tokens_used / max(1, stats.cache_tokens_total),
            weights=stats.weight_bytes / _MB,
            wait=stats.first_token.median or 0.0,
            batch=stats.largest_batch,
            finished=stats.requests_finished,
        )

    async def _whoami(self, message: Message, role: Role, language: str) -> Reply:
        name = f" ({message.user_name})" if message.user_name else ""
        title = i18n.text(language, f"role.{role}")
        return await self._say(language, "whoami.report", user=message.user, name=name, role=title)

    async def _export(self, message: Message, language: str) -> Reply:
        file, turns = await export_of(self._store, message.user)
        return replace(await self._say(language, "export.done", turns=turns), attachment=file)

    async def _forget(self, argument: str, message: Message, language: str) -> Reply:
        if argument.lower() != "yes":
            return await self._say(language, "forget.confirm")
        self._lanes.stop_user(message.user)
        turns = await self._store.forget(message.user)
        await self._engine.forget(str(message.user))
        return await self._say(language, "forget.done", turns=turns)

    async def _queue(self, language: str) -> Reply:
        stats = self._engine.stats()
        if not stats.waiting:
            return await self._say(language, "queue.empty")
        title = i18n.text(
            language, "queue.title", waiting=stats.waiting, limit=stats.queue_limit, running=stats.running
        )
        lines = [
            i18n.text(language, "queue.line", user=user, count=count) for user, count in stats.waiting_users
        ]
        return Reply("", ReplyState.FINAL, "\n".join([title, *lines]))

    async def _precision(self, argument: str, language: str) -> AsyncGenerator[Reply, None]:
        engine = self._engine
        if not isinstance(engine, Tunable):
            yield await self._say(language, "precision.served")
            return
        available = ", ".join(engine.precisions)
        if not argument:
            yield await self._say(language, "precision.now", precision=engine.precision, available=available)
            return
        wanted = next((each for each in engine.precisions if each == argument.lower()), None)
        if wanted is None:
            yield await self._say(language, "precision.unknown", given=echo(argument), available=available)
            return
        shares: asyncio.Queue[float | None] = asyncio.Queue()
        switch = asyncio.ensure_future(engine.set_precision(wanted, shares.put_nowait))
        switch.add_done_callback(lambda _: shares.put_nowait(None))
        while (share := await shares.get()) is not None:
            while not shares.empty() and (newer := shares.get_nowait()) is not None:
                share = newer
            notice = i18n.text(language, "precision.progress", precision=wanted, share=share)
            yield Reply("", ReplyState.STREAMING, notice)
            if switch.done():
                break
        try:
            change = await switch
        except PrecisionError as error:
            yield Reply("", ReplyState.FAILED, i18n.text(language, "precision.failed", reason=error))
            return
        yield await self._say(
            language,
            "precision.done",
            before=change.before,
            after=change.after,
            seconds=change.seconds,
            mb_before=change.weight_bytes_before / _MB,
            mb_after=change.weight_bytes_after / _MB,
            speed_before=change.probe_speed_before,
            speed_after=change.probe_speed_after,
        )
