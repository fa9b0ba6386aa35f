"""The section [satori] of the configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from typing import Annotated, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, Field

from glmbot.delivery.settings import OnceSettings
from glmbot.tokens import TokenSettings, not_shared

__all__ = ["SatoriSettings"]


def _check_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc or parts.port == 0:
        raise ValueError("an address such as http://127.0.0.1:5140/satori, without a name and a password")
    return url.rstrip("/").removesuffix("/v1")


class SatoriSettings(TokenSettings, OnceSettings):
    """What a Satori server (koishi) is logged in to: KOOK, LINE, WhatsApp, mail and more."""

    url: Annotated[str, AfterValidator(_check_url)] = Field(
        default="http://127.0.0.1:5140/satori", description="Address of the server, without /v1."
    )
    platforms: list[str] = Field(
        default=[],
        max_length=100,
        description='Answer on these alone of those that it is logged in to: ["kook", "line"]; empty: on all.',
    )
    language: Literal["zh", "en"] = Field(
        default="zh", description="Of the bot's own lines: Satori does not tell anybody's language."
    )
    longest_message: int = Field(
        default=1800, ge=200, le=20_000, description="Characters of one message: its platforms differ."
    )
    edit_interval_s: float = Field(
        default=1.5, gt=0, le=3600, description="Seconds between writes to a chat, edits among them."
    )

    words: ClassVar[Mapping[str, Mapping[str, str]]] = {
        "zh": {
            "_": "Satori 服务器（koishi）登录的各个平台：KOOK、LINE、WhatsApp、邮件等。",
            "token": "令牌，与 Satori 服务器里填的相同。最好写在环境变量 GLMBOT_SATORI__TOKEN 里，"
            "或写进 token_file。",
            "token_file": "只含令牌的文件。",
            "proxy": "连接服务器用的 HTTP 代理，例如 http://127.0.0.1:7890。不写：用环境变量里的（如果有）。",
            "answers": "在不能编辑的平台上，paragraphs：写完一段发一段；whole：写完后整个发出。",
            "url": "服务器的地址，不含 /v1。",
            "platforms": '只在它登录的这些平台上回答，例如 ["kook", "line"]；留空：全部。',
            "language": "机器人自己的提示用什么语言：Satori 不告诉我们每个人的语言。",
            "longest_message": "一条消息的字符数：各个平台不一样。",
            "edit_interval_s": "同一个聊天里两次写入（包括编辑）之间隔多久。",
        }
    }

    @property
    def events_url(self) -> str:
        return f"{self.url.replace('http', 'ws', 1)}/v1/events"

    def trouble_beside(self, other: BaseModel, name: str) -> str:
        """See `glmbot.tokens`. One server may be shared where each bot has platforms of its own there."""
        if not isinstance(other, SatoriSettings) or self.url != other.url:
            return ""
        apart = self.platforms and other.platforms and not {*self.platforms} & {*other.platforms}
        return "" if apart else not_shared("url and platforms", name)

    def advice(self) -> Sequence[tuple[bool, str]]:
        """For `glmbot doctor`."""
        parts = urlsplit(self.url)
        try:
            here = parts.hostname == "localhost" or ip_address(parts.hostname or "").is_loopback
        except ValueError:
            here = False
        if parts.scheme == "http" and not here:
            return [(False, "url goes to another machine unencrypted, and the token with it: use https://")]
        return ()
