"""Which model answers whom: a person's choice in private chats, an administrator's in groups, else the bot's own,
else the default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from glmbot.dialogue.settings import DialogueSettings
from glmbot.engine.base import Engine, Sampling
from glmbot.engine.pool import Engines
from glmbot.keys import ChatKey, UserKey
from glmbot.messages import ChatKind, Message, Role

__all__ = ["SETTING", "Chosen", "Talk", "chosen_model", "default_model", "may_choose", "owner_of_choice"]

SETTING = "model"


@dataclass(frozen=True, slots=True)
class Chosen:
    """`gone`: the model that was chosen and that there is no more, "" for none."""

    name: str
    gone: str = ""


@dataclass(frozen=True, slots=True)
class Talk:
    """An engine as long as it is talked to, and how its answers are drawn."""

    engine: Engine
    sampling: Sampling

    @property
    def room(self) -> int:
        """Tokens for a prompt."""
        return self.engine.context_length - self.sampling.max_tokens


def owner_of_choice(message: Message) -> UserKey | ChatKey:
    """Whose setting says which model answers this message."""
    return message.user if message.chat_kind is ChatKind.PRIVATE else message.chat


def may_choose(message: Message, role: Role | None, settings: DialogueSettings) -> bool:
    return role is Role.ADMIN or (settings.people_choose and message.chat_kind is ChatKind.PRIVATE)


def default_model(engines: Engines, message: Message, settings: DialogueSettings) -> str:
    """Who answers where nobody chose: the bot's own model, else that of all."""
    persona = settings.personas.get(message.user.platform)
    own = engines.find(persona.model) if persona is not None and persona.model else None
    return own or engines.default


def chosen_model(
    engines: Engines,
    message: Message,
    role: Role | None,
    kept: Mapping[str, str],
    settings: DialogueSettings,
) -> Chosen:
    """kept: the settings of `owner_of_choice`."""
    wish, default = kept.get(SETTING, ""), default_model(engines, message, settings)
    # What an administrator chose for a group holds for all; a person's own choice as long as they may make one.
    private = message.chat_kind is ChatKind.PRIVATE
    if not wish or (private and not may_choose(message, role, settings)):
        return Chosen(default)
    found = engines.find(wish)
    return Chosen(default, gone=wish) if found is None else Chosen(found)
