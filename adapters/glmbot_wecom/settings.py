"""The section [wecom] of the configuration: a smart bot, or an application."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import BaseModel, Field, SecretStr

from glmbot.delivery.settings import OnceSettings
from glmbot.errors import ConfigError, PlatformRefused
from glmbot.tokens import TokenSettings, not_shared, read_secret

__all__ = ["WeComSettings"]

# https://developer.work.weixin.qq.com/document/path/90930
_AES_KEY = re.compile(r"[A-Za-z0-9+/]{43}")
_CALLBACK_TOKEN = re.compile(r"[A-Za-z0-9]{1,32}")


class WeComSettings(TokenSettings, OnceSettings):
    """WeCom (企业微信): a smart bot of API mode over a long connection (bot_id), or an application of your company
    whose messages are posted here (corp_id). The token is the Secret of either."""

    words: ClassVar[Mapping[str, Mapping[str, str]]] = {
        "zh": {
            "_": "企业微信：API 模式的智能机器人，用长连接（bot_id）；或者企业自建应用，由企业微信把消息推送过来"
            "（corp_id）。token 是两者各自的 Secret。",
            "token": "Secret。最好写在环境变量 GLMBOT_WECOM__TOKEN 里，或写进 token_file。",
            "token_file": "只含 Secret 的文件。",
            "proxy": "连接平台用的 HTTP 代理，例如 http://127.0.0.1:7890。"
            "不写：用环境变量 HTTPS_PROXY 里的（如果有）。",
            "answers": "用应用时：paragraphs：写完一段发一段；whole：写完后整个发出。"
            "智能机器人的回答在自己的消息里增长。",
            "bot_id": "智能机器人的 Bot ID。",
            "name": "智能机器人的名字里有空格时写在这里，群里 @ 它的话从名字后面算起。",
            "ws_url": "不用企业微信自己的长连接地址时写在这里，供代理或测试用。",
            "corp_id": "企业 ID，以 ww 开头；用应用时必填。",
            "agent_id": "应用的 AgentId。",
            "callback_token": "“接收消息”页面上的 Token；只用来验证签名。",
            "callback_token_file": "只含这个 Token 的文件。",
            "encoding_aes_key": "“接收消息”页面上的 EncodingAESKey，43 个字符。",
            "encoding_aes_key_file": "只含 EncodingAESKey 的文件。",
            "callback_path": "[web] 服务器在这个路径上接收企业微信推送的消息。",
            "passive_s": "企业微信推送来的请求最多等几秒：在这之内写好的第一条回答就作为应答发出，不占发送额度；"
            "0：一律另外发送。企业微信自己只等 5 秒。",
            "api_base_url": "不用企业微信自己的接口地址时写在这里，供代理或测试用。",
            "language": "机器人自己的提示用什么语言：企业微信不告诉我们每个人的语言。",
            "edit_interval_s": "同一个聊天里两次发送（或两次更新正在增长的回答）之间隔多久；"
            "企业微信的额度是每分钟 30 条。",
            "requests_per_second": "所有聊天合计每秒最多写多少次。",
        }
    }

    bot_id: str = Field(
        default="", pattern=r"^[A-Za-z0-9_-]{0,128}$", description="The Bot ID of a smart bot."
    )
    name: str = Field(
        default="",
        max_length=64,
        description="The smart bot's name where it has spaces in it: what is said in a group begins behind it.",
    )
    ws_url: str = Field(
        default="wss://openws.work.weixin.qq.com",
        pattern=r"^wss?://[^\s@]{1,200}$",
        description="Another address of the long connection than WeCom's own, for a proxy or a test.",
    )
    corp_id: str = Field(
        default="",
        pattern=r"^[A-Za-z0-9_-]{0,64}$",
        description="The id of your company, ww…, for an application.",
    )
    agent_id: int = Field(default=0, ge=0, le=2**31, description="The application's AgentId.")
    callback_token: SecretStr | None = Field(
        default=None, description="The Token from the page on receiving messages, with which they are signed."
    )
    callback_token_file: Path | None = Field(default=None, description="A file with that Token alone in it.")
    encoding_aes_key: SecretStr | None = Field(
        default=None, description="The EncodingAESKey from the same page, 43 characters."
    )
    encoding_aes_key_file: Path | None = Field(
        default=None, description="A file with the EncodingAESKey alone in it."
    )
    callback_path: str = Field(
        default="/wecom/callback",
        pattern=r"^/[A-Za-z0-9/_.-]{1,200}$",
        description="Where the server of [web] takes what WeCom posts for the application.",
    )
    passive_s: float = Field(
        default=3.0,
        ge=0,
        le=4.5,
        description="Seconds for which a request of WeCom's is kept open: a message of the answer that is there by"
        " then is its answer, and counts against no limit; 0: all are sent. WeCom itself waits for 5 s.",
    )
    api_base_url: str = Field(
        default="https://qyapi.weixin.qq.com",
        description="Another address of the interfaces than WeCom's own, for a proxy or a test.",
    )
    language: Literal["zh", "en"] = Field(
        default="zh", description="Of the bot's own lines: WeCom does not tell anybody's language."
    )
    edit_interval_s: float = Field(
        default=2.0,
        ge=0,
        le=3600,
        description="Seconds between writes in one chat, updates of a growing answer too; WeCom allows 30"
        " a minute.",
    )
    requests_per_second: float = Field(default=10, gt=0, le=1000, description="Writes in all chats together.")

    def check_sides(self) -> None:
        """Raises PlatformRefused that says what is missing or too much."""
        if bool(self.bot_id) == bool(self.corp_id):
            raise PlatformRefused(
                "[wecom] bot_id or corp_id: set bot_id for a smart bot, or corp_id for an application, not both;"
                " copy it from https://work.weixin.qq.com/wework_admin"
            )
        if self.corp_id:
            if not self.agent_id:
                raise PlatformRefused("[wecom] agent_id is not set: copy AgentId from the application's page")
            self.read_callback_token()
            self.read_aes_key()

    def read_callback_token(self) -> str:
        """Raises PlatformRefused."""
        token = self._read("callback_token", self.callback_token, self.callback_token_file)
        if _CALLBACK_TOKEN.fullmatch(token) is None:
            raise PlatformRefused(
                "[wecom] callback_token: it is the Token of the page on receiving messages, up to 32 letters"
                " and digits"
            )
        return token

    def read_aes_key(self) -> bytes:
        """The 32 bytes that it stands for. Raises PlatformRefused."""
        given = self._read("encoding_aes_key", self.encoding_aes_key, self.encoding_aes_key_file)
        if _AES_KEY.fullmatch(given) is None:
            raise PlatformRefused(
                f"[wecom] encoding_aes_key has {len(given)} characters: an EncodingAESKey is made of exactly 43"
                " letters and digits; copy it whole"
            )
        try:
            return base64.b64decode(f"{given}=")
        except binascii.Error as error:
            raise PlatformRefused("[wecom] encoding_aes_key is none of WeCom's: copy it again") from error

    def _read(self, name: str, value: SecretStr | None, file: Path | None) -> str:
        try:
            return read_secret("wecom", name, value, file)
        except ConfigError as error:
            raise PlatformRefused(str(error)) from error

    def trouble_beside(self, other: BaseModel, name: str) -> str:
        """See `glmbot.tokens`."""
        if isinstance(other, WeComSettings):
            if self.bot_id and self.bot_id == other.bot_id:
                return not_shared("bot_id", name)
            if self.corp_id and (self.corp_id, self.agent_id) == (other.corp_id, other.agent_id):
                return not_shared("agent_id", name)
        return super().trouble_beside(other, name)

    def advice(self) -> Sequence[tuple[bool, str]]:
        """For `glmbot doctor`."""
        try:
            self.check_sides()
        except PlatformRefused as error:
            return [(False, str(error).removeprefix("[wecom] "))]
        if self.bot_id:
            return [
                (
                    True,
                    "messages come through the long connection: choose it for the smart bot (API mode); a bot"
                    " has one connection alone, so run it in one place; in groups it hears what mentions it",
                )
            ]
        return [
            (
                True,
                f"WeCom posts to {self.callback_path} of [web]: that address, with your https:// host before it,"
                " is the URL on the page on receiving messages, saved there while the bot runs; this machine's"
                " clock must be right to within five minutes; its public address belongs into the application's"
                " trusted IPs (60020), and who shall write to it into its visible range",
            )
        ]
