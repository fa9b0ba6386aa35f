"""What the configuration says of tools: [tools]."""

from __future__ import annotations

from dataclasses import dataclass, field

from glmbot.dialogue.tool_rights import ToolRights

__all__ = ["ToolSettings"]


@dataclass(frozen=True, slots=True)
class ToolSettings:
    """`told`: which models are told of tools: "taught" (those that were taught calls), "all" or "none".

    Of one answer: `rounds` of calls, `calls` in all, `seconds` for them without the time of people who are asked.
    `share` of the prompt's room that what comes of calls may take. `asks_s`: how long somebody has to press.
    """

    told: str = "taught"
    rounds: int = 6
    calls: int = 16
    seconds: float = 120.0
    share: float = 0.5
    asks_s: float = 300.0
    timezone: str = "UTC"
    rights: ToolRights = field(default_factory=ToolRights)
