"""The whole configuration, as it is when nothing is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from glmbot.config.bots import BotSection
from glmbot.config.models import (
    ModelSection,
    ModelsSection,
    NamedModel,
    RemoteSection,
    SamplingSection,
)
from glmbot.config.operation import LogSection, StoreSection, TracingSection
from glmbot.config.people import AccessSection, DialogueSection, LimitsSection, ModerationSection
from glmbot.config.section import secrets_of
from glmbot.config.tools import ToolsSection

__all__ = ["CORE_SECTIONS", "Configuration", "secrets_in"]

CORE_SECTIONS: dict[str, type[BaseModel]] = {
    "model": ModelSection,
    "remote": RemoteSection,
    "models": ModelsSection,
    "sampling": SamplingSection,
    "dialogue": DialogueSection,
    "access": AccessSection,
    "limits": LimitsSection,
    "moderation": ModerationSection,
    "tools": ToolsSection,
    "store": StoreSection,
    "log": LogSection,
    "tracing": TracingSection,
}


@dataclass(frozen=True, slots=True)
class Configuration:
    """`adapters` holds the validated settings of each adapter whose section is enabled, by entry-point name, and
    those of further bots of a platform, by names such as "telegram.support"; `bots` what else those have of their
    own; `named_models` the settings of each [models.NAME], by name.

    `plugins` holds the tables of [plugins.NAME], which each plug-in reads for itself; relative paths in them count
    from `folder`. `registered`: what plug-ins have registered with them, where they have; see `glmbot.plugins`.
    """

    model: ModelSection
    remote: RemoteSection
    models: ModelsSection
    sampling: SamplingSection
    dialogue: DialogueSection
    access: AccessSection
    limits: LimitsSection
    moderation: ModerationSection
    tools: ToolsSection
    store: StoreSection
    log: LogSection
    tracing: TracingSection
    adapters: Mapping[str, BaseModel]
    bots: Mapping[str, BotSection] = field(default_factory=dict[str, BotSection])
    named_models: Mapping[str, NamedModel] = field(default_factory=dict[str, Any])
    plugins: Mapping[str, Any] = field(default_factory=dict[str, Any])
    folder: Path = Path()
    registered: object = field(default=None, compare=False, repr=False)


def secrets_in(configuration: Configuration) -> list[str]:
    """Every secret value of all sections, for the log filter."""
    sections = (
        configuration.store,
        configuration.remote,
        *configuration.named_models.values(),
        *configuration.adapters.values(),
    )
    return [secret for section in sections for secret in secrets_of(section)]
