"""What the configuration says of the dialogue. /reload changes it while answers run."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from glmbot.dialogue.moderation import Moderation
from glmbot.dialogue.tool_settings import ToolSettings
from glmbot.engine.base import Engine, Sampling

__all__ = ["DialogueSettings", "InForce", "Persona"]


@dataclass(frozen=True, slots=True)
class Persona:
    """What a bot with a name of its own is told, and the model that answers there; "" for those of all."""

    system_prompt: str = ""
    model: str = ""


@dataclass(frozen=True, slots=True)
class DialogueSettings:
    """`sampling.max_tokens` is what is kept free for the answer. `language` "auto" follows the user.

    user_per_hour and the like: questions, and strangers; 0 is no limit. See [limits] in `glmbot.config.people`.
    """

    sampling: Sampling
    system_prompt: str = ""
    turn_limit: int = 20
    language: str = "auto"
    pending_per_user: int = 5
    pending_per_source: int = 16
    deadline_s: float = 300.0
    user_per_hour: int = 0
    chat_per_hour: int = 0
    total_per_hour: int = 0
    source_per_hour: int = 0
    strangers_per_hour: int = 0
    platforms: Collection[str] = ()
    """Those that are installed, whether this process serves them or not."""
    visited: Collection[str] = ()
    """Platforms, whatever bots are on them, where nothing can be sent that was not asked for."""
    unedited: Collection[str] = ()
    """Likewise, where a growing answer is not seen."""
    personas: Mapping[str, Persona] = field(default_factory=dict[str, Persona])
    """By platform, of those that have one."""
    tools: ToolSettings = field(default_factory=ToolSettings)
    people_choose: bool = False
    """Whether everybody chooses the model of their private chats."""
    samplings: Callable[[str, Engine], Sampling] | None = None
    """Of each model by its name; None: `sampling` for all."""

    def sampling_of(self, model: str, engine: Engine) -> Sampling:
        return self.sampling if self.samplings is None else self.samplings(model, engine)


@dataclass(slots=True)
class InForce:
    """What holds for whatever begins now."""

    settings: DialogueSettings
    moderation: Moderation
