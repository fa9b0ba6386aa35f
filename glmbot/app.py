"""The composition root: configuration -> parts -> start, drain, stop. Only here are parts joined."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import entry_points
from typing import Any

from pydantic import BaseModel

from glmbot.config import Configuration
from glmbot.dialogue.access import Access
from glmbot.dialogue.manager import DialogueManager, DialogueSettings
from glmbot.engine.base import Precision, Sampling
from glmbot.engine.local import LocalEngine, LocalEngineSettings
from glmbot.errors import AdapterError, ConfigError
from glmbot.messages import Adapter, UserKey
from glmbot.store.base import Store
from glmbot.store.sqlite import SqliteStore

__all__ = ["adapter_settings", "dialogue_for", "engine_settings", "open_store", "run"]

_log = logging.getLogger(__name__)

_GROUP = "glmbot.adapters"
_RESTART_FIRST_S = 1.0
_RESTART_LONGEST_S = 60.0


def adapter_settings() -> dict[str, type[BaseModel]]:
    """The settings model of every adapter whose library is installed, by entry-point name."""
    return {name: adapter.Settings for name, adapter in _adapters().items()}


def open_store(configuration: Configuration) -> Store:
    """The configured store, not yet opened. Raises ConfigError when its library is missing."""
    section = configuration.store
    keep_s = section.keep_days * 86400
    if section.kind == "sqlite":
        return SqliteStore(section.path, turns_kept_s=keep_s)
    try:
        from glmbot.store.redis import RedisStore
    except ImportError as error:
        raise ConfigError("[store] kind is redis: install it with pip install 'glmbot[redis]'") from error
    try:
        return RedisStore(section.url.get_secret_value(), prefix=section.prefix, turns_kept_s=keep_s)
    except ValueError as error:
        raise ConfigError(f"[store] url: {error}") from error


def engine_settings(configuration: Configuration) -> LocalEngineSettings:
    section = configuration.model
    return LocalEngineSettings(
        folder=section.path,
        device=section.device,
        precision=None if section.precision == "auto" else Precision(section.precision),
        context_length=section.context_length,
        cache_tokens=section.cache_tokens,
        max_batch=section.max_batch,
        queue_limit=section.queue_limit,
        prefill_tokens=section.prefill_tokens,
        threads=section.threads,
        prefix_folder=section.prefix_path,
    )


def dialogue_for(configuration: Configuration, store: Store, engine: LocalEngine) -> DialogueManager:
    """Join the parts. Raises ConfigError for settings that contradict the model."""
    access, dialogue = configuration.access, configuration.dialogue
    answer = configuration.model.max_answer_tokens
    if answer >= engine.context_length:
        raise ConfigError(
            f"[model] max_answer_tokens is {answer}, and the context has {engine.context_length} tokens;"
            " leave room for the question"
        )
    try:
        return DialogueManager(
            store=store,
            engine=engine,
            access=Access(
                admins={UserKey.parse(user) for user in access.admins},
                users={UserKey.parse(user) for user in access.users},
                chats={(key.platform, key.id) for key in map(UserKey.parse, access.chats)},
                open_platforms=set(access.open_platforms),
            ),
            settings=DialogueSettings(
                sampling=_sampling(configuration, engine.generation_defaults),
                system_prompt=dialogue.system_prompt,
                turn_limit=dialogue.turn_limit,
                language=dialogue.language,
                pending_per_user=dialogue.pending_per_user,
                deadline_s=dialogue.deadline_s,
            ),
        )
    except ValueError as error:
        raise ConfigError(f"[dialogue] system_prompt: {error}") from error


async def run(configuration: Configuration, on_progress: Callable[[float], None] | None = None) -> None:
    """Serve until SIGINT or SIGTERM, or until an adapter ends by itself.

    Raises ConfigError, StoreError, ModelFileError or AdapterError when something can't start.
    """
    stop = asyncio.Event()
    serving: list[Adapter] = []

    def interrupted() -> None:
        if not any(adapter.interrupt() for adapter in serving):
            stop.set()

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, interrupted)
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    serve = asyncio.ensure_future(_serve(configuration, stop, serving, on_progress))
    stopped = asyncio.ensure_future(stop.wait())
    await asyncio.wait({serve, stopped}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if not serving and not serve.done():
        # Still loading: nothing has been taken in, so nothing needs to be drained.
        serve.cancel()
        await asyncio.wait({serve})
        return
    await serve


@asynccontextmanager
async def started(
    configuration: Configuration, on_progress: Callable[[float], None] | None = None
) -> AsyncGenerator[Sequence[Adapter]]:
    """All parts, joined and started; on leaving, adapters stop first, then the engine, then the store."""
    known = _adapters()
    async with AsyncExitStack() as stack:
        store = open_store(configuration)
        await store.open()
        stack.push_async_callback(store.close)
        for warning in await store.warnings():
            _log.warning("%s", warning)
        engine = await LocalEngine.start(engine_settings(configuration), on_progress)
        stack.push_async_callback(engine.close)
        dialogue = dialogue_for(configuration, store, engine)
        _log.info("model %s at %s is ready", engine.model_name, engine.precision)
        adapters: list[Adapter] = []
        for name, settings in configuration.adapters.items():
            adapter = known[name](settings, dialogue)
            await adapter.start()
            stack.push_async_callback(adapter.stop)
            adapters.append(adapter)
        yield adapters


async def _serve(
    configuration: Configuration,
    stop: asyncio.Event,
    serving: list[Adapter],
    on_progress: Callable[[float], None] | None,
) -> None:
    """`serving` gets the adapters once everything runs."""
    if not configuration.adapters:
        raise ConfigError("no platform is configured; add a section such as [web] or [telegram]")
    async with started(configuration, on_progress) as adapters:
        serving.extend(adapters)
        runs = [asyncio.ensure_future(_keep_running(adapter)) for adapter in adapters]
        stopping = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait({*runs, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            _log.info("stopping")
            stopping.cancel()
    for task in runs:
        task.cancel()
    await asyncio.gather(*runs, return_exceptions=True)


async def _keep_running(adapter: Adapter) -> None:
    """An adapter whose platform fails is started again, ever more patiently; the others never notice."""
    pause = _RESTART_FIRST_S
    while True:
        try:
            await adapter.run()
        except AdapterError as error:
            _log.error("%s; trying again in %.0f s", error, pause)
        except Exception:
            _log.exception("%s failed; trying again in %.0f s", type(adapter).__name__, pause)
        else:
            return
        await asyncio.sleep(pause)
        pause = min(2 * pause, _RESTART_LONGEST_S)


def _adapters() -> Mapping[str, Any]:
    found: dict[str, Any] = {}
    for entry in entry_points(group=_GROUP):
        try:
            found[entry.name] = entry.load()
        except ImportError as error:
            _log.debug("adapter %s is not available: %s", entry.name, error)
    return found


def _sampling(configuration: Configuration, defaults: Mapping[str, object]) -> Sampling:
    """The operator's settings, then the model folder's own, then ours."""
    wishes: dict[str, Any] = {
        name: value
        for name in ("temperature", "top_p", "top_k", "repetition_penalty")
        if (value := defaults.get(name)) is not None
    }
    if defaults.get("do_sample") is False:
        wishes["temperature"] = 0.0
    wishes |= configuration.sampling.model_dump(exclude_none=True)
    return Sampling(max_tokens=configuration.model.max_answer_tokens, **wishes)
