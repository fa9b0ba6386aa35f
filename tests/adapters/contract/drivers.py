"""What the contract asks of a platform, over the fakes that stand for the real ones: people who speak and see."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import sys
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, ClassVar

import aiohttp
from pydantic import BaseModel
from rich.console import Console

from adapters import (
    dingtalk_bot,
    discord_bot,
    feishu_bot,
    matrix_bot,
    onebot_bot,
    qq_bot,
    satori_bot,
    slack_bot,
    telegram_bot,
    wecom_bot,
)
from adapters.contract.toy import ToyAdapter, ToyPlatform, ToySettings
from adapters.discord_bot import MENTION
from adapters.waiting import running
from conftest import make_dialogue
from glmbot.delivery.abilities import Ability, Profile
from glmbot.dialogue.access import Access
from glmbot.store.base import Store
from glmbot_console.adapter import ConsoleAdapter, ConsoleSettings
from glmbot_dingtalk.adapter import DingTalkAdapter
from glmbot_discord.adapter import DiscordAdapter
from glmbot_feishu.adapter import FeishuAdapter
from glmbot_matrix.adapter import MatrixAdapter
from glmbot_matrix.normalize import BUTTONS
from glmbot_onebot.adapter import OneBotAdapter
from glmbot_qq.adapter import QQAdapter
from glmbot_satori.adapter import SatoriAdapter
from glmbot_slack.adapter import SlackAdapter
from glmbot_telegram.adapter import TelegramAdapter
from glmbot_web.adapter import WebAdapter, WebSettings
from glmbot_wecom.adapter import WeComAdapter
from platforms import dingtalk_server, feishu_server, matrix_server, qq_server, slack_server, wecom_server
from platforms.dingtalk_server import DingTalkServer, staff
from platforms.discord_server import DiscordServer
from platforms.feishu_server import FeishuServer, chat_of
from platforms.matrix_server import MatrixServer, room_of
from platforms.onebot_server import SELF, OneBotServer
from platforms.qq_server import QQServer, openid
from platforms.satori_server import SELF as SATORI_SELF
from platforms.satori_server import SatoriServer
from platforms.satori_server import text as satori_text
from platforms.slack_server import SlackServer, channel_of
from platforms.telegram_server import TelegramServer
from platforms.wecom_server import WeComServer, member

__all__ = ["DRIVERS", "Driver"]

USER, GROUP = 7, -5
SECOND_TELEGRAM, SECOND_QQ = "telegram.second", "onebot.second"
SECOND_DISCORD, SECOND_SLACK = "discord.second", "slack.second"
_RHYTHM = re.compile(r"\w*interval_s|requests_per_\w+|flood_pause_s")
OPEN = Access(
    open_platforms={
        "telegram",
        "discord",
        "onebot",
        "satori",
        "slack",
        "feishu",
        "dingtalk",
        "matrix",
        "qq",
        "wecom",
        "toy",
        SECOND_TELEGRAM,
        SECOND_QQ,
        SECOND_DISCORD,
        SECOND_SLACK,
    }
)


class Driver(ABC):
    """One platform. `cannot`: what there is none of on it, with the reason; the contract says nothing of that there."""

    name: ClassVar[str]
    profile: ClassVar[Profile]
    cannot: ClassVar[dict[str, str]] = {}
    in_paragraphs: ClassVar[bool] = False
    """Whether an answer that can't be edited is seen before its end."""
    quick: ClassVar[Mapping[str, Any]] = {}
    """The platform's laws, made quicker for tests that are about something else."""
    strict: ClassVar[Mapping[str, Any]] = {}
    """The laws as they are, where the server of the tests does not begin with them."""
    settings: ClassVar[type[BaseModel] | None] = None
    lawful = False
    """Set it before `platform`: whether the platform's laws are as they are, and the bot in its usual rhythm."""
    server: Any = None

    @property
    def laws(self) -> dict[str, Any]:
        return {**(self.strict if self.lawful else self.quick)}

    @property
    def usual(self) -> dict[str, Any]:
        """What `bot` is given for its usual rhythm."""
        if self.settings is None:
            return {}
        fields = {name: each.default for name, each in self.settings.model_fields.items()}
        return {"settings": {name: fields[name] for name in fields if _RHYTHM.fullmatch(name)}}

    @property
    def impatience(self) -> Sequence[str]:
        """Who wrote again before a wait that the platform had named was over."""
        waits = getattr(self.server, "waits", None)
        return [] if waits is None else waits.broken

    @property
    def platform_name(self) -> str:
        """As keys have it."""
        return self.name.partition(",")[0]

    @asynccontextmanager
    async def platform(self) -> AsyncGenerator[None]:
        """The platform itself, which outlives bots."""
        yield

    @abstractmethod
    def bot(self, engine: Any, store: Store, **changes: Any) -> Any:
        """An asynchronous context with the running bot in it."""

    @abstractmethod
    async def say(self, text: str, user: int = USER) -> int:
        """In private. Returns a name of the message."""

    @abstractmethod
    def seen(self, user: int = USER) -> Sequence[str]:
        """The bot's messages that this person sees in private, in order."""

    async def die(self, bot: Any) -> None:
        """The process ends, and nothing is drained."""
        raise NotImplementedError

    def hold(self, seconds: float) -> None:
        """The platform takes nothing for this person."""
        raise NotImplementedError

    async def say_in_group(self, text: str, *, mention: bool, user: int = USER) -> None:
        raise NotImplementedError

    def seen_in_group(self) -> Sequence[str]:
        raise NotImplementedError

    async def say_with_picture(self, text: str) -> None:
        raise NotImplementedError

    async def edit(self, message: int, text: str) -> None:
        raise NotImplementedError

    async def delete(self, message: int) -> None:
        raise NotImplementedError

    async def press(self, command: str) -> None:
        """The button with this command, under the last message."""
        raise NotImplementedError

    def files(self) -> Sequence[str]:
        """The names of the files that came."""
        raise NotImplementedError


