"""People on a platform: they talk to the bot, and what they see of it is counted, on every platform in one way."""

from __future__ import annotations

import asyncio
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from glmbot import i18n
from glmbot.keys import ConversationKey
from glmbot.store.base import Store
from platforms import slack_server
from platforms.onebot_server import SELF, OneBotServer
from platforms.onebot_server import TOKEN as ONEBOT_TOKEN
from platforms.slack_server import SlackServer, channel_of, user_id
from platforms.telegram_server import TOKEN, TelegramServer

__all__ = ["LINES", "SECRETS", "Line", "OneBotPeople", "People", "SlackPeople", "TelegramPeople", "asked_in"]

# Of all platforms, in the environment of the bot.
SECRETS = {"GLMBOT_TELEGRAM__TOKEN": TOKEN}
_EXPORT = "glmbot-export.json"
_COMMANDS = ("You are {platform}:", "kept of you")
_NOTICES = re.compile(r"The answer reached its limit of \d+ tokens\. /continue goes on\.")
_REPEATED = i18n.text("en", "answer.maybe_repeated")
_ANEW = i18n.text("en", "answer.begun_anew")
_LOOKS_EVERY_S = 0.02
# A message of Slack's, under which people write.
_THREAD = "1700000000.000100"


@dataclass(frozen=True, slots=True)
class Line:
    """What somebody says, in private or in the group."""

    user: int
    text: str
    in_group: bool = False

    @property
    def is_command(self) -> bool:
        return self.text.startswith("/")


LINES = (
    Line(7, "the first question"),
    Line(7, "the second question"),
    Line(8, "/export"),
    Line(9, "a question in a group", in_group=True),
    Line(8, "a question of another person"),
    Line(7, "/whoami"),
)


class People(ABC):
    """`points`: the requests before and after which the bot is killed, and at which of them. `takes_once`: whether
    what is sent again is seen once; else the bot says that it may stand there twice."""

    platform: ClassVar[str]
    points: ClassVar[Mapping[str, Sequence[int]]]
    takes_once: ClassVar[bool] = True
    tells_again: ClassVar[bool] = True
    """Whether the platform tells again what the bot has not taken; else people say it again."""
    server: Any

    async def start(self) -> None:
        await self.server.start()

    async def stop(self) -> None:
        await self.server.stop()

    @abstractmethod
    def section(self) -> str:
        """Its part of the configuration."""

    @abstractmethod
    def key(self, line: Line) -> ConversationKey: ...

    @abstractmethod
    async def say(self, line: Line) -> None: ...

    @abstractmethod
    def texts(self, chat: str) -> Sequence[str]:
        """What the bot's messages in a chat say now, in order; what says nothing yet is left out."""

    @property
    @abstractmethod
    def files(self) -> int:
        """That have come."""

    @property
    @abstractmethod
    def untaken(self) -> int:
        """What the bot has not taken yet."""

    @property
    @abstractmethod
    def empty(self) -> int:
        """Messages that say nothing but "…"."""

    @property
    def violations(self) -> Sequence[str]:
        return self.server.violations

    @property
    def troubles(self) -> Mapping[str, Callable[[], Awaitable[None]]]:
        """What can happen on this platform in the middle of an answer, by name."""
        return {}

    def seen(self, chat: str) -> tuple[list[str], list[str], int]:
        """The words of answers, and those of commands; and how often something was said to be there perhaps twice.
        Of what is there twice, one is left out where that is said, and what no longer counts where the bot said so."""
        answers: list[str] = []
        commands: list[str] = []
        repeats, before, anew = 0, "", False
        marks = [mark.format(platform=self.platform) for mark in _COMMANDS]
        for text in self.texts(chat):
            anew = anew or _ANEW in text
            words = _NOTICES.sub("", text.replace(_REPEATED, "").replace(_ANEW, ""))
            told = not self.takes_once and _REPEATED in text
            repeats += told
            # What a command counts may be more the second time.
            same = words.strip() == before or any(mark in words and mark in before for mark in marks)
            if words.strip() and not (told and same):
                kept = commands if any(mark in words for mark in marks) else answers
                if anew and kept:
                    kept.pop()
                    repeats += 1
                anew = False
                kept.append(words)
            before = words.strip()
        return answers, commands, repeats

    async def unknown(self, store: Store, lines: Sequence[Line]) -> list[Line]:
        """Those of `lines` that the bot has not taken, where nobody tells it again."""
        waiting = await store.unfinished(self.platform)
        missing: list[Line] = []
        for line in lines:
            key = self.key(line)
            known = any(
                line.text in each.message.text for each in waiting if each.message.conversation == key
            )
            if line.is_command:
                mark = _COMMANDS[0 if line.text == "/whoami" else 1].format(platform=self.platform)
                known = known or any(mark in text for text in self.texts(key.chat))
            else:
                known = known or any(turn.question == line.text for turn in await store.last_turns(key, 100))
            if not known:
                missing.append(line)
        return missing


def asked_in(people: People, lines: Sequence[Line]) -> dict[ConversationKey, list[str]]:
    """The questions of each conversation, in order."""
    asked: dict[ConversationKey, list[str]] = {}
    for line in lines:
        asked.setdefault(people.key(line), []).extend([] if line.is_command else [line.text])
    return asked


