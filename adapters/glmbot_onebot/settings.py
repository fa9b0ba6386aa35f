"""The section [onebot] of the configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from typing import Annotated, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, Field

from glmbot.delivery.settings import OnceSettings
from glmbot.http.routes import Address
from glmbot.tokens import TokenSettings, not_shared

__all__ = ["OneBotSettings"]


def _check_url(url: str) -> str:
    if url:
        parts = urlsplit(url)
        if parts.scheme not in ("ws", "wss") or not parts.hostname or "@" in parts.netloc or parts.port == 0:
            raise ValueError("an address such as ws://127.0.0.1:3001, without a name and a password")
    return url


def _check_path(path: str) -> str:
    if not path.startswith("/") or not path.isprintable() or any(each in path for each in " ?#"):
        raise ValueError("a path such as /onebot")
    return path


class OneBotSettings(TokenSettings, OnceSettings):
    """QQ through an implementation of OneBot 11 (NapCat, Lagrange), which logs in and connects to this bot."""

    url: Annotated[str, AfterValidator(_check_url)] = Field(
        default="",
        description="Address of the implementation's WebSocket server, such as ws://127.0.0.1:3001; empty: the"
        " implementation connects to this bot (reverse WebSocket).",
    )
    path: Annotated[str, AfterValidator(_check_path)] = Field(
        default="/onebot", max_length=200, description="Where it connects to, without url: a route of [web]."
    )
    listen_host: str = Field(default="127.0.0.1", description="Address of listen_port on this machine.")
    listen_port: int = Field(
        default=6199,
        ge=0,
        le=65535,
        description="Beside [web], or without it, path is answered at this port, too; 0: by [web] alone.",
    )
    keywords: list[str] = Field(
        default=[],
        max_length=50,
        description='What begins with one of these in a group is said to the bot: ["小智"].',
    )
    language: Literal["zh", "en"] = Field(
        default="zh", description="Of the bot's own lines: QQ does not tell anybody's language."
    )
    interval_s: float = Field(
        default=1.0, ge=0, le=3600, description="Seconds between messages in a private chat."
    )
    group_interval_s: float = Field(
        default=2.0, ge=0, le=3600, description="Seconds between messages in a group."
    )
    flood_pause_s: float = Field(
        default=60.0,
        ge=0,
        le=3600,
        description="Seconds of silence after QQ refused a message since the group has had its share.",
    )

    words: ClassVar[Mapping[str, Mapping[str, str]]] = {
        "zh": {
            "_": "QQ 机器人，通过 OneBot 11 实现（NapCat、Lagrange）登录并连到本程序。",
            "token": "访问令牌，与 OneBot 实现里填的相同。最好写在环境变量 GLMBOT_ONEBOT__TOKEN 里，"
            "或写进 token_file。",
            "token_file": "只含令牌的文件。",
            "proxy": "用 url 连接时经过的 HTTP 代理，例如 http://127.0.0.1:7890。不写：用环境变量里的（如果有）。",
            "answers": "paragraphs：写完一段发一段；whole：写完后整个发出。",
            "url": "OneBot 实现的 WebSocket 服务器地址，例如 ws://127.0.0.1:3001；不写：由它连到本程序"
            "（反向 WebSocket）。",
            "path": "不写 url 时它连接的路径，是 [web] 服务器上的一个路径。",
            "listen_host": "listen_port 所在的本机地址。",
            "listen_port": "除了 [web]（或没有 [web] 时），也在这个端口上应答 path；0：只用 [web]。",
            "keywords": '群里以这些词开头的话算是对机器人说的，例如 ["小智"]。',
            "language": "机器人自己的提示用什么语言：QQ 不告诉我们每个人的语言。",
            "interval_s": "私聊里两条消息之间隔多久。",
            "group_interval_s": "群里两条消息之间隔多久。",
            "flood_pause_s": "QQ 因群发言频率限制拒绝消息之后，停多久再发。",
        }
    }

    @property
    def door(self) -> Address | None:
        """Where the reverse WebSocket is answered beside [web]."""
        return Address(self.listen_host, self.listen_port) if not self.url and self.listen_port else None

    def trouble_beside(self, other: BaseModel, name: str) -> str:
        """See `glmbot.tokens`. Several implementations may well have one token."""
        same = isinstance(other, OneBotSettings) and self.url and self.url == other.url
        return not_shared("url", name) if same else ""

    def advice(self) -> Sequence[tuple[bool, str]]:
        """For `glmbot doctor`."""
        if self.url:
            parts = urlsplit(self.url)
            if parts.scheme == "ws" and not _is_here(parts.hostname or ""):
                return [(False, "url goes to another machine unencrypted, and the token with it: use wss://")]
            return [(True, "the implementation needs a WebSocket server with this token, in array format")]
        where = f"ws://{self.door}{self.path}" if self.door else f"[web]'s address and {self.path}"
        said = [(True, f"in NapCat add a WebSocket client to {where}, with this token, in array format")]
        if self.door is not None and not _is_here(self.listen_host):
            said.append((False, "listen_host is open to other machines, and the token comes unencrypted"))
        return said


def _is_here(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
