"""Examining an installation: each part, whether it works, and what to do when it does not."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from pydantic import BaseModel

from glmbot.app import adapters, open_store, plugins_for, visited_platforms
from glmbot.config.configuration import Configuration
from glmbot.config.models import ModelSection, NamedLocalModel, NamedPluginModel, NamedRemoteModel
from glmbot.cuda.program import Part
from glmbot.engine.card.outlook import card_bandwidth, outlook, told
from glmbot.engine.card.tried import tried
from glmbot.engine.card.trust import GRAPHS, PROGRAM
from glmbot.engine.local_settings import LocalEngineSettings
from glmbot.engine.placement import Placement, free_memory, host_parts, place
from glmbot.engine.remote import RemoteEngineSettings, start_remote
from glmbot.engine.runner import LEAST_CACHE_TOKENS
from glmbot.engines import (
    OpenedModel,
    engine_settings,
    named_remote_settings,
    open_model,
    remote_settings,
)
from glmbot.errors import AdapterError, GlmbotError, StoreError
from glmbot.keys import UserKey, kind_of
from glmbot.logs import outward
from glmbot.memory import memory_parts
from glmbot.named_bot import with_name
from glmbot.native.library import VARIABLE, loaded
from glmbot.plugin_engine import start_plugin_engine
from glmbot.plugins import BUILT_IN, Plugins, start_moderators
from glmbot.preflight import complaints

__all__ = ["Finding", "examine"]

_GB = 1_000_000_000
# Of a platform.
_ASKS_S = 20.0
# Of a plug-in's engine.
_STARTS_S = 60.0


@dataclass(frozen=True, slots=True)
class Finding:
    part: str
    ok: bool
    words: str


async def examine(configuration: Configuration) -> Sequence[Finding]:
    """Look at everything without starting anything; nothing here raises."""
    plugins = await asyncio.to_thread(partial(plugins_for, configuration, quiet=True))
    refused = await asyncio.to_thread(complaints, configuration, plugins)
    findings = [await _store(configuration)]
    findings += await _models(configuration, plugins)
    findings += _access(configuration, visited_platforms(plugins))
    findings += _tokens(configuration)
    findings += _advice(configuration)
    findings += await _platforms(configuration, plugins)
    findings += _moderation(configuration, plugins)
    findings += _plugins(plugins)
    # What the configuration alone shows is said once, with its key.
    findings = [each for each in findings if each.ok or not any(each.words in line for line in refused)]
    return [*(Finding("configuration", False, line) for line in refused), *findings]


async def _store(configuration: Configuration) -> Finding:
    try:
        store = open_store(configuration)
        await store.open()
        warnings = await store.warnings()
        await store.close()
    except (GlmbotError, StoreError) as error:
        hint = " (is the server running, and is [store] url right?)"
        return Finding("store", False, f"{error}{hint if configuration.store.kind == 'redis' else ''}")
    if warnings:
        return Finding("store", False, "; ".join(warnings))
    return Finding("store", True, f"{configuration.store.kind} can be read and written")


async def _models(configuration: Configuration, plugins: Plugins) -> list[Finding]:
    """The default, and each of [models.NAME]: what is found of those carries their name."""
    findings: list[Finding] = []
    named = configuration.named_models
    budget = int(configuration.models.memory_gb * _GB)
    if configuration.remote.servers:
        findings += await _servers(lambda: remote_settings(configuration))
    else:
        findings += await asyncio.to_thread(_model_and_memory, configuration.model, budget)
    for name, section in named.items():
        if isinstance(section, NamedLocalModel):
            found = await asyncio.to_thread(_model_and_memory, section, budget)
        elif isinstance(section, NamedRemoteModel):
            found = await _servers(partial(named_remote_settings, name, section))
        else:
            found = [await _plugged(name, section, plugins)]
        findings += [replace(each, part=f"{each.part} {name}") for each in found]
    if not configuration.remote.servers or any(isinstance(each, NamedLocalModel) for each in named.values()):
        findings.append(await asyncio.to_thread(_kernels))
    return findings


async def _servers(settings: Callable[[], RemoteEngineSettings]) -> list[Finding]:
    try:
        engine = await start_remote(settings())
    except GlmbotError as error:
        return [Finding("model", False, str(error))]
    reached = engine.reached
    await engine.close()
    return [
        Finding("server", name is not None, f"{label} serves {name}" if name else f"{label} does not answer")
        for label, name in reached
    ]


async def _plugged(name: str, section: NamedPluginModel, plugins: Plugins) -> Finding:
    kind = plugins.engines.get(section.engine)
    if kind is None:
        return Finding("model", False, f"no plug-in brings an engine {section.engine!r}")
    try:
        engine = await start_plugin_engine(name, section, kind, _STARTS_S)
    except GlmbotError as error:
        return Finding("model", False, str(error))
    await engine.close()
    return Finding("model", True, f"the engine {section.engine} of the plug-in {kind.plugin} starts")


def _model_and_memory(section: ModelSection | NamedLocalModel, budget: int) -> list[Finding]:
    """budget: bytes for all models of this machine; 0: no bound."""
    try:
        opened = open_model(engine_settings(section))
    except GlmbotError as error:
        return [Finding("model", False, str(error))]
    model = opened.model
    findings = [Finding("model", True, f"{model.name}, {model.shape.layers} layers"), _on_its_devices(opened)]
    findings += _on_a_card(opened)
    return [*findings, _within(budget, opened)] if budget else findings


def _on_its_devices(opened: OpenedModel) -> Finding:
    need, free = opened.least.loaded, sum(map(free_memory, opened.devices))
    settings, several = opened.settings, len(opened.devices) > 1
    words = (
        f"{opened.precision} weights and {settings.cache_tokens or LEAST_CACHE_TOKENS} tokens of KV cache take"
        f" {need / _GB:.1f} GB, {free / _GB:.1f} GB free on {settings.device if several else opened.devices[0]}"
    )
    fits = need < free
    return Finding("memory", fits, words if fits else f"{words}; lower [model] precision or cache_tokens")


def _on_a_card(opened: OpenedModel) -> list[Finding]:
    """What the card has room for, and what computes there."""
    device, settings = opened.devices[0], opened.settings
    if device.type != "cuda":
        return []
    weights, per_token = memory_parts(opened.model.module, opened.model.shape, device)
    found = told(outlook(weights, per_token, free_memory(device), card_bandwidth(device)))
    name = torch.cuda.get_device_name(device)
    tables = _tables(opened)
    return [Finding("card", True, f"{name}: {found}{tables}"), _fast_parts(settings, device)]


def _tables(opened: OpenedModel) -> str:
    settings, model = opened.settings, opened.model
    if not host_parts(model.module, model.shape, opened.devices[0]):
        return ""
    placed = place(
        model.module,
        model.shape,
        opened.devices,
        opened.precision,
        settings.cache_tokens or LEAST_CACHE_TOKENS,
        plain=settings.gpu_plain,
    )
    return f"; token embeddings {'stay in the host memory' if placed.embeds_on_host else 'go to the card'}"


def _fast_parts(settings: LocalEngineSettings, device: torch.device) -> Finding:
    if settings.gpu_plain:
        return Finding("fast parts", True, "turned off by [model] gpu_plain, so torch computes alone")
    if not Placement(device).nvidia:
        return Finding("fast parts", True, "none for cards that are not NVIDIA's: torch computes alone")
    if settings.tensor_parallel > 1:
        return Finding("fast parts", True, "none for a model that several cards share: torch computes alone")
    try:
        given_up = tried(device).given_up
    except Exception as error:
        # Whatever a driver says: that a card can't be used is no reason to say no more.
        why = f"{type(error).__name__}: {outward(str(error))}"
        return Finding("fast parts", False, f"they can't be tried: {why}")
    serving = [part for part in (*Part, GRAPHS) if part not in given_up and PROGRAM not in given_up]
    words = f"{', '.join(serving) or 'none'}, held against torch on a small model"
    missing = "".join(f"; without {part}: {why}" for part, why in given_up.items())
    return Finding("fast parts", not given_up, f"{words}{missing}")


def _within(budget: int, opened: OpenedModel) -> Finding:
    """Whether a model could be loaded at all."""
    needed = opened.most.loaded
    words = f"{opened.settings.folder} takes {needed / _GB:.1f} GB of [models] memory_gb = {budget / _GB:g}"
    if needed > budget:
        words += "; raise that, or lower the model's precision, context_length or cache_tokens"
    return Finding("memory", needed <= budget, words)


def _kernels() -> Finding:
    made = loaded()
    if made is not None:
        return Finding("kernels", True, str(made))
    if os.environ.get(VARIABLE) == "0":
        return Finding("kernels", False, f"turned off by {VARIABLE}=0, so on a CPU torch computes alone")
    words = "none prebuilt for this CPU, so torch computes alone there, several times slower: install g++"
    return Finding("kernels", False, words)


def _access(configuration: Configuration, visited: Set[str]) -> list[Finding]:
    """visited: platforms that know by themselves who may speak there."""
    access = configuration.access
    let_in = [UserKey.by_hand(each) for each in (*access.admins, *access.users, *access.chats)]
    findings: list[Finding] = []
    for platform in configuration.adapters:
        if kind_of(platform) in visited:
            continue
        named = [key for key in let_in if key.platform == platform]
        if platform in access.open_platforms:
            findings.append(Finding("access", True, f"{platform} is open to the whole world, as configured"))
        elif named:
            findings.append(Finding("access", True, f"{platform}: {len(named)} ids are let in"))
        else:
            words = (
                f"nobody is named on {platform}: send the bot /start, and let yourself in by the code that"
                " it tells you: glmbot pair CODE --admin"
            )
            findings.append(Finding("access", False, words))
    return findings


def _advice(configuration: Configuration) -> list[Finding]:
    """What adapters say about their own settings, where they have an `advice`."""
    return [
        Finding(name, well, with_name(name, words))
        for name, settings in configuration.adapters.items()
        for well, words in getattr(settings, "advice", list[tuple[bool, str]])()
    ]


async def _platforms(configuration: Configuration, plugins: Plugins) -> list[Finding]:
    """What adapters that have an `examine` say after asking their platform."""

    async def examined(name: str, settings: BaseModel, maker: Any) -> list[Finding]:
        try:
            async with asyncio.timeout(_ASKS_S):
                return [
                    Finding(name, well, with_name(name, words))
                    for well, words in await maker.examine(settings)
                ]
        except TimeoutError:
            return [Finding(name, False, f"nothing came from the platform within {_ASKS_S:.0f} seconds")]
        except AdapterError as error:
            return [Finding(name, False, with_name(name, str(error)))]
        except Exception as error:  # whatever somebody else's adapter or a library trips over
            return [Finding(name, False, f"it could not be examined: {outward(str(error))}")]

    makers = await asyncio.to_thread(adapters, plugins)
    asked = [
        examined(name, settings, makers[kind_of(name)])
        for name, settings in configuration.adapters.items()
        if hasattr(makers.get(kind_of(name)), "examine")
    ]
    return [finding for findings in await asyncio.gather(*asked) for finding in findings]


def _moderation(configuration: Configuration, plugins: Plugins) -> list[Finding]:
    """Moderators' own words. One that can't be started is among the complaints."""
    try:
        moderators = start_moderators(plugins, configuration.moderation)
    except GlmbotError:
        return []
    return [Finding("moderation", *said) for each in moderators for said in each.moderator.advice]


def _plugins(plugins: Plugins) -> list[Finding]:
    """Those that are not the bot's own and do something, and what they say of themselves. Who was left out is
    among the complaints."""
    findings = [
        Finding(f"plug-in {plugin.name}", True, "; ".join((", ".join(plugin.registered), *plugin.notes)))
        for plugin in plugins.found
        if plugin.registered and plugin.name not in BUILT_IN
    ]
    for name, say in plugins.advice:
        try:
            findings += [Finding(f"plug-in {name}", well, words) for well, words in say()]
        except Exception as error:
            findings.append(Finding(f"plug-in {name}", False, f"it can't say: {type(error).__name__}"))
    return findings


def _tokens(configuration: Configuration) -> list[Finding]:
    findings: list[Finding] = []
    for name, settings in configuration.adapters.items():
        if "token_file" not in type(settings).model_fields:
            continue
        token, file = getattr(settings, "token", None), getattr(settings, "token_file", None)
        if token is not None:
            findings.append(Finding(name, True, "a token is set"))
        elif file is not None and file.is_file():
            loose = file.stat().st_mode & 0o077
            words = (
                f"the token file can be read by others: chmod 600 {file}" if loose else "a token file is set"
            )
            findings.append(Finding(name, not loose, words))
    return findings