class _Named(Driver):
    """A bot with a name of its own, beside another of its platform."""

    def bot(self, engine: Any, store: Store, **changes: Any) -> Any:
        return super().bot(engine, store, **{"access": OPEN, "speaks_as": self.name, **changes})


class TelegramDriver(Driver):
    name = "telegram"
    profile = TelegramAdapter.profile
    settings = TelegramAdapter.Settings
    quick: ClassVar[Mapping[str, Any]] = {"seconds_per_message": 0.01}
    cannot: ClassVar[dict[str, str]] = {"deletions": "bots are not told of them"}

    @asynccontextmanager
    async def platform(self) -> AsyncGenerator[None]:
        self.server = TelegramServer(**self.laws)
        await self.server.start()
        yield
        await self.server.stop()
        assert self.server.violations == []

    def bot(self, engine: Any, store: Store, **changes: Any) -> Any:
        return telegram_bot.bot(self.server, engine, store, **changes)

    async def say(self, text: str, user: int = USER) -> int:
        return await self.server.say(text, user=user)

    def seen(self, user: int = USER) -> Sequence[str]:
        return self.server.texts(user)

    async def die(self, bot: TelegramAdapter) -> None:
        bot._running.end()  # pyright: ignore[reportPrivateUsage]
        await bot._deliveries.drain(0)  # pyright: ignore[reportPrivateUsage]

    def hold(self, seconds: float) -> None:
        self.server.hold(USER, seconds)

    async def say_in_group(self, text: str, *, mention: bool, user: int = USER) -> None:
        await self.server.say(f"@glm_test_bot {text}" if mention else text, user=user, chat=GROUP)

    def seen_in_group(self) -> Sequence[str]:
        return self.server.texts(GROUP)

    async def say_with_picture(self, text: str) -> None:
        await self.server.say(text, photo=True)

    async def edit(self, message: int, text: str) -> None:
        await self.server.edit(message, text)

    async def press(self, command: str) -> None:
        last = max(self.server.messages[USER])
        name = next(each for each in self.server.buttons(USER, last) if each.startswith(command))
        await self.server.press(last, name)

    def files(self) -> Sequence[str]:
        return [name for _, name, _ in self.server.documents]


class SecondTelegramDriver(_Named, TelegramDriver):
    name = SECOND_TELEGRAM


