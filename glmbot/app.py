"""The composition root: configuration -> parts -> start, drain, stop. Only here are parts joined."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Mapping, Sequence, Set
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from glmbot.config.configuration import Configuration, secrets_in
from glmbot.config.file import read_file
from glmbot.config.load import load_configuration, plugin_tables
from glmbot.config.names import ADAPTERS, installed_platforms
from glmbot.config.operation import StoreSection, TracingSection
from glmbot.config.reload import compared
from glmbot.config.tools import ToolsSection
from glmbot.delivery.abilities import Ability, Profile
from glmbot.dialogue.access import Access
from glmbot.dialogue.manager import DialogueManager, DialogueSettings
from glmbot.dialogue.moderation import Moderation
from glmbot.dialogue.reloaded import Reloaded
from glmbot.dialogue.settings import Persona
from glmbot.dialogue.tool_rights import ToolRights
from glmbot.dialogue.tool_settings import ToolSettings
from glmbot.engine.base import Engine, Sampling
from glmbot.engine.pool import Engines
from glmbot.errors import ConfigError, GlmbotError
from glmbot.keys import UserKey
from glmbot.logs import set_up_logging
from glmbot.platforms import Platforms, check, keep_running, plugin_route_complaints
from glmbot.plugins import Plugins, load_plugins, log_troubles, refuse_without_built_in, start_moderators
from glmbot.ports import Adapter
from glmbot.store.base import Store
from glmbot.store.blobs import BlobLimits
from glmbot.store.sealed import sealed
from glmbot.store.sqlite import SqliteStore
from glmbot.tokens import read_secret
from glmbot.tracing import start_tracing
from glmbot.watchdog import Watchdog

__all__ = [
    "adapter_settings",
    "adapters",
    "dialogue_for",
    "moderation",
    "open_store",
    "plugins_for",
    "read_configuration",
    "run",
    "visited_platforms",
]

_log = logging.getLogger(__name__)

# For who drives a single adapter, without a whole bot.
_keep_running = keep_running
# What ends at once, or not at all.
_ENDS_S = 10.0
# What is known of an adapter that says nothing of itself.
_UNKNOWN = Profile(frozenset())


def adapter_settings(plugins: Plugins | None = None) -> dict[str, type[BaseModel]]:
    """The settings model of every adapter whose library is installed, by its name."""
    return {name: adapter.Settings for name, adapter in adapters(plugins).items()}


def read_configuration(
    path: Path | None, overrides: Mapping[str, Mapping[str, Any]] | None = None
) -> Configuration:
    """The file, read once, with what plug-ins bring: they register here, once, before it is looked at.

    Raises ConfigError.
    """
    file = read_file(path)
    plugins = load_plugins(plugin_tables(file), file.folder, quiet=True)
    engines = {kind: engine.settings for kind, engine in plugins.engines.items()}
    read = load_configuration(file, adapter_settings(plugins), overrides=overrides, engine_settings=engines)
    return replace(read, registered=plugins)


def open_store(configuration: Configuration) -> Store:
    """The configured store, not yet opened. Raises ConfigError when its library is missing or a key is none."""
    section = configuration.store
    keys = read_secret("store", "encryption_key", section.encryption_key, section.encryption_key_file).split()
    try:
        return sealed(_bare_store(section), keys)
    except ValueError as error:
        raise ConfigError(f"[store] encryption_key: {error}") from error


def _bare_store(section: StoreSection) -> Store:
    keep_s = section.keep_days * 86400
    blobs = _blob_limits(section)
    if section.kind == "sqlite":
        return SqliteStore(section.path, turns_kept_s=keep_s, blobs=blobs)
    try:
        from glmbot.store.journal import JournaledRedisStore
    except ImportError as error:
        raise ConfigError(
            "[store] kind is redis: install it with pip install '.[redis]' in glmbot's folder"
        ) from error
    try:
        return JournaledRedisStore(
            section.url.get_secret_value(),
            section.journal_path,
            journal_limit=section.journal_limit,
            prefix=section.prefix,
            turns_kept_s=keep_s,
            blobs=blobs,
        )
    except ValueError as error:
        raise ConfigError(f"[store] url: {error}") from error


def _blob_limits(section: StoreSection) -> BlobLimits:
    total_mb = section.blob_total_mb or (10_000 if section.kind == "sqlite" else 500)
    # Nobody looks for a file whose turn is gone.
    days = min((each for each in (section.blob_keep_days, section.keep_days) if each), default=0)
    return BlobLimits(
        each=int(section.blob_mb * 1e6),
        person=int(section.blob_person_mb * 1e6),
        everybody=int(total_mb * 1e6),
        kept_s=days * 86400,
    )


def dialogue_for(
    configuration: Configuration,
    store: Store,
    engine: Engine | Engines,
    reload: Callable[[], Reloaded] | None = None,
    plugins: Plugins | None = None,
    moderated: Moderation | None = None,
) -> DialogueManager:
    """Join the parts. moderated: where its moderators are started already.

    Raises ConfigError for settings that contradict the model, or a moderator that can't be started.
    """
    engines = engine if isinstance(engine, Engines) else Engines.of(engine)
    plugins = plugins or plugins_for(configuration, quiet=True)
    parts = _dialogue_parts(configuration, engines, plugins)
    moderated = moderated or moderation(configuration, plugins)
    try:
        return DialogueManager(
            store=store,
            engine=engines,
            access=parts.access,
            settings=parts.settings,
            moderation=moderated,
            reload=reload,
            claim_s=configuration.store.claim_s,
            tries=configuration.dialogue.tries,
            plugins=plugins,
        )
    except ValueError as error:
        raise ConfigError(str(error)) from error


async def run(
    configuration: Configuration,
    on_progress: Callable[[float], None] | None = None,
    read_again: Callable[[], Configuration] | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM, or until an adapter ends by itself. SIGHUP, like /reload, reads the
    configuration again.

    Raises ConfigError, StoreError, ModelFileError or AdapterError when something can't start.
    """
    stop = asyncio.Event()
    running = _Running(configuration, read_again)

    def interrupted() -> None:
        if not any(adapter.interrupt() for adapter in running.adapters):
            stop.set()

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, interrupted)
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    if read_again is not None:
        loop.add_signal_handler(signal.SIGHUP, running.reload_and_log)
    serve = asyncio.create_task(_serve(running, stop, on_progress))
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait({serve, stopped}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if not running.adapters and not serve.done():
        # Still loading: nothing has been taken in, so nothing needs to be drained.
        serve.cancel()
        await asyncio.wait({serve})
        return
    await serve


async def _serve(running: _Running, stop: asyncio.Event, on_progress: Callable[[float], None] | None) -> None:
    if not running.configuration.adapters:
        raise ConfigError("no platform is configured; add a section such as [web] or [telegram]")
    async with AsyncExitStack() as stack:
        lasting = await running.start(stack, on_progress)
        stopping = asyncio.create_task(stop.wait())
        try:
            done, _ = await asyncio.wait({stopping, *lasting}, return_when=asyncio.FIRST_COMPLETED)
            for ended in done - {stopping}:
                # What ended by a fault ends the process, with its reason.
                ended.result()
        finally:
            _log.info("stopping")
            stopping.cancel()


class _Running:
    """All parts, joined and started, and how they take another configuration while they run."""

    def __init__(self, configuration: Configuration, read_again: Callable[[], Configuration] | None) -> None:
        self.configuration = configuration
        self._read_again = read_again
        self._platforms: Platforms | None = None
        self._plugins = plugins_for(configuration, quiet=True)
        self._engines: Engines
        self._dialogue: DialogueManager

    @property
    def adapters(self) -> list[Adapter]:
        return [] if self._platforms is None else self._platforms.adapters

    async def start(
        self, stack: AsyncExitStack, on_progress: Callable[[float], None] | None
    ) -> Sequence[asyncio.Future[None]]:
        """On leaving the stack adapters stop first, then the engine, then the store.

        Returns what must last as long as the process.
        """
        self._set_up_logging(self.configuration)
        log_troubles(self._plugins)
        refuse_without_built_in(self._plugins)
        makers = adapters(self._plugins)
        # What can be known now is not said after minutes of loading.
        check(makers, self.configuration.adapters)
        moderated = moderation(self.configuration, self._plugins)
        if self.configuration.tracing.endpoint:
            end = _start_tracing(self.configuration.tracing)
            stack.push_async_callback(asyncio.to_thread, end)
        store = open_store(self.configuration)
        await store.open()
        stack.push_async_callback(store.close)
        await store.check()
        for warning in await store.warnings():
            _log.warning("%s", warning)
        # This imports torch for seconds, in which the loop still hears of signals. Nothing above needs it.
        await asyncio.to_thread(import_module, "glmbot.engines")
        from glmbot.engines import engines_for

        self._engines = engines = engines_for(self.configuration, self._plugins.engines)
        stack.push_async_callback(engines.close)
        await engines.start(on_progress)
        reload = self.reload if self._read_again is not None else None
        self._dialogue = dialogue_for(self.configuration, store, engines, reload, self._plugins, moderated)
        for name, stats in engines.stats().items():
            _log.info("model %s at %s is ready", name, stats.precision)
        stack.push_async_callback(self._dialogue.close)
        watchdog = Watchdog(engines.stats, self._dialogue.troubles, default=engines.default)
        keeping = asyncio.create_task(self._dialogue.run())
        watching = asyncio.create_task(watchdog.run())
        stack.push_async_callback(_end, keeping, watching)
        self._platforms = Platforms(makers, self._dialogue, self._dialogue.troubles)
        stack.push_async_callback(self._platforms.stop)
        routes = self._plugins.routes
        for words in plugin_route_complaints(makers, self.configuration.adapters, routes):
            _log.error("%s", words)
        await self._platforms.open_routes(routes)
        self._platforms.begin(self.configuration.adapters)
        return keeping, watching, self._platforms.ended

    def reload_and_log(self) -> None:
        if self._read_again is not None and self._platforms is not None:
            _log.info("%s", self.reload().describe("en"))

    def reload(self) -> Reloaded:
        """Read the configuration again and take what can be taken; a broken one changes nothing."""
        if self._read_again is None or self._platforms is None:
            return Reloaded()
        old = self.configuration
        try:
            reread = compared(old, self._read_again())
            new = reread.now
            parts = _dialogue_parts(new, self._engines, self._plugins)
            moderated = moderation(new, self._plugins)
            check(adapters(self._plugins), new.adapters, old.adapters)
            self._dialogue.reconfigure(parts.access, parts.settings, moderated)
        except (GlmbotError, ValueError) as error:
            return Reloaded(error=str(error))
        self.configuration = new
        # The old ones too: what ends may still name them.
        self._set_up_logging(new, old)
        self._platforms.change(new.adapters)
        return Reloaded(reread.applied, reread.waiting)

    def _set_up_logging(self, *configurations: Configuration) -> None:
        """By the first of them; no secret of any is written."""
        secrets = [secret for each in configurations for secret in secrets_in(each)]
        log = configurations[0].log
        set_up_logging(log.level, [*secrets, *self._plugins.secrets], log.format)


async def _end(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    _, pending = await asyncio.wait(tasks, timeout=_ENDS_S)
    if pending:
        _log.error("a task does not end: %s", ", ".join(str(task.get_coro()) for task in pending))


def _start_tracing(section: TracingSection) -> Callable[[], None]:
    try:
        return start_tracing(section.endpoint, section.share, version("glmbot"))
    except ImportError as error:
        raise ConfigError("[tracing] endpoint: pip install '.[tracing]' in glmbot's folder") from error


@dataclass(frozen=True, slots=True)
class _DialogueParts:
    access: Access
    settings: DialogueSettings


def _dialogue_parts(configuration: Configuration, engines: Engines, plugins: Plugins) -> _DialogueParts:
    """Raises ConfigError for settings that contradict the model."""
    access, dialogue, limits = configuration.access, configuration.dialogue, configuration.limits
    answer, engine = configuration.model.max_answer_tokens, engines.engine(engines.default)
    if engine is not None and answer >= engine.context_length:
        raise ConfigError(
            f"[model] max_answer_tokens is {answer}, and the context has {engine.context_length} tokens;"
            " leave room for the question"
        )
    return _DialogueParts(
        Access(
            admins={UserKey.by_hand(user) for user in access.admins},
            users={UserKey.by_hand(user) for user in access.users},
            chats={(key.platform, key.id) for key in map(UserKey.by_hand, access.chats)},
            open_platforms=set(access.open_platforms),
        ),
        DialogueSettings(
            sampling=_sampling(configuration, answer, {} if engine is None else engine.generation_defaults),
            samplings=partial(_sampling_of, configuration),
            platforms=installed_platforms() | plugins.platforms.keys() | configuration.bots.keys(),
            visited=visited_platforms(plugins),
            unedited=unedited_platforms(plugins),
            personas={name: Persona(**bot.model_dump()) for name, bot in configuration.bots.items()},
            tools=_tool_settings(configuration.tools),
            people_choose=configuration.models.people_choose,
            system_prompt=dialogue.system_prompt,
            turn_limit=dialogue.turn_limit,
            language=dialogue.language,
            pending_per_user=dialogue.pending_per_user,
            pending_per_source=dialogue.pending_per_source,
            deadline_s=dialogue.deadline_s,
            user_per_hour=limits.user_per_hour,
            chat_per_hour=limits.chat_per_hour,
            total_per_hour=limits.total_per_hour,
            source_per_hour=limits.source_per_hour,
            strangers_per_hour=limits.strangers_per_hour,
        ),
    )


def moderation(configuration: Configuration, plugins: Plugins) -> Moderation:
    """Raises ConfigError for a moderator that can't be started, such as a word list that can't be read."""
    return Moderation(start_moderators(plugins, configuration.moderation))


def adapters(plugins: Plugins | None = None) -> Mapping[str, Any]:
    """The class of every adapter whose library is installed, by entry-point name, and those of plug-ins."""
    found: dict[str, Any] = {}
    for entry in entry_points(group=ADAPTERS):
        try:
            found[entry.name] = entry.load()
        except ImportError as error:
            _log.debug("adapter %s is not available: %s", entry.name, error)
    return found if plugins is None else {**plugins.platforms, **found}


def visited_platforms(plugins: Plugins | None = None) -> Set[str]:
    """See `glmbot.delivery.abilities.Profile`."""
    return {name for name, adapter in adapters(plugins).items() if _profile(adapter).visited}


def unedited_platforms(plugins: Plugins | None = None) -> Set[str]:
    """Those where an answer is not seen before it, or a paragraph of it, has ended."""
    seen = {Ability.EDIT, Ability.DRAFT, Ability.APPEND}
    return {name for name, adapter in adapters(plugins).items() if not seen & _profile(adapter).abilities}


def _tool_settings(section: ToolsSection) -> ToolSettings:
    plain = section.model_dump(exclude={"rights", "admin_rights"})
    return ToolSettings(**plain, rights=ToolRights.written(section.rights, section.admin_rights))


def _profile(adapter: Any) -> Profile:
    return getattr(adapter, "profile", _UNKNOWN)


def plugins_for(configuration: Configuration, *, quiet: bool = False) -> Plugins:
    """What the plug-ins registered when this configuration was read; else they register now.

    quiet: who was left out is not logged.
    """
    plugins = configuration.registered
    if not isinstance(plugins, Plugins):
        plugins = load_plugins(configuration.plugins, configuration.folder, quiet=True)
    if not quiet:
        log_troubles(plugins)
    return plugins


def _sampling_of(configuration: Configuration, model: str, engine: Engine) -> Sampling:
    """Of a model by its name."""
    section = configuration.named_models.get(model, configuration.model)
    # Its folder, or what memory had room for, may leave less than is configured.
    most, room = section.max_answer_tokens, engine.context_length
    answer = most if most < room else max(1, room // 2)
    return _sampling(configuration, answer, engine.generation_defaults)


def _sampling(configuration: Configuration, max_tokens: int, defaults: Mapping[str, object]) -> Sampling:
    """The operator's settings, then the model folder's own, then ours."""
    wishes: dict[str, Any] = {
        name: value
        for name in ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
        if (value := defaults.get(name)) is not None
    }
    if defaults.get("do_sample") is False:
        wishes["temperature"] = 0.0
    wishes |= configuration.sampling.model_dump(exclude_none=True)
    return Sampling(max_tokens=max_tokens, **wishes)