class TelegramPeople(People):
    platform = "telegram"
    points: ClassVar[Mapping[str, Sequence[int]]] = {
        "getUpdates": (1, 2), "sendMessage": (1, 2, 3, 4), "editMessageText": (1, 2, 4, 7),
        "editMessageMedia": (1,), "sendChatAction": (1,),
    }  # fmt: skip
    _GROUP = -5

    def __init__(self, server: TelegramServer | None = None) -> None:
        self.server: TelegramServer = server or TelegramServer(seconds_per_message=0.01, burst=8)

    def section(self) -> str:
        return (
            f"[telegram]\napi_base_url = '{self.server.url}'\nedit_interval_s = 0.03\n"
            "group_edit_interval_s = 0.03\npoll_timeout_s = 2\n"
        )

    def key(self, line: Line) -> ConversationKey:
        if line.in_group:
            return ConversationKey("telegram", str(self._GROUP), str(line.user))
        return ConversationKey("telegram", str(line.user))

    async def say(self, line: Line) -> None:
        if line.in_group:
            await self.server.say(f"@glm_test_bot {line.text}", user=line.user, chat=self._GROUP)
        else:
            await self.server.say(line.text, user=line.user)

    def texts(self, chat: str) -> Sequence[str]:
        return self.server.texts(int(chat))

    @property
    def files(self) -> int:
        return len(self.server.documents)

    @property
    def untaken(self) -> int:
        return self.server.unconfirmed

    @property
    def empty(self) -> int:
        return sum(
            message.get("text") == "…" for chat in self.server.messages.values() for message in chat.values()
        )


class SlackPeople(People):
    """A platform that edits, and in threads streams: directly people write in one, in the channel in none."""

    platform = "slack"
    points: ClassVar[Mapping[str, Sequence[int]]] = {
        "chat.postMessage": (1, 3),
        "chat.update": (1, 4, 7),
        "chat.startStream": (1, 2),
        "chat.appendStream": (1, 2, 4),
        "chat.stopStream": (1, 2),
    }

    def __init__(self) -> None:
        self.server = SlackServer(seconds_per_message=0.01, burst=8)

    def section(self) -> str:
        return (
            f"[slack]\ntoken = '{slack_server.TOKEN}'\napp_token = '{slack_server.APP_TOKEN}'\nthreads = false\n"
            f"api_base_url = '{self.server.url}/api/'\nedit_interval_s = 0.03\nrequests_per_minute = 60000\n"
        )

    def key(self, line: Line) -> ConversationKey:
        if line.in_group:
            return ConversationKey("slack", slack_server.GROUP, user_id(line.user))
        return ConversationKey("slack", channel_of(line.user), "", _THREAD)

    async def say(self, line: Line) -> None:
        if line.in_group:
            await self.server.say(line.text, user=line.user, channel=slack_server.GROUP, mention=True)
        else:
            await self.server.say(line.text, user=line.user, channel=channel_of(line.user), thread=_THREAD)

    def texts(self, chat: str) -> Sequence[str]:
        # Beside a file stands its name.
        return [text for text in self.server.texts(chat) if text != _EXPORT]

    @property
    def files(self) -> int:
        return len(self.server.files)

    @property
    def untaken(self) -> int:
        return self.server.unacknowledged

    @property
    def empty(self) -> int:
        return sum(
            message["text"] in ("…", "\u200b") and not message["blocks"]
            for of in self.server.messages.values()
            for message in of.values()
        )

    @property
    def troubles(self) -> Mapping[str, Callable[[], Awaitable[None]]]:
        async def out_of_order() -> None:
            self.server.out_of_order_until = time.monotonic() + 3

        return {
            "the connection ends": self.server.disconnect,
            "everything is told again": self.server.tell_again,
            "the Web API is out of order": out_of_order,
        }


class OneBotPeople(People):
    """A platform where nothing that was sent can be changed, and nothing is told twice."""

    platform = "onebot"
    points: ClassVar[Mapping[str, Sequence[int]]] = {"send_private_msg": (1, 2, 4), "send_group_msg": (1, 2)}
    takes_once = False
    tells_again = False
    _GROUP = 5

    def __init__(self) -> None:
        self.server = OneBotServer(seconds_per_message=0.01, burst=30)

    def section(self) -> str:
        return (
            f"[onebot]\ntoken = '{ONEBOT_TOKEN}'\nurl = '{self.server.url}'\nlisten_port = 0\nlanguage = 'en'\n"
            "interval_s = 0.03\ngroup_interval_s = 0.03\nflood_pause_s = 0.3\n"
        )

    def key(self, line: Line) -> ConversationKey:
        if line.in_group:
            return ConversationKey("onebot", f"g{self._GROUP}", str(line.user))
        return ConversationKey("onebot", str(line.user))

    async def say(self, line: Line) -> None:
        """Once there is somebody to hear it."""
        while not self.server.connections:  # noqa: ASYNC110
            await asyncio.sleep(_LOOKS_EVERY_S)
        group, at = (self._GROUP, [SELF]) if line.in_group else (None, [])
        await self.server.say(line.text, user=line.user, group=group, at=at)

    def texts(self, chat: str) -> Sequence[str]:
        return self.server.texts(chat)

    @property
    def files(self) -> int:
        return len(self.server.files)

    @property
    def untaken(self) -> int:
        return 0

    @property
    def empty(self) -> int:
        return sum(text == "…" for chat in self.server.messages for text in self.server.texts(chat))

    @property
    def troubles(self) -> Mapping[str, Callable[[], Awaitable[None]]]:
        async def told_again() -> None:
            for event in list(self.server.said.values()):
                await self.server.tell(event)

        async def silent_for_a_while() -> None:
            """Sends are done, and never answered."""
            self.server.mute_actions |= {"send_private_msg", "send_group_msg"}
            await asyncio.sleep(0.5)
            self.server.mute_actions.clear()
            await self.server.drop()

        return {
            "the connection ends": self.server.drop,
            "everything is told again": told_again,
            "sends are answered by nobody, and the connection ends": silent_for_a_while,
        }
