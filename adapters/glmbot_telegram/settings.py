"""The section [telegram] of the configuration."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field, SecretStr

from glmbot.http.routes import Address
from glmbot.tokens import TokenSettings

__all__ = ["TelegramSettings"]


class TelegramSettings(TokenSettings):
    """The Telegram bot. Get a token from @BotFather."""

    api_base_url: str = Field(
        default="https://api.telegram.org",
        description="Address of the Bot API; your own server's may be http://127.0.0.1:8081.",
    )
    edit_interval_s: float = Field(
        default=1.0, gt=0, le=3600, description="Seconds between edits in a private chat."
    )
    group_edit_interval_s: float = Field(
        default=3.0, gt=0, le=3600, description="Seconds between edits in a group."
    )
    drafts: bool = Field(
        default=False, description="In private chats show the growing answer as a draft, without edits."
    )
    show_thoughts: bool = Field(
        default=True,
        description="Show what a model thinks before it answers, folded, in a message above the answer.",
    )
    poll_timeout_s: int = Field(default=30, ge=0, le=50, description="Seconds that a poll waits for news.")
    webhook_url: str = Field(
        default="",
        description="Public https:// address of this bot; Telegram then posts updates instead of being polled.",
    )
    webhook_host: str = Field(default="127.0.0.1", description="Address of webhook_port on this machine.")
    webhook_port: int = Field(
        default=8443,
        ge=0,
        le=65535,
        description="The webhook is a route of [web], at the path of webhook_url. Beside that it is answered at"
        " this port, for a proxy that was set up for it; 0: [web] alone.",
    )
    webhook_secret: SecretStr | None = Field(
        default=None,
        description="Telegram sends it with each update. Made anew at each start unless set. Letters, digits, _"
        " and -.",
    )

    @property
    def door(self) -> Address | None:
        """Where the webhook is answered beside [web]."""
        if not self.webhook_url or not self.webhook_port:
            return None
        return Address(self.webhook_host, self.webhook_port)

    def advice(self) -> Sequence[tuple[bool, str]]:
        """For `glmbot doctor`."""
        if not self.webhook_url:
            return ()
        beside = f", and at {self.door} without [web]'s help" if self.door else ""
        return [(True, f"the webhook is a route of [web], at the path of webhook_url{beside}")]
