"""The section [matrix] of the configuration."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, ClassVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, Field

from glmbot.errors import PlatformRefused
from glmbot.tokens import TokenSettings, not_shared

__all__ = ["MatrixSettings"]

# https://spec.matrix.org/v1.15/appendices/#user-identifiers
_USER = re.compile(r"@[^\s:\x00]{0,254}:[^\s\x00]{1,254}")


def _address(given: str) -> str:
    if not given:
        return given
    parts = urlsplit(given)
    plain = parts.scheme in ("http", "https") and parts.hostname and not (parts.query or parts.fragment)
    if not plain or parts.username or parts.password or len(given) > 1000:
        raise ValueError("a homeserver is an address such as https://matrix.example.org")
    return given.rstrip("/")


def _user(given: str) -> str:
    if given and (_USER.fullmatch(given) is None or len(given.encode()) > 255):
        raise ValueError("an account is written @name:example.org")
    return given


class MatrixSettings(TokenSettings):
    """An account on a Matrix homeserver, of the bot's own."""

    words: ClassVar[Mapping[str, Mapping[str, str]]] = {
        "zh": {
            "_": "Matrix 服务器上机器人自己的账号。",
            "token": "账号的访问令牌。最好写在环境变量 GLMBOT_MATRIX__TOKEN 里，或写进 token_file。",
            "token_file": "只含令牌的文件。",
            "proxy": "连接平台用的 HTTP 代理，例如 http://127.0.0.1:7890。"
            "不写：用环境变量 HTTPS_PROXY 里的（如果有）。",
            "homeserver": "服务器的地址，例如 https://matrix.example.org；不一定就是账号里冒号后面的名字。",
            "account": "令牌应属于哪个账号，例如 @bot:example.org：写了就会核对。",
            "encryption": "装有 vodozemac 时，在加密房间里阅读和回答。多个进程共用一个账号时必须关闭。",
            "keys_folder": "存放加密密钥的文件夹。丢了它，加密房间里的消息就读不出来。",
            "threads": "在房间里提问时，是否在问题下面的消息列里回答，每个消息列有自己的历史。",
            "buttons": "在回答下面放上可以点的表情回应：停止、重答、继续。",
            "strangers": "还没有获准的人发来私聊邀请时，是否接受，以便告诉他们配对码。",
            "edit_interval_s": "回答生成时，两次编辑之间隔多久。",
            "requests_per_minute": "所有房间合计每分钟最多写多少次。",
            "poll_timeout_s": "服务器没有新消息时，一次请求最多等多久。",
        }
    }

    homeserver: Annotated[str, AfterValidator(_address)] = Field(
        default="",
        description="Its address, such as https://matrix.example.org; it need not be what stands behind the colon"
        " of accounts.",
    )
    account: Annotated[str, AfterValidator(_user)] = Field(
        default="",
        description="Whose token it should be, such as @bot:example.org; with this, that is checked.",
    )
    encryption: bool = Field(
        default=True,
        description="Read and answer in encrypted rooms, where vodozemac is installed. Off where several processes"
        " share the account.",
    )
    keys_folder: Path = Field(
        default=Path("matrix_keys"),
        description="A folder for the keys of encryption. Without it what was said in encrypted rooms"
        " can't be read.",
    )
    threads: bool = Field(
        default=False, description="Answer a question in a room in a thread under it, a history of its own."
    )
    buttons: bool = Field(
        default=True,
        description="Put reactions under an answer that can be touched: stop, retry, continue.",
    )
    strangers: bool = Field(
        default=True,
        description="Come where somebody who was not let in yet invites the bot alone, to tell them a"
        " pairing code.",
    )
    edit_interval_s: float = Field(
        default=2.0, gt=0, le=3600, description="Seconds between edits of a growing answer."
    )
    requests_per_minute: float = Field(
        default=120, gt=0, le=60_000, description="Writes in all rooms together."
    )
    poll_timeout_s: int = Field(
        default=30,
        ge=1,
        le=300,
        description="Seconds that a request waits where nothing is new.",
    )

    def required_homeserver(self) -> str:
        """Raises PlatformRefused where it is not set."""
        if not self.homeserver:
            raise PlatformRefused(
                "[matrix] homeserver is not set: write its address, such as https://matrix.example.org"
            )
        return self.homeserver

    def trouble_beside(self, other: BaseModel, name: str) -> str:
        """See `glmbot.tokens`. An account has a token for each of its devices."""
        same = isinstance(other, MatrixSettings) and self.account and self.account == other.account
        return not_shared("account", name) if same else super().trouble_beside(other, name)

    def advice(self) -> Sequence[tuple[bool, str]]:
        """For `glmbot doctor`."""
        if self.homeserver.startswith("http://"):
            host = urlsplit(self.homeserver).hostname or ""
            if host not in ("localhost", "127.0.0.1", "::1"):
                return [(False, f"the token goes to {host} unencrypted: write https://")]
        return []