class DiscordDriver(Driver):
    name = "discord"
    profile = DiscordAdapter.profile
    settings = DiscordAdapter.Settings
    quick: ClassVar[Mapping[str, Any]] = {"window_s": 0.1}

    @asynccontextmanager
    async def platform(self) -> AsyncGenerator[None]:
        self.server = DiscordServer(**self.laws)
        await self.server.start()
        yield
        await self.server.stop()
        assert self.server.violations == []

    def bot(self, engine: Any, store: Store, **changes: Any) -> Any:
        return discord_bot.bot(self.server, engine, store, **changes)

    async def say(self, text: str, user: int = USER) -> int:
        return await self.server.say(text, user=user, direct=True)

    def seen(self, user: int = USER) -> Sequence[str]:
        return [text or "" for text in self.server.direct_texts(user)]

    async def die(self, bot: DiscordAdapter) -> None:
        await bot._deliveries.drain(0)  # pyright: ignore[reportPrivateUsage]

    def hold(self, seconds: float) -> None:
        self.server.hold(self.server.direct_channel(USER), seconds)

    async def say_in_group(self, text: str, *, mention: bool, user: int = USER) -> None:
        await self.server.say(f"{MENTION} {text}" if mention else text, user=user)

    def seen_in_group(self) -> Sequence[str]:
        return self.server.texts()

    async def say_with_picture(self, text: str) -> None:
        channel = self.server.direct_channel(USER)
        message = self.server.spoken(12345, channel, USER, text, direct=True)
        picture = {
            "id": "1",
            "filename": "a.png",
            "size": 9,
            "url": "http://x/a.png",
            "proxy_url": "http://x/a.png",
        }
        await self.server.dispatch("MESSAGE_CREATE", message | {"attachments": [picture]})

    async def edit(self, message: int, text: str) -> None:
        await self.server.edit(message, text)

    async def delete(self, message: int) -> None:
        await self.server.delete(message)

    async def press(self, command: str) -> None:
        channel = self.server.direct_channel(USER)
        last = max(self.server.messages[channel])
        name = next(each for each in self.server.buttons(last, channel) if each.startswith(command))
        await self.server.press(last, name, channel=channel, place="direct")

    def files(self) -> Sequence[str]:
        return [name for name, _ in self.server.files]


class SecondDiscordDriver(_Named, DiscordDriver):
    name = SECOND_DISCORD


class SlackDriver(Driver):
    name = "slack"
    thread = ""
    profile = SlackAdapter.profile
    settings = SlackAdapter.Settings
    quick: ClassVar[Mapping[str, Any]] = {"seconds_per_message": 0.01}

    @asynccontextmanager
    async def platform(self) -> AsyncGenerator[None]:
        self.server = SlackServer(**self.laws)
        await self.server.start()
        yield
        await self.server.stop()
        assert self.server.violations == []

    def bot(self, engine: Any, store: Store, **changes: Any) -> Any:
        return slack_bot.bot(self.server, engine, store, **changes)

    async def say(self, text: str, user: int = USER, **more: Any) -> int:
        return await self.server.say(text, user=user, channel=channel_of(user), thread=self.thread, **more)

    def seen(self, user: int = USER) -> Sequence[str]:
        return self.server.texts(channel_of(user))

    async def die(self, bot: SlackAdapter) -> None:
        bot._me = None  # pyright: ignore[reportPrivateUsage]
        await bot._deliveries.drain(0)  # pyright: ignore[reportPrivateUsage]

    def hold(self, seconds: float) -> None:
        self.server.hold(channel_of(USER), seconds)

    async def say_in_group(self, text: str, *, mention: bool, user: int = USER) -> None:
        await self.server.say(text, user=user, channel=slack_server.GROUP, mention=mention)

    def seen_in_group(self) -> Sequence[str]:
        return self.server.texts(slack_server.GROUP)

    async def say_with_picture(self, text: str) -> None:
        picture = {"id": "F1", "name": "a.png", "mimetype": "image/png", "url_private": "http://x/a.png"}
        await self.say(text, subtype="file_share", files=[picture])

    async def edit(self, message: int, text: str) -> None:
        await self.server.edit(message, text)

    async def delete(self, message: int) -> None:
        await self.server.delete(message)

    async def press(self, command: str) -> None:
        channel = channel_of(USER)
        await self.server.press(channel, max(self.server.messages[channel]), command)

    def files(self) -> Sequence[str]:
        return self.server.files


class SecondSlackDriver(_Named, SlackDriver):
    """In threads, where answers are streams."""

    name = SECOND_SLACK
    thread = "1700000000.000100"


