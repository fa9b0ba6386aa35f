"""[telegram.NAME], [discord.NAME] and so on: further bots of one platform, each with settings of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, Field

from glmbot.config.complaints import Gathering, refuse
from glmbot.config.file import File, Where, unknown_keys
from glmbot.config.named import SectionReader, name_and_key, named_in, tables
from glmbot.config.names import LONGEST_SHOWN
from glmbot.config.section import Section, keys_of, rooted
from glmbot.errors import ConfigError
from glmbot.keys import LONGEST_BOT_NAME, is_bot_name

__all__ = ["BotSection", "NamedBot", "named_bots", "without_bot_variables", "without_bots"]


class BotSection(Section):
    """A further bot of a platform: [telegram.support], [discord.games], each name of small letters, digits and
    hyphens. It has the keys of its platform, with a token of its own, and these two. Its people, histories and
    settings are its own; in [access] it is the platform "telegram.support"."""

    system_prompt: str = Field(
        default="",
        description="Told to the model before every conversation of this bot, in place of [dialogue]"
        " system_prompt. Empty: that one.",
    )
    model: str = Field(
        default="",
        description="Who answers there where nobody chose another with /model: the name of [model], or of a"
        " [models.NAME]. Empty: the default model.",
    )


@dataclass(frozen=True, slots=True)
class NamedBot:
    own: BotSection
    settings: BaseModel


def named_bots(
    file: File, platforms: Mapping[str, type[BaseModel]], environment: Mapping[str, str]
) -> dict[str, NamedBot]:
    """By their platforms' names, such as "telegram.support". Raises ConfigError."""
    where, found, gathering = file.where, dict[str, NamedBot](), Gathering()
    for kind, model in platforms.items():
        keys = keys_of(model)
        for name, content in tables(kind, where, file.table, environment, keys=keys).items():
            platform = f"{kind}.{name}"
            with gathering.part():
                _refuse_name(where, platform, name, model)
                mine = BotSection.model_fields.keys()
                refuse(unknown_keys(where, platform, content, mine | keys))
                reader = SectionReader(platform, where, content, environment)
                settings = rooted(reader.read(model, keys - mine), file.folder)
                found[platform] = NamedBot(reader.read(BotSection, mine), settings)
    gathering.end()
    return found


def _refuse_name(where: Where, platform: str, name: str, model: type[BaseModel]) -> None:
    at, shown = where.at(platform), platform[:LONGEST_SHOWN]
    if getattr(model, "alone", False):
        kind = platform.partition(".")[0]
        raise ConfigError(f"{at}: [{shown}]: there is one [{kind}] in a process; its keys belong there")
    if not is_bot_name(name):
        raise ConfigError(
            f"{at}: [{shown}]: a bot's name is 1 to {LONGEST_BOT_NAME} small letters and digits, with single"
            " hyphens between them"
        )


def without_bots(
    file: File, platforms: Mapping[str, type[BaseModel]], table: Mapping[str, Any]
) -> dict[str, Any]:
    """The table without them. A platform that stands there for its further bots alone does not run itself."""
    rest = dict(table)
    for kind, model in platforms.items():
        if bots := named_in(table, kind, keys_of(model)):
            rest[kind] = {key: value for key, value in table[kind].items() if key not in bots}
            if not rest[kind] and not file.where.has_header(kind):
                del rest[kind]
    return rest


def without_bot_variables(
    platforms: Mapping[str, type[BaseModel]], environment: Mapping[str, str]
) -> dict[str, str]:
    known = [(kind, keys_of(model)) for kind, model in platforms.items()]
    return {
        variable: value
        for variable, value in environment.items()
        if not any(name_and_key(kind, variable, keys) for kind, keys in known)
    }
