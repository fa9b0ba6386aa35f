"""The engine that a configuration asks for: a model here, or servers. This imports torch, `app` does not."""

from __future__ import annotations

from collections.abc import Callable

from glmbot.config import Configuration
from glmbot.engine.base import Engine, Precision
from glmbot.engine.local import LocalEngine, LocalEngineSettings
from glmbot.engine.remote import RemoteEngineSettings, start_remote
from glmbot.engine.templated import answering_conversations
from glmbot.errors import ConfigError
from glmbot.tokens import read_secret

__all__ = ["engine_settings", "remote_settings", "start_engine"]


async def start_engine(
    configuration: Configuration, on_progress: Callable[[float], None] | None = None
) -> Engine:
    """The local engine, or with servers in [remote] the remote one.

    Raises ConfigError, ModelFileError or PrecisionError.
    """
    if not configuration.remote.servers:
        local = await LocalEngine.start(engine_settings(configuration), on_progress)
        return answering_conversations(local)
    engine = await start_remote(remote_settings(configuration))
    if on_progress is not None:
        on_progress(1.0)
    return answering_conversations(engine)


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
        chat_format=section.chat_format,
        thinks=section.thinking == "auto",
    )


def remote_settings(configuration: Configuration) -> RemoteEngineSettings:
    """Raises ConfigError."""
    section, model = configuration.remote, configuration.model
    if section.interface == "completions" and section.tokenizer is None:
        raise ConfigError(
            '[remote] tokenizer is missing: name a folder of the served model, or set interface = "chat"'
        )
    return RemoteEngineSettings(
        servers=section.servers,
        tokenizer=section.tokenizer if section.interface == "completions" else None,
        model=section.model,
        api_key=read_secret("remote", "api_key", section.api_key, section.api_key_file),
        context_length=model.context_length,
        parallel=section.parallel,
        queue_limit=model.queue_limit,
        connect_s=section.connect_s,
        first_token_s=section.first_token_s,
        next_token_s=section.next_token_s,
        patience_s=section.patience_s,
        thinks=model.thinking == "auto",
    )