class MatrixDriver(Driver):
    name = "matrix"
    profile = MatrixAdapter.profile

    @asynccontextmanager
    async def platform(self) -> AsyncGenerator[None]:
        self.server = MatrixServer(seconds_per_message=0.005)
        await self.server.start()
        yield
        await self.server.stop()
        assert self.server.violations == []

    def bot(self, engine: Any, store: Store, **changes: Any) -> Any:
        return matrix_bot.bot(self.server, engine, store, **changes)

    async def say(self, text: str, user: int = USER) -> Any:
        return await self.server.say(text, user=user)

    def seen(self, user: int = USER) -> Sequence[str]:
        return self.server.texts(room_of(user))

    async def die(self, bot: MatrixAdapter) -> None:
        bot._running.end()  # pyright: ignore[reportPrivateUsage]
        await bot._deliveries.drain(0)  # pyright: ignore[reportPrivateUsage]

    def hold(self, seconds: float) -> None:
        self.server.hold(room_of(USER), seconds)

    async def say_in_group(self, text: str, *, mention: bool, user: int = USER) -> None:
        for person in (USER, USER + 1):
            self.server.enter(matrix_server.GROUP, person)
        await self.server.say(text, user=user, room=matrix_server.GROUP, mention=mention)

    def seen_in_group(self) -> Sequence[str]:
        return self.server.texts(matrix_server.GROUP)

    async def say_with_picture(self, text: str) -> None:
        await self.server.say(text, msgtype="m.image", filename="a.png", url="mxc://test/a")

    async def edit(self, message: Any, text: str) -> None:
        await self.server.edit(message, text)

    async def delete(self, message: Any) -> None:
        await self.server.delete(message)

    async def press(self, command: str) -> None:
        event, content = self.server.shown(room_of(USER))[-1]
        keys: dict[str, str] = content[BUTTONS]["keys"]
        await self.server.press(event, next(key for key, each in keys.items() if each == command))

    def files(self) -> Sequence[str]:
        return [name for name, _ in self.server.uploads.values()]


class OneBotDriver(Driver):
    name = "onebot"
    profile = OneBotAdapter.profile
    settings = OneBotAdapter.Settings
    strict: ClassVar[Mapping[str, Any]] = {"seconds_per_message": 1.0, "burst": 20}
    in_paragraphs = True
    cannot: ClassVar[dict[str, str]] = {
        "edits": "what was said on QQ stays",
        "buttons": "QQ has none",
    }

    @asynccontextmanager
    async def platform(self) -> AsyncGenerator[None]:
        self.server = OneBotServer(**self.laws)
        await self.server.start()
        yield
        await self.server.stop()
        assert self.server.violations == []

    def bot(self, engine: Any, store: Store, **changes: Any) -> Any:
        return onebot_bot.bot(self.server, engine, store, **changes)

    async def say(self, text: str, user: int = USER) -> int:
        return await self.server.say(text, user=user)

    def seen(self, user: int = USER) -> Sequence[str]:
        return self.server.texts(str(user))

    async def die(self, bot: OneBotAdapter) -> None:
        await bot._deliveries.drain(0)  # pyright: ignore[reportPrivateUsage]

    def hold(self, seconds: float) -> None:
        self.server.hold(str(USER), seconds)

    async def say_in_group(self, text: str, *, mention: bool, user: int = USER) -> None:
        await self.server.say(text, user=user, group=onebot_bot.GROUP, at=[SELF] if mention else [])

    def seen_in_group(self) -> Sequence[str]:
        return self.server.texts(f"g{onebot_bot.GROUP}")

    async def say_with_picture(self, text: str) -> None:
        picture = {"type": "image", "data": {"file": "a.png", "url": "http://x/a.png"}}
        await self.server.say(text, parts=[picture])

    async def delete(self, message: int) -> None:
        await self.server.recall(message)

    def files(self) -> Sequence[str]:
        return [name for name, _ in self.server.files]


class SecondOneBotDriver(_Named, OneBotDriver):
    name = SECOND_QQ


