"""The section [feishu] of the configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from pydantic import BaseModel, Field, SecretStr

from glmbot.errors import ConfigError, PlatformRefused
from glmbot.tokens import TokenSettings, not_shared, read_secret

__all__ = ["FeishuSettings"]


class FeishuSettings(TokenSettings):
    """The bot of a Feishu or Lark app. Make it at https://open.feishu.cn/app; the token is its App Secret."""

    words: ClassVar[Mapping[str, Mapping[str, str]]] = {
        "zh": {
            "_": "飞书（或 Lark）应用的机器人，在 https://open.feishu.cn/app 创建；token 就是 App Secret。",
            "token": "App Secret。最好写在环境变量 GLMBOT_FEISHU__TOKEN 里，或写进 token_file。",
            "token_file": "只含 App Secret 的文件。",
            "proxy": "连接平台用的 HTTP 代理，例如 http://127.0.0.1:7890。"
            "不写：用环境变量 HTTPS_PROXY 里的（如果有）。",
            "app_id": "App ID，以 cli_ 开头。",
            "api_base_url": "开放平台的地址；Lark 是 https://open.larksuite.com。",
            "encrypt_key": "事件订阅的 Encrypt Key：写了就由飞书把事件推送到 events_path；不写就用长连接。",
            "encrypt_key_file": "只含 Encrypt Key 的文件。",
            "events_path": "有 Encrypt Key 时，[web] 服务器在这个路径上接收飞书的请求。",
            "edit_interval_s": "回答生成时，两次更新卡片之间隔多久。",
            "requests_per_second": "所有聊天合计每秒最多写多少次；飞书的额度是 50。",
        }
    }

    app_id: str = Field(default="", pattern=r"^(cli_[A-Za-z0-9]{8,64})?$", description="The App ID, cli_….")
    api_base_url: str = Field(
        default="https://open.feishu.cn",
        description="Address of the open platform; Lark's is https://open.larksuite.com.",
    )
    encrypt_key: SecretStr | None = Field(
        default=None,
        description="The Encrypt Key of the event subscription: Feishu posts events to events_path; without it"
        " they come through a connection that the bot opens.",
    )
    encrypt_key_file: Path | None = Field(
        default=None, description="A file with the Encrypt Key alone in it."
    )
    events_path: str = Field(
        default="/feishu/events",
        pattern=r"^/[A-Za-z0-9/_.-]{1,200}$",
        description="Where the server of [web] takes Feishu's requests, with an Encrypt Key.",
    )
    edit_interval_s: float = Field(
        default=0.7, gt=0, le=3600, description="Seconds between updates of a growing card."
    )
    requests_per_second: float = Field(
        default=20, gt=0, le=1000, description="Writes in all chats together; Feishu allows 50."
    )

    @property
    def posted(self) -> bool:
        """Whether Feishu posts its events here."""
        return self.encrypt_key is not None or self.encrypt_key_file is not None

    def read_encrypt_key(self) -> str:
        """Raises PlatformRefused."""
        try:
            key = read_secret("feishu", "encrypt_key", self.encrypt_key, self.encrypt_key_file)
        except ConfigError as error:
            raise PlatformRefused(str(error)) from error
        if self.posted and not key:
            raise PlatformRefused("[feishu] encrypt_key is empty")
        return key

    def trouble_beside(self, other: BaseModel, name: str) -> str:
        """See `glmbot.tokens`."""
        same = isinstance(other, FeishuSettings) and self.app_id and self.app_id == other.app_id
        return not_shared("app_id", name) if same else super().trouble_beside(other, name)

    def advice(self) -> Sequence[tuple[bool, str]]:
        """For `glmbot doctor`."""
        if not self.app_id:
            return [(False, "app_id is not set: copy it from https://open.feishu.cn/app")]
        subscribed = (
            "subscribe to im.message.receive_v1, im.message.recalled_v1 and the callback card.action.trigger, and"
            " publish a version of the app: before that nothing comes"
        )
        if self.posted:
            return [
                (
                    True,
                    f"Feishu posts to {self.events_path} of [web]: that address, with your https:// host before"
                    f" it, is the request URL of events and of callbacks; {subscribed}; this machine's clock must"
                    " be right to within five minutes",
                )
            ]
        return [
            (True, f"events come through a long connection: choose it for events and callbacks; {subscribed}")
        ]
