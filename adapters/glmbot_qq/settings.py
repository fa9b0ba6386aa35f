"""The section [qq] of the configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

from pydantic import BaseModel, Field

from glmbot.delivery.settings import OnceSettings
from glmbot.tokens import TokenSettings, not_shared

__all__ = ["Place", "QQSettings"]

Place = Literal["groups", "guilds", "guild_messages", "guild_dms"]

# https://bot.q.qq.com/wiki/develop/api-v2/dev-prepare/interface-framework/api-use.html
_API = "https://api.bot.qq.com"
# https://bot.q.qq.com/wiki/develop/api-v2/dev-prepare/interface-framework/event-emit.html
_SANDBOX = "https://sandbox.api.sgroup.qq.com"
# There too: 目前回调地址允许配置的端口号为：80、443、8080、8443。
_PORTS = "80, 443, 8080 or 8443"


class QQSettings(TokenSettings, OnceSettings):
    """An official QQ bot of the Open Platform. Make it at https://q.qq.com; the token is its AppSecret."""

    words: ClassVar[Mapping[str, Mapping[str, str]]] = {
        "zh": {
            "_": "QQ 官方机器人（开放平台），在 https://q.qq.com 创建；token 就是 AppSecret。",
            "token": "AppSecret。最好写在环境变量 GLMBOT_QQ__TOKEN 里，或写进 token_file。",
            "token_file": "只含 AppSecret 的文件。",
            "proxy": "连接平台用的 HTTP 代理，例如 http://127.0.0.1:7890。"
            "不写：用环境变量 HTTPS_PROXY 里的（如果有）。",
            "answers": "paragraphs：写完的段落先发出，次数以 QQ 允许的回复次数为限；whole：写完后整个发出。",
            "app_id": "机器人的 AppID。",
            "events": "websocket：由机器人主动连接网关接收事件；webhook：由 QQ 把事件推送到 events_path。",
            "events_path": "events = webhook 时，[web] 服务器在这个路径上接收 QQ 的请求。",
            "places": "在哪里听人说话：groups（单聊和群）、guilds（频道里提及机器人的话）、"
            "guild_messages（频道里所有的话，只有私域机器人可以）、guild_dms（频道私信）。没有权限的写了会连不上。",
            "markdown": "平台给机器人开通了自定义 Markdown 时设为 true；否则变成纯文字。",
            "buttons": "平台给机器人开通了自定义按钮时设为 true；按钮需要 markdown，只在单聊和群里有。",
            "active_messages": "被动回复的次数或时间用完以后，剩下的作为主动消息发出；"
            "主动消息有配额，用户也可以关闭。",
            "sandbox": "连接沙箱环境：只有沙箱里配置的群、频道和用户能用。",
            "language": "机器人自己的提示用什么语言：QQ 不告诉我们每个人的语言。",
            "interval_s": "同一个聊天里两条消息之间隔多久；子频道每秒最多 5 条。",
            "requests_per_second": "所有聊天合计每秒最多写多少次；QQ 给每个接口的额度是 100。",
            "api_base_url": "不用 QQ 自己的接口地址时写在这里，供代理或测试用。",
            "token_base_url": "不用 QQ 自己的地址换取 access_token 时写在这里，供代理或测试用。",
        }
    }

    app_id: str = Field(default="", pattern=r"^[0-9]{0,20}$", description="The bot's AppID.")
    events: Literal["websocket", "webhook"] = Field(
        default="websocket",
        description="websocket: events come through a connection that the bot opens; webhook: QQ posts them to"
        " events_path.",
    )
    events_path: str = Field(
        default="/qq/events",
        pattern=r"^/[A-Za-z0-9/_.-]{1,200}$",
        description="Where the server of [web] takes QQ's requests, with events = webhook.",
    )
    places: list[Place] = Field(
        default=["groups", "guilds"],
        min_length=1,
        max_length=4,
        description="Where it listens: groups (and private chats), guilds (what mentions it in a guild's"
        " channels), guild_messages (all that is said there; private-domain bots only), guild_dms. With one that"
        " is not granted there is no connection.",
    )
    markdown: bool = Field(
        default=False, description="The bot has been granted Markdown of its own; else all is plain text."
    )
    buttons: bool = Field(
        default=False,
        description="The bot has been granted buttons of its own. They need markdown, and stand in groups and"
        " private chats.",
    )
    active_messages: bool = Field(
        default=True,
        description="What no longer fits the replies to a message, or comes too late for one, goes out as a"
        " message of the bot's own. Those have quotas, and people may close them.",
    )
    sandbox: bool = Field(
        default=False,
        description="Connect to the sandbox: for the groups, guilds and people named there alone.",
    )
    language: Literal["zh", "en"] = Field(
        default="zh", description="Of the bot's own lines: QQ does not tell anybody's language."
    )
    interval_s: float = Field(
        default=0.3,
        ge=0,
        le=3600,
        description="Seconds between messages in a chat; a guild's channel takes 5 a second.",
    )
    requests_per_second: float = Field(
        default=20, gt=0, le=1000, description="Writes in all chats together; QQ allows 100 of an interface."
    )
    api_base_url: str = Field(
        default="", description="Another address of the interfaces than QQ's own, for a proxy or a test."
    )
    token_base_url: str = Field(
        default=_API, description="Another address for the access token, for a proxy or a test."
    )

    @property
    def api(self) -> str:
        return self.api_base_url or (_SANDBOX if self.sandbox else _API)

    @property
    def posted(self) -> bool:
        """Whether QQ posts its events here."""
        return self.events == "webhook"

    def trouble_beside(self, other: BaseModel, name: str) -> str:
        """See `glmbot.tokens`."""
        same = isinstance(other, QQSettings) and self.app_id and self.app_id == other.app_id
        return not_shared("app_id", name) if same else super().trouble_beside(other, name)

    def advice(self) -> Sequence[tuple[bool, str]]:
        """For `glmbot doctor`."""
        if not self.app_id:
            return [(False, "app_id is not set: copy it from https://q.qq.com, under development settings")]
        said = [
            (
                True,
                "this machine's public address must be in the IP allow-list of the development settings at"
                " https://q.qq.com, and addresses of web pages that it may write are listed there, too",
            )
        ]
        if self.posted:
            said.append(
                (
                    True,
                    f"QQ posts to {self.events_path} of [web]: that address, with your https:// host before it at"
                    f" port {_PORTS}, is the callback address; choose the events there, too; this machine's clock"
                    " must be right to within five minutes",
                )
            )
        else:
            said.append(
                (
                    True,
                    f"events come through a connection; listening in {', '.join(self.places)}: take out of places"
                    " what the bot was not granted, else the gateway closes with 4014; QQ calls this way the older"
                    " one",
                )
            )
        if self.buttons and not self.markdown:
            said.append((False, "buttons need markdown = true: without it there are none"))
        if self.sandbox:
            said.append((True, "this is the sandbox: nobody else hears the bot"))
        return said