class FeishuDriver(Driver):
    name = "feishu"
    profile = FeishuAdapter.profile
    settings = FeishuAdapter.Settings
    quick: ClassVar[Mapping[str, Any]] = {"messages_per_second": 1000}
    cannot: ClassVar[dict[str, str]] = {"edits": "bots are not told of them"}

    @asynccontextmanager
    async def platform(self) -> AsyncGenerator[None]:
        self.server = FeishuServer(**self.laws)
        await self.server.start()
        yield
        await self.server.stop()
        assert self.server.violations == []

    def bot(self, engine: Any, store: Store, **changes: Any) -> Any:
        return feishu_bot.bot(self.server, engine, store, **changes)

    async def say(self, text: str, user: int = USER) -> int:
        return await self.server.say(text, user=user)

    def seen(self, user: int = USER) -> Sequence[str]:
        return self.server.texts(chat_of(user))

    async def die(self, bot: FeishuAdapter) -> None:
        await bot._stop_receiving()  # pyright: ignore[reportPrivateUsage]
        await bot._deliveries.drain(0)  # pyright: ignore[reportPrivateUsage]

    def hold(self, seconds: float) -> None:
        self.server.hold(chat_of(USER), seconds)

    async def say_in_group(self, text: str, *, mention: bool, user: int = USER) -> None:
        await self.server.say(text, user=user, chat=feishu_server.GROUP, mention=mention)

    def seen_in_group(self) -> Sequence[str]:
        return self.server.texts(feishu_server.GROUP)

    async def say_with_picture(self, text: str) -> None:
        lines = [[{"tag": "text", "text": text}], [{"tag": "img", "image_key": "img_1"}]]
        await self.server.say("", kind="post", content={"title": "", "content": lines})

    async def delete(self, message: int) -> None:
        await self.server.recall(message)

    async def press(self, command: str) -> None:
        chat = chat_of(USER)
        await self.server.press(chat, max(self.server.messages[chat]), command)

    def files(self) -> Sequence[str]:
        return self.server.texts(chat_of(USER))


class DingTalkDriver(Driver):
    name = "dingtalk"
    profile = DingTalkAdapter.profile
    settings = DingTalkAdapter.Settings
    quick: ClassVar[Mapping[str, Any]] = {"requests_per_second": 1000}
    cannot: ClassVar[dict[str, str]] = {
        "deletions": "robots are not told of them",
        "edits": "robots are not told of them",
        "files": "DingTalk takes only some kinds from robots",
    }

    @asynccontextmanager
    async def platform(self) -> AsyncGenerator[None]:
        self.server = DingTalkServer(**self.laws)
        await self.server.start()
        yield
        await self.server.stop()
        assert self.server.violations == []

    def bot(self, engine: Any, store: Store, **changes: Any) -> Any:
        return dingtalk_bot.bot(self.server, engine, store, **changes)

    async def say(self, text: str, user: int = USER) -> int:
        return await self.server.say(text, user=user)

    def seen(self, user: int = USER) -> Sequence[str]:
        return self.server.texts(staff(user))

    async def die(self, bot: DingTalkAdapter) -> None:
        await bot._stop_receiving()  # pyright: ignore[reportPrivateUsage]
        await bot._deliveries.drain(0)  # pyright: ignore[reportPrivateUsage]

    def hold(self, seconds: float) -> None:
        self.server.hold(staff(USER), seconds)

    async def say_in_group(self, text: str, *, mention: bool, user: int = USER) -> None:
        # Nothing else in a group comes to a robot.
        if mention:
            await self.server.say(text, user=user, group=True)

    def seen_in_group(self) -> Sequence[str]:
        return self.server.texts(dingtalk_server.GROUP)

    async def say_with_picture(self, text: str) -> None:
        runs = [{"text": text}, {"type": "picture", "downloadCode": "d"}]
        await self.server.say("", msgtype="richText", content={"richText": runs})

    async def press(self, command: str) -> None:
        *_, last = self.server.cards
        await self.server.press(last, command)


