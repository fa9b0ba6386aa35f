"""What is wrong with a configuration, as far as that can be known without starting anything or asking a network.

For `glmbot check`, which names all of it at once. What starts refuses the same things, one at a time, by itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from glmbot.app import adapters, moderation, open_store, plugins_for
from glmbot.config.configuration import Configuration
from glmbot.config.models import ModelSection, NamedLocalModel, NamedModel, NamedRemoteModel, RemoteSection
from glmbot.engine.pool import Engines
from glmbot.errors import ConfigError, GlmbotError
from glmbot.platforms import check_accounts, check_routes, check_settings, plugin_route_complaints
from glmbot.plugins import Plugins

__all__ = ["complaints"]


def complaints(configuration: Configuration, plugins: Plugins | None = None) -> list[str]:
    """One line for each fault; none when all is well. A port that is taken is none: the bot itself may have it.

    plugins: what they have registered under this configuration, where that is known.
    """
    return list(dict.fromkeys(_complaints(configuration, plugins or plugins_for(configuration, quiet=True))))


def _complaints(configuration: Configuration, plugins: Plugins) -> Iterator[str]:
    yield from (f"the plug-in {name} is left out: {trouble}" for name, trouble in plugins.troubles)
    makers = adapters(plugins)
    for name, settings in configuration.adapters.items():
        yield from _said(partial(check_settings, makers, name, settings))
    yield from _said(partial(check_accounts, configuration.adapters))
    yield from _said(partial(check_routes, makers, configuration.adapters))
    yield from plugin_route_complaints(makers, configuration.adapters, plugins.routes)
    yield from _engine(configuration, plugins)
    yield from _said(lambda: open_store(configuration))
    if configuration.store.kind == "sqlite":
        yield from _unwritable("[store] path", configuration.store.path)
    else:
        yield from _unwritable("[store] journal_path", configuration.store.journal_path)
    yield from _said(lambda: moderation(configuration, plugins))


def _engine(configuration: Configuration, plugins: Plugins) -> Iterator[str]:
    from glmbot.engines import engines_for, named_remote_settings, remote_settings

    yield from _said(
        lambda: _refuse_unknown_models(configuration, engines_for(configuration, plugins.engines))
    )
    yield from _room_for_questions("model", configuration.model)
    if configuration.remote.servers:
        yield from _remote("remote", configuration.remote, lambda: remote_settings(configuration))
    else:
        yield from _local("model", configuration.model)
    for name, section in configuration.named_models.items():
        key = f"models.{name}"
        yield from _room_for_questions(key, section)
        if isinstance(section, NamedLocalModel):
            yield from _local(key, section)
        elif isinstance(section, NamedRemoteModel):
            yield from _remote(key, section, partial(named_remote_settings, name, section))


def _refuse_unknown_models(configuration: Configuration, engines: Engines) -> None:
    """Of further bots. Raises ConfigError."""
    for name, bot in configuration.bots.items():
        if bot.model and engines.find(bot.model) is None:
            known = ", ".join(engines.names)
            raise ConfigError(f"[{name}] model: there is no {bot.model[:100]!r}; known are: {known}")


def _room_for_questions(key: str, section: ModelSection | NamedModel) -> Iterator[str]:
    if section.max_answer_tokens >= section.context_length:
        yield (
            f"[{key}] max_answer_tokens is {section.max_answer_tokens}, and context_length"
            f" {section.context_length}; leave room for the question"
        )


def _remote(key: str, section: RemoteSection, settings: Callable[[], object]) -> Iterator[str]:
    from glmbot.models.registry import check_folder

    yield from _said(settings)
    folder = section.tokenizer if section.interface == "completions" else None
    if folder is not None:
        yield from (f"[{key}] tokenizer: {words}" for words in _said(lambda: check_folder(folder)))


def _local(key: str, section: ModelSection | NamedLocalModel) -> Iterator[str]:
    from glmbot.models.adapters import check_adapter
    from glmbot.models.registry import check_folder

    yield from (f"[{key}] path: {words}" for words in _said(lambda: check_folder(section.path)))
    prefix = section.prefix_path
    if prefix is not None and not _is_folder(prefix):
        yield f"[{key}] prefix_path: {prefix}: there is no such folder"
    for adapter in section.adapters:
        yield from (f"[{key}] adapters: {words}" for words in _said(partial(check_adapter, adapter)))


def _said(ask: Callable[[], object]) -> Iterator[str]:
    try:
        ask()
    except GlmbotError as error:
        yield str(error)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False


def _unwritable(key: str, path: Path) -> Iterator[str]:
    """The file may be there, or be made in its folder, or that in the nearest folder that is there."""
    try:
        place = next((each for each in (path, *path.absolute().parents) if each.exists()), path)
        is_folder = path.is_dir()
    except OSError as error:
        # A name that is too long, or a folder that lets nobody look.
        yield f"{key}: {path}: {error.strerror or error}"
        return
    if is_folder:
        yield f"{key}: {path} is a folder, and must be a file"
    elif not os.access(place, os.W_OK) or (place != path and not place.is_dir()):
        yield f"{key}: {path} can't be written: {place} does not let us"
