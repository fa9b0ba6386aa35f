"""What a plug-in has registered, with whose it is: values that `glmbot.plugins` keeps by name."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import BaseModel

from glmbot import i18n
from glmbot.host import (
    Background,
    Command,
    Commandbox,
    EngineStart,
    Moderator,
    ModeratorStart,
    Panel,
    Step,
    Tool,
    Toolbox,
    Transform,
)

__all__ = [
    "PlacedStep",
    "RegisteredBackground",
    "RegisteredCommand",
    "RegisteredCommandbox",
    "RegisteredEngine",
    "RegisteredModerator",
    "RegisteredPanel",
    "RegisteredTool",
    "RegisteredToolbox",
    "RegisteredTransform",
    "StartedModerator",
    "Words",
]


class Words:
    """A plug-in's own lines, and behind them the bot's."""

    def __init__(self) -> None:
        self.lines: dict[str, Mapping[str, str]] = {}

    def text(self, language: str, key: str, **values: object) -> str:
        """Raises KeyError for an unknown key."""
        line = self.lines.get(language, {}).get(key)
        return i18n.text(language, key, **values) if line is None else line.format(**values)


@dataclass(frozen=True, slots=True)
class RegisteredCommand:
    command: Command
    plugin: str
    log: logging.Logger
    words: Words


@dataclass(frozen=True, slots=True)
class RegisteredCommandbox:
    plugin: str
    log: logging.Logger
    words: Words
    box: Commandbox


@dataclass(frozen=True, slots=True)
class PlacedStep:
    """Right before or right after the step of that name; the other one is ""."""

    name: str
    plugin: str
    log: logging.Logger
    step: Step
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class RegisteredTransform:
    log: logging.Logger
    transform: Transform


@dataclass(frozen=True, slots=True)
class RegisteredEngine:
    """A kind of engine. `settings`: the keys of [models.NAME] that are its own."""

    plugin: str
    log: logging.Logger
    settings: type[BaseModel]
    start: EngineStart


@dataclass(frozen=True, slots=True)
class RegisteredTool:
    plugin: str
    log: logging.Logger
    tool: Tool


@dataclass(frozen=True, slots=True)
class RegisteredToolbox:
    plugin: str
    log: logging.Logger
    toolbox: Toolbox


@dataclass(frozen=True, slots=True)
class RegisteredBackground:
    plugin: str
    log: logging.Logger
    work: Background


@dataclass(frozen=True, slots=True)
class RegisteredPanel:
    plugin: str
    log: logging.Logger
    panel: Panel


@dataclass(frozen=True, slots=True)
class RegisteredModerator:
    plugin: str
    log: logging.Logger
    start: ModeratorStart


@dataclass(frozen=True, slots=True)
class StartedModerator:
    name: str
    log: logging.Logger
    moderator: Moderator