class QQDriver(Driver):
    name = "qq"
    profile = QQAdapter.profile
    cannot: ClassVar[dict[str, str]] = {
        "buttons": "what was said on QQ stays, so nothing new stands in its place",
        "deletions": "bots are not told of them in private and in groups",
        "edits": "what was said on QQ stays",
    }

    @asynccontextmanager
    async def platform(self) -> AsyncGenerator[None]:
        self.server = QQServer()
        await self.server.start()
        yield
        await self.server.stop()
        assert self.server.violations == []

    def bot(self, engine: Any, store: Store, **changes: Any) -> Any:
        return qq_bot.bot(self.server, engine, store, settings={"answers": "whole"}, **changes)

    async def say(self, text: str, user: int = USER) -> int:
        await self.server.say(text, user=user)
        return 0

    def seen(self, user: int = USER) -> Sequence[str]:
        return self.server.texts(openid(user))

    async def die(self, bot: QQAdapter) -> None:
        await bot._stop_receiving()  # pyright: ignore[reportPrivateUsage]
        await bot._deliveries.drain(0)  # pyright: ignore[reportPrivateUsage]

    def hold(self, seconds: float) -> None:
        self.server.hold(openid(USER), seconds)

    async def say_in_group(self, text: str, *, mention: bool, user: int = USER) -> None:
        kind = "GROUP_AT_MESSAGE_CREATE" if mention else "GROUP_MESSAGE_CREATE"
        await self.server.say(text, user=user, scene="groups", kind=kind)

    def seen_in_group(self) -> Sequence[str]:
        return self.server.texts(qq_server.GROUP)

    async def say_with_picture(self, text: str) -> None:
        picture = {"content_type": "image/png", "filename": "a.png", "url": "http://x/a.png"}
        await self.server.say(text, attachments=[picture])

    def files(self) -> Sequence[str]:
        return self.server.files


class WeComDriver(Driver):
    """A smart bot."""

    name = "wecom"
    profile = WeComAdapter.profile
    cannot: ClassVar[dict[str, str]] = {
        "deletions": "bots are not told of them",
        "edits": "bots are not told of them",
        "buttons": "a card of buttons would be a message of its own under each answer",
    }

    @asynccontextmanager
    async def platform(self) -> AsyncGenerator[None]:
        self.server = WeComServer(per_minute=10_000)
        await self.server.start()
        yield
        await self.server.stop()
        assert self.server.violations == []

    def bot(self, engine: Any, store: Store, **changes: Any) -> Any:
        return wecom_bot.bot(self.server, engine, store, **changes)

    async def say(self, text: str, user: int = USER) -> int:
        return await self.server.say(text, user=user)

    def seen(self, user: int = USER) -> Sequence[str]:
        return self.server.texts(member(user))

    async def die(self, bot: WeComAdapter) -> None:
        await bot._deliveries.drain(0)  # pyright: ignore[reportPrivateUsage]
        await bot._close()  # pyright: ignore[reportPrivateUsage]

    def hold(self, seconds: float) -> None:
        self.server.hold(member(USER), seconds)

    async def say_in_group(self, text: str, *, mention: bool, user: int = USER) -> None:
        # Nothing else in a group comes to a bot.
        if mention:
            await self.server.say(text, user=user, group=True)

    def seen_in_group(self) -> Sequence[str]:
        return self.server.texts(wecom_server.GROUP)

    async def say_with_picture(self, text: str) -> None:
        parts = [
            {"msgtype": "text", "text": {"content": text}},
            {"msgtype": "image", "image": {"url": "http://x"}},
        ]
        await self.server.say("", msgtype="mixed", mixed={"msg_item": parts})

    def files(self) -> Sequence[str]:
        return [name for name, _ in self.server.files]


class WeComAppDriver(WeComDriver):
    """An application, whose messages are posted; what it says stays as it is."""

    name = "wecom, application"
    profile = Profile(frozenset({Ability.FILE}), longest=2048)
    in_paragraphs = True
    cannot: ClassVar[dict[str, str]] = {
        **WeComDriver.cannot,
        "groups": "applications are in none",
        "media": "a picture has no words beside it",
    }

    def bot(self, engine: Any, store: Store, **changes: Any) -> Any:
        return wecom_bot.application(self.server, engine, store, **changes)

    async def say(self, text: str, user: int = USER) -> int:
        return await self.server.write(text, user=user)


