"""The section [slack] of the configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import BaseModel, Field, SecretStr

from glmbot.errors import AdapterError, ConfigError, PlatformRefused
from glmbot.tokens import TokenSettings, not_shared, read_secret

__all__ = ["SlackSettings"]


class SlackSettings(TokenSettings):
    """The Slack app. Make it at https://api.slack.com/apps; its bot token begins with xoxb-."""

    words: ClassVar[Mapping[str, Mapping[str, str]]] = {
        "zh": {
            "_": "Slack 应用，在 https://api.slack.com/apps 创建；机器人令牌以 xoxb- 开头。",
            "token": "机器人令牌。最好写在环境变量 GLMBOT_SLACK__TOKEN 里，或写进 token_file。",
            "token_file": "只含令牌的文件。",
            "proxy": "连接平台用的 HTTP 代理，例如 http://127.0.0.1:7890。"
            "不写：用环境变量 HTTPS_PROXY 里的（如果有）。",
            "app_token": "应用级令牌（xapp-…，需要 connections:write 权限）："
            "由机器人主动建立连接来接收事件（Socket Mode）。",
            "app_token_file": "只含应用级令牌的文件。",
            "signing_secret": "应用的签名密钥：写了就由 Slack 把事件推送到 events_path。",
            "signing_secret_file": "只含签名密钥的文件。",
            "events_path": "有签名密钥时，[web] 服务器在这个路径上接收 Slack 的请求。",
            "edit_interval_s": "回答生成时，两次编辑之间隔多久。",
            "requests_per_minute": "所有聊天合计每分钟最多写多少次；Slack 给 chat.update 的额度是 50。",
            "threads": "在频道里提问时，是否在问题下面的消息列里回答，每个消息列有自己的历史。",
            "streaming": "回答在哪里用 Slack 的流式消息逐步显示，而不是反复编辑：threads 是所有消息列"
            "（在频道里只有提问者看得到逐步显示，其他人等它结束才看到），private 是私信的消息列，off 是都不用。",
            "api_base_url": "不用 Slack 自己的 Web API 地址时写在这里，供代理或测试用。",
        }
    }

    app_token: SecretStr | None = Field(
        default=None,
        description="The app-level token (xapp-…, scope connections:write): events come through a connection that"
        " the bot opens (Socket Mode).",
    )
    app_token_file: Path | None = Field(
        default=None, description="A file with the app-level token alone in it."
    )
    signing_secret: SecretStr | None = Field(
        default=None,
        description="The app's signing secret: Slack posts events to events_path instead.",
    )
    signing_secret_file: Path | None = Field(
        default=None, description="A file with the signing secret alone in it."
    )
    events_path: str = Field(
        default="/slack/events",
        pattern=r"^/[A-Za-z0-9/_.-]{1,200}$",
        description="Where the server of [web] takes Slack's requests, with a signing secret.",
    )
    edit_interval_s: float = Field(
        default=2.0, gt=0, le=3600, description="Seconds between edits of a growing answer."
    )
    requests_per_minute: float = Field(
        default=50,
        gt=0,
        le=60_000,
        description="Writes in all chats together; Slack allows 50 of chat.update.",
    )
    threads: bool = Field(
        default=True, description="Answer a question in a channel in a thread under it, a history of its own."
    )
    streaming: Literal["threads", "private", "off"] = Field(
        default="threads",
        description="Where an answer grows as Slack's stream instead of by edits: in all threads (in a channel for"
        " its asker alone; the others see it once it has ended), in those of direct messages, or nowhere.",
    )
    api_base_url: str = Field(
        default="https://slack.com/api/", description="Another address of the Web API, for a proxy or a test."
    )

    def read_app_token(self) -> str:
        """ "" without Socket Mode. Raises PlatformRefused."""
        return self._read("app_token", self.app_token, self.app_token_file, "xapp-")

    def read_signing_secret(self) -> str:
        """ "" where Slack posts nothing. Raises PlatformRefused."""
        return self._read("signing_secret", self.signing_secret, self.signing_secret_file, "")

    def _read(self, key: str, value: SecretStr | None, file: Path | None, begins: str) -> str:
        try:
            secret = read_secret("slack", key, value, file)
        except ConfigError as error:
            raise PlatformRefused(str(error)) from error
        if not secret.isascii() or len(secret) > 1000 or any(each.isspace() for each in secret):
            raise PlatformRefused(f"[slack] {key} holds more than that secret")
        if secret and not secret.startswith(begins):
            raise PlatformRefused(f"[slack] {key} begins with {begins}; this is another of Slack's tokens")
        return secret

    def trouble_beside(self, other: BaseModel, name: str) -> str:
        """See `glmbot.tokens`. Slack gives each event to one of an app's connections alone."""
        with suppress(AdapterError):
            mine = self.read_app_token()
            if isinstance(other, SlackSettings) and mine and mine == other.read_app_token():
                return not_shared("app_token", name)
        return super().trouble_beside(other, name)

    @property
    def posted(self) -> bool:
        """Whether Slack posts its events here."""
        return self.signing_secret is not None or self.signing_secret_file is not None

    @property
    def connects(self) -> bool:
        return self.app_token is not None or self.app_token_file is not None

    def advice(self) -> Sequence[tuple[bool, str]]:
        """For `glmbot doctor`."""
        ways: list[tuple[bool, str]] = []
        if self.connects:
            ways.append(
                (
                    True,
                    "events come through Socket Mode: switch it on at https://api.slack.com/apps, and subscribe"
                    " to app_mention, message.im, and message.channels for /mode all, else nothing comes",
                )
            )
        if self.posted:
            ways.append(
                (
                    True,
                    f"Slack posts to {self.events_path} of [web]: that address, with your https:// host before it,"
                    " is the Request URL of Event Subscriptions, of Interactivity and of the slash command; this"
                    " machine's clock must be right to within five minutes",
                )
            )
        return ways or [(False, "neither app_token nor signing_secret is set: no events can come")]
