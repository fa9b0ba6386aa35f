"""The engines that a configuration asks for: models here, or on servers. This imports torch, `app` does not."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from glmbot.config.configuration import Configuration
from glmbot.config.models import (
    ModelSection,
    NamedLocalModel,
    NamedModel,
    NamedPluginModel,
    NamedRemoteModel,
    RemoteSection,
)
from glmbot.engine.base import Engine, Precision, TokenEngine
from glmbot.engine.heap import weights_apart
from glmbot.engine.local import LocalEngine, LocalEngineSettings
from glmbot.engine.named import Memory, Model
from glmbot.engine.placement import parse_devices
from glmbot.engine.pool import Engines
from glmbot.engine.precision import available_precisions, chosen_precision
from glmbot.engine.remote import RemoteEngineSettings, start_remote
from glmbot.engine.runner import LEAST_CACHE_TOKENS, MOST_CACHE_TOKENS
from glmbot.errors import ConfigError, ModelFileError
from glmbot.memory import memory_needed
from glmbot.models.registry import LoadedModel, load, model_name
from glmbot.plugin_engine import start_plugin_engine
from glmbot.registered import RegisteredEngine
from glmbot.tokens import read_secret

__all__ = [
    "OpenedModel",
    "engine_settings",
    "engines_for",
    "named_remote_settings",
    "open_model",
    "remote_settings",
]


def engines_for(configuration: Configuration, kinds: Mapping[str, RegisteredEngine] | None = None) -> Engines:
    """None of them started yet. The default is that of [remote] where it has servers, else that of [model].

    kinds: of engines that plug-ins bring. Raises ConfigError.
    """
    section, remote = configuration.model, configuration.remote
    if remote.servers:
        name = section.name or remote.model.rstrip("/").rpartition("/")[2]
        default = _remote(name, remote_settings(configuration), section.queue_limit)
    else:
        default = _local(section.name or model_name(section.path), section)
    others = [_named(name, each, kinds or {}) for name, each in configuration.named_models.items()]
    models = [default, *others]
    _refuse_same_names(models)
    return Engines(
        models,
        budget=int(configuration.models.memory_gb * 1e9) or None,
        idle_s=60.0 * configuration.models.idle_minutes,
        patience_s=configuration.dialogue.deadline_s,
    )


@dataclass(frozen=True, slots=True)
class OpenedModel:
    """A model's folder with what it is to run on; no weight has been read."""

    settings: LocalEngineSettings
    model: LoadedModel
    devices: Sequence[torch.device]
    precision: Precision

    @property
    def least(self) -> Memory:
        """Bytes without which it can't run."""
        return self._memory(LEAST_CACHE_TOKENS)

    @property
    def most(self) -> Memory:
        """Bytes that it takes where there is room for all that it wants."""
        return self._memory(max(MOST_CACHE_TOKENS, self.settings.context_length))

    def _memory(self, cache_tokens: int) -> Memory:
        tokens = self.settings.cache_tokens or cache_tokens
        needs = memory_needed(self.model.module, self.model.shape, self.devices[0], tokens)
        return Memory(needs[self.precision], {Precision(each): size for each, size in needs.items()})


def open_model(settings: LocalEngineSettings) -> OpenedModel:
    """Takes as long as opening the folder. Raises ModelFileError and ConfigError."""
    devices = parse_devices(settings.device)
    model = load(
        settings.folder,
        "sdpa",
        settings.prefix_folder,
        settings.chat_format,
        adapters=settings.adapters,
    )
    precision = chosen_precision(settings.precision, model.module, model.checkpoint, devices[0])
    if precision not in available_precisions(devices[0]):
        raise ModelFileError(f"{settings.folder}: {precision} is not available on {devices[0].type}")
    return OpenedModel(settings, model, devices, precision)