class SatoriDriver(Driver):
    name = "satori"
    profile = SatoriAdapter.profile
    settings = SatoriAdapter.Settings
    strict: ClassVar[Mapping[str, Any]] = {"seconds_per_message": 1.0, "burst": 5}
    cannot: ClassVar[dict[str, str]] = {"buttons": "its platforms have none in common"}

    @asynccontextmanager
    async def platform(self) -> AsyncGenerator[None]:
        self.server = SatoriServer(**self.laws)
        self.names: list[str] = []
        await self.server.start()
        yield
        await self.server.stop()
        assert self.server.violations == []

    def bot(self, engine: Any, store: Store, **changes: Any) -> Any:
        return satori_bot.bot(self.server, engine, store, **changes)

    async def say(self, text: str, user: int = USER) -> int:
        self.names.append(await self.server.say(satori_text(text), user=str(user)))
        return len(self.names) - 1

    def seen(self, user: int = USER) -> Sequence[str]:
        return self.server.texts(f"private-{user}")

    async def die(self, bot: SatoriAdapter) -> None:
        await bot._deliveries.drain(0)  # pyright: ignore[reportPrivateUsage]

    def hold(self, seconds: float) -> None:
        self.server.hold(f"private-{USER}", seconds)

    async def say_in_group(self, text: str, *, mention: bool, user: int = USER) -> None:
        at = f'<at id="{SATORI_SELF}" name="glm"/> ' if mention else ""
        await self.server.say(at + satori_text(text), user=str(user), channel=satori_bot.CHANNEL)

    def seen_in_group(self) -> Sequence[str]:
        return self.server.texts(satori_bot.CHANNEL)

    async def say_with_picture(self, text: str) -> None:
        await self.server.say(f'{satori_text(text)}<img src="http://x/a.png"/>')

    async def edit(self, message: int, text: str) -> None:
        await self.server.edit(self.names[message], satori_text(text))

    async def delete(self, message: int) -> None:
        await self.server.delete(self.names[message])

    def files(self) -> Sequence[str]:
        return [name for name, _ in self.server.files]


class PageDriver(Driver):
    """A browser for each person: it reads the events of each answer, and shows the last one."""

    name = "web"
    profile = WebAdapter.profile
    cannot: ClassVar[dict[str, str]] = {
        "floods": "the server is ours",
        "groups": "a page has one reader",
        "media": "the page sends text",
        "strangers": "who may open the page may ask",
        "deletions": "there is no button for it",
    }

    @asynccontextmanager
    async def platform(self) -> AsyncGenerator[None]:
        self.url = ""
        self.number = 0
        self.answers: dict[int, dict[str, str]] = {}
        self.refs: list[str] = []
        self.browsers: dict[int, aiohttp.ClientSession] = {}
        self.reading: set[asyncio.Task[None]] = set()
        yield
        for task in self.reading:
            task.cancel()
        await asyncio.gather(*self.reading, return_exceptions=True)
        for browser in self.browsers.values():
            await browser.close()

    @asynccontextmanager
    async def bot(self, engine: Any, store: Store, **changes: Any) -> AsyncGenerator[WebAdapter]:
        adapter = WebAdapter(WebSettings(port=0), make_dialogue(engine, store, **changes))
        async with running(adapter):
            self.url = adapter.url
            yield adapter

    async def say(self, text: str, user: int = USER) -> int:
        await self._post(user, {"text": text})
        return len(self.refs) - 1

    async def edit(self, message: int, text: str) -> None:
        await self._post(USER, {"text": text, "edits": self.refs[message]})

    async def press(self, command: str) -> None:
        await self._post(USER, {"text": f"/{command}", "answers": self.refs[-1]})

    def seen(self, user: int = USER) -> Sequence[str]:
        return list(self.answers.get(user, {}).values())

    async def die(self, bot: WebAdapter) -> None:
        await bot._streams.drain(0)  # pyright: ignore[reportPrivateUsage]

    def files(self) -> Sequence[str]:
        return [each for texts in self.answers.values() for each in texts.values()]

    async def _post(self, user: int, wish: dict[str, str]) -> None:
        if user not in self.browsers:
            self.browsers[user] = aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True))
            await self.browsers[user].get(self.url)
        self.number += 1
        ref = f"message-{self.number}"
        body: dict[str, Any] = {"id": ref, "conversation": 1, **wish}
        # What is written in an answer's place is shown there.
        place = wish.get("edits") or wish.get("answers") or ref
        if place == ref:
            self.refs.append(ref)
        async with self.browsers[user].post(f"{self.url}/api/messages?language=en", json=body) as response:
            stream = (await response.json())["stream"]
        task = asyncio.create_task(self._read(user, stream, place))
        self.reading.add(task)

    async def _read(self, user: int, stream: str, place: str) -> None:
        shown = self.answers.setdefault(user, {})
        shown.setdefault(place, "")
        while True:
            text = ""
            with suppress(aiohttp.ClientError, OSError):
                async with self.browsers[user].get(f"{self.url}/api/streams/{stream}") as response:
                    async for line in response.content:
                        if line.startswith(b"data: ") and line.strip() != b"data: {}":
                            event = json.loads(line[6:])
                            # What is added stands behind what a connection has said already.
                            text = text[: event["at"]] + event["text"]
                            file = event.get("attachment") or {}
                            shown[place] = "\n".join(
                                filter(None, (text, event.get("notice", ""), str(file.get("name", ""))))
                            )
                            if event["state"] in ("final", "stopped", "failed"):
                                return
            await asyncio.sleep(0.02)


