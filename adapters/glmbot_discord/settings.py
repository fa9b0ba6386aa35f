"""The section [discord] of the configuration."""

from __future__ import annotations

from pydantic import BaseModel, Field

from glmbot.tokens import TokenSettings

__all__ = ["DiscordSettings"]


class DiscordSettings(TokenSettings):
    """The Discord bot. Make it at https://discord.com/developers/applications."""

    api_base_url: str = Field(
        default="", description="Another REST base than Discord's own, for a proxy or a test."
    )
    gateway_url: str = Field(default="", description="Another gateway than Discord's own, likewise.")
    edit_interval_s: float = Field(
        default=1.2, gt=0, le=3600, description="Seconds between edits of a growing answer."
    )
    slash_commands: bool = Field(
        default=True, description="Publish /ask and the other commands at the start."
    )
    show_thoughts: bool = Field(
        default=False,
        description="Show what a model thinks before it answers, as a spoiler, in a message above the answer.",
    )
    threads: bool = Field(default=False, description="Answer a question in a channel in a thread of its own.")
    message_content: bool = Field(
        default=False,
        description="Ask for the privileged intent (switch it on at Discord too): for /mode all, and to go on in"
        " the bot's threads without a mention.",
    )
    shards: int = Field(
        default=1, ge=1, le=10_000, description="Gateway connections; Discord wants one for 2500 servers."
    )

    def trouble_beside(self, other: BaseModel, name: str) -> str:
        """See `glmbot.tokens`."""
        mine, theirs = (
            [getattr(each, key, "") for key in ("api_base_url", "gateway_url")] for each in (self, other)
        )
        if mine != theirs:
            return (
                f"api_base_url and gateway_url: they must be those of [{name}]: Discord's library knows one of"
                " each in a process"
            )
        return super().trouble_beside(other, name)