def engine_settings(section: ModelSection | NamedLocalModel) -> LocalEngineSettings:
    return LocalEngineSettings(
        folder=section.path,
        device=section.device,
        precision=None if section.precision == "auto" else Precision(section.precision),
        context_length=section.context_length,
        cache_tokens=section.cache_tokens,
        max_batch=section.max_batch,
        queue_limit=section.queue_limit,
        prefill_tokens=section.prefill_tokens,
        gpu_plain=section.gpu_plain,
        tensor_parallel=section.tensor_parallel,
        threads=section.threads,
        prefix_folder=section.prefix_path,
        adapters=tuple(section.adapters),
        chat_format=section.chat_format,
        thinks=section.thinking == "auto",
    )


def remote_settings(configuration: Configuration) -> RemoteEngineSettings:
    """Of [remote]. Raises ConfigError."""
    return _remote_settings("remote", configuration.remote, configuration.model)


def named_remote_settings(name: str, section: NamedRemoteModel) -> RemoteEngineSettings:
    """Of [models.NAME]. Raises ConfigError."""
    return _remote_settings(f"models.{name}", section, section)


def _remote_settings(
    name: str, section: RemoteSection, sizes: ModelSection | NamedRemoteModel
) -> RemoteEngineSettings:
    if section.interface == "completions" and section.tokenizer is None:
        raise ConfigError(
            f'[{name}] tokenizer is missing: name a folder of the served model, or set interface = "chat"'
        )
    return RemoteEngineSettings(
        servers=section.servers,
        tokenizer=section.tokenizer if section.interface == "completions" else None,
        model=section.model,
        api_key=read_secret(name, "api_key", section.api_key, section.api_key_file),
        context_length=sizes.context_length,
        parallel=section.parallel,
        queue_limit=sizes.queue_limit,
        connect_s=section.connect_s,
        first_token_s=section.first_token_s,
        next_token_s=section.next_token_s,
        patience_s=section.patience_s,
        tools=section.tools,
        thinks=sizes.thinking == "auto",
    )


def _named(name: str, section: NamedModel, kinds: Mapping[str, RegisteredEngine]) -> Model:
    if isinstance(section, NamedLocalModel):
        return _local(name, section)
    if isinstance(section, NamedRemoteModel):
        return _remote(name, named_remote_settings(name, section), section.queue_limit)
    return _plugged(name, section, kinds)


def _plugged(name: str, section: NamedPluginModel, kinds: Mapping[str, RegisteredEngine]) -> Model:
    kind = kinds.get(section.engine)
    if kind is None:
        raise ConfigError(f"[models.{name}] engine: no plug-in brings an engine {section.engine!r}")

    async def start(_: Callable[[float], None]) -> Engine:
        return await start_plugin_engine(name, section, kind)

    return Model(name, start, at_start=section.load == "start", queue_limit=section.queue_limit, alone=False)


def _local(name: str, section: ModelSection | NamedLocalModel) -> Model:
    settings = engine_settings(section)

    async def start(on_progress: Callable[[float], None]) -> TokenEngine:
        return await LocalEngine.start(settings, on_progress)

    return Model(
        name,
        start,
        lambda: open_model(settings).most,
        at_start=section.load == "start",
        queue_limit=section.queue_limit,
        release=_release,
    )


def _remote(name: str, settings: RemoteEngineSettings, queue_limit: int) -> Model:
    async def start(_: Callable[[float], None]) -> Engine | TokenEngine:
        return await start_remote(settings)

    return Model(name, start, queue_limit=queue_limit)


def _release() -> None:
    """Engine, thread and model name each other."""
    gc.collect()
    with weights_apart():
        # Leaving it gives back what is free at the end of the heap.
        pass
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _refuse_same_names(models: list[Model]) -> None:
    """Of [model] the folder may be the name."""
    default, *others = models
    same = next((each.name for each in others if each.name.lower() == default.name.lower()), None)
    if same is not None:
        raise ConfigError(
            f"[models.{same}]: the model of [model] has this name; give that another: [model] name"
        )