class ConsoleDriver(Driver):
    """A terminal, or a pipe: what is typed, and what is printed."""

    name = "console"
    profile = ConsoleAdapter.profile
    cannot: ClassVar[dict[str, str]] = {
        "floods": "nobody limits a terminal",
        "groups": "a terminal has one reader",
        "media": "what is typed is text",
        "buttons": "it has none",
        "strangers": "who has the terminal runs the bot",
        "deletions": "what is printed stays",
        "edits": "what was typed stays",
        "restarts": "what was asked in a terminal that is gone has no reader",
        "people": "a terminal has one reader",
    }

    @asynccontextmanager
    async def platform(self) -> AsyncGenerator[None]:
        self.out = io.StringIO()
        yield

    @asynccontextmanager
    async def bot(self, engine: Any, store: Store, **changes: Any) -> AsyncGenerator[ConsoleAdapter]:
        adapter = ConsoleAdapter(ConsoleSettings(), make_dialogue(engine, store, **changes))
        adapter._out = Console(file=self.out, width=10_000)  # pyright: ignore[reportPrivateUsage]
        with _typed() as self.keys:
            async with running(adapter):
                yield adapter

    async def say(self, text: str, user: int = USER) -> int:
        os.write(self.keys, f"{text}\n".encode())
        return 0

    def seen(self, user: int = USER) -> Sequence[str]:
        return [line for line in self.out.getvalue().splitlines() if line.strip()]

    def files(self) -> Sequence[str]:
        return [line.rpartition("/")[2] for line in self.seen() if line.startswith("→")]


@contextmanager
def _typed() -> Any:
    """Standard input is a pipe; its other end."""
    reading, writing = os.pipe()
    before = sys.stdin
    sys.stdin = os.fdopen(reading)
    try:
        yield writing
    finally:
        os.close(writing)
        sys.stdin = before


class ToyDriver(Driver):
    name = "toy"
    profile = ToyAdapter.profile
    cannot: ClassVar[dict[str, str]] = {
        "groups": "it has none",
        "media": "what is said is text",
        "deletions": "it tells nothing of them",
        "edits": "what was said stays",
        "buttons": "it has none",
        "files": "it has none",
    }
    whole = False
    in_paragraphs = True

    @asynccontextmanager
    async def platform(self) -> AsyncGenerator[None]:
        self.server = ToyAdapter.platform = ToyPlatform()
        yield

    @asynccontextmanager
    async def bot(self, engine: Any, store: Store, **changes: Any) -> AsyncGenerator[ToyAdapter]:
        access = changes.pop("access", OPEN)
        dialogue = make_dialogue(engine, store, access=access, **changes)
        adapter = ToyAdapter(ToySettings(answers="whole" if self.whole else "paragraphs"), dialogue)
        async with running(adapter):
            yield adapter

    async def say(self, text: str, user: int = USER) -> int:
        return self.server.say(user, text)

    def seen(self, user: int = USER) -> Sequence[str]:
        return ["\n".join(filter(None, (piece.text, piece.notice))) for piece in self.server.shown[user]]

    async def die(self, bot: ToyAdapter) -> None:
        await bot.end(0)

    def hold(self, seconds: float) -> None:
        self.server.hold(USER, seconds)


class WholeToyDriver(ToyDriver):
    """The same platform, where an answer comes at its end."""

    name = "toy, whole"
    whole = True
    in_paragraphs = False


DRIVERS: Sequence[type[Driver]] = (
    TelegramDriver, DiscordDriver, OneBotDriver, SatoriDriver, SlackDriver, FeishuDriver, DingTalkDriver, MatrixDriver,
    QQDriver, WeComDriver, WeComAppDriver, PageDriver, ConsoleDriver, ToyDriver, WholeToyDriver,
    SecondTelegramDriver, SecondOneBotDriver, SecondDiscordDriver, SecondSlackDriver,
)  # fmt: skip
